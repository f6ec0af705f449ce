"""Every family of vlrl/families/known.py beside transformers, at tiny size."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
from families import checks
from families.newest import NEWEST
from families.others import OTHERS
from families.tiny import Row, make
from families.trained import TRAINED
from transformers import AutoConfig

from vlrl.errors import ConfigError
from vlrl.families.config import config_of
from vlrl.families.known import FAMILIES, family_of
from vlrl.judge.local import LocalJudge
from vlrl.judge.question import JudgeTemplate

ROWS: dict[str, Row] = {**TRAINED, **OTHERS, **NEWEST}
QWEN = {"qwen2_vl", "qwen2_5_vl", "qwen3_vl"}
"""Their tests are tests/test_policy.py and others."""
NEEDS_DATA = {"glm5_next"}
"""Their passes have shapes that depend on data: `--plan` says that there is no plan."""
KINDS = [
    pytest.param(kind, marks=() if kind in TRAINED else pytest.mark.slow)
    for kind in ROWS
    if kind in FAMILIES
]

# transformers' own processors copy arrays in a way that numpy will drop.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Checkpoints that were made so far."""
    return {"": tmp_path_factory.mktemp("families")}


def folder_of(kind: str, folders: dict[str, Path]) -> Path:
    if kind not in folders:
        folders[kind] = make(kind, ROWS[kind], folders[""] / kind)
    return folders[kind]


def test_every_family_has_a_row_here() -> None:
    assert set(FAMILIES) - QWEN <= set(ROWS)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_answers_equal_generate(kind: str, folders: dict[str, Path]) -> None:
    checks.greedy_equals_generate(folder_of(kind, folders))


@pytest.mark.parametrize("kind", KINDS)
def test_log_probs_equal_a_plain_forward(kind: str, folders: dict[str, Path]) -> None:
    checks.log_probs_equal_forward(folder_of(kind, folders))


@pytest.mark.parametrize("kind", KINDS)
def test_packed_rows_equal_plain_ones_or_are_refused(kind: str, folders: dict[str, Path]) -> None:
    checks.packed_equals_plain(folder_of(kind, folders))


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_and_freezing_mean_the_language_model(kind: str, folders: dict[str, Path]) -> None:
    checks.adapters_sit_in_the_language_model(folder_of(kind, folders))


@pytest.mark.parametrize("kind", KINDS)
def test_exports_load_with_transformers(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    checks.export_equals_policy(folder_of(kind, folders), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_are_loaded_again_and_merged(
    kind: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    checks.adapter_is_read_again(folder_of(kind, folders), tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_texts_hold_no_control_tokens(kind: str, folders: dict[str, Path]) -> None:
    checks.texts_hold_no_control_tokens(folder_of(kind, folders))


@pytest.mark.parametrize("kind", KINDS)
def test_a_plan_takes_every_family(kind: str, folders: dict[str, Path]) -> None:
    folder = folder_of(kind, folders)
    if kind in NEEDS_DATA:
        with pytest.raises(NotImplementedError):
            checks.a_plan_takes_it(folder)
    else:
        checks.a_plan_takes_it(folder)


@pytest.mark.parametrize("kind", [kind for kind in ROWS if FAMILIES[kind].reads_videos])
def test_videos_are_read_as_transformers_reads_them(kind: str, folders: dict[str, Path]) -> None:
    checks.videos_equal_forward(folder_of(kind, folders))


def test_an_unknown_type_names_the_nearest_and_the_page() -> None:
    config = AutoConfig.for_model("bert")
    config.model_type = "gemma33"
    with pytest.raises(ConfigError, match=r"did you mean 'gemma3'.*docs/families\.md"):
        family_of(config)


def test_windows_and_recurrent_states_are_not_packed() -> None:
    """Reading the config is enough: the family may be packable and the checkpoint not."""
    config = transformers.Mistral3Config(text_config={"model_type": "mistral"})
    config.text_config.sliding_window = 4096
    assert "sliding window of 4096" in str(FAMILIES["mistral3"].why_not_packed(config))
    config.text_config.sliding_window = None
    assert FAMILIES["mistral3"].why_not_packed(config) is None
    config.text_config.layer_types = ["full_attention", "sliding_attention"]
    assert "sliding_attention" in str(FAMILIES["mistral3"].why_not_packed(config))
    config.text_config.layer_types = ["full_attention", "linear_attention"]
    assert "linear_attention" in str(FAMILIES["mistral3"].why_not_packed(config))


def test_a_type_that_transformers_lacks_names_the_nearest_and_the_page(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "gemma33"}')
    with pytest.raises(ConfigError, match=r"did you mean 'gemma3'.*docs/families\.md"):
        config_of(str(tmp_path))
    with pytest.raises(ConfigError, match=r"did you mean 'gemma3'.*docs/families\.md"):
        checks.policy_of(tmp_path)
    with pytest.raises(ConfigError, match=r"did you mean 'gemma3'.*docs/families\.md"):
        judge_of(tmp_path)


def judge_of(folder: Path) -> object:
    """As a reward that asks a model loads it."""
    return LocalJudge.load(str(folder), JudgeTemplate(), device="cpu")
