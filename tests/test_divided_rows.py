"""Rows that ranks share: who holds what, attention over slices, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import FAMILIES
from helpers_divided import LENGTH, features_in_threads, in_threads, layout, on_ranks, whole
from helpers_runs import ROOT
from hypothesis import given
from hypothesis import strategies as st
from test_plan import PLAN
from test_policy import make_policy, problems
from test_video_policy import video_problem
from transformers import Qwen2_5_VLConfig, Qwen3_5Config

from vlrl.build import read_parts
from vlrl.config.resolve import check, load_run_config
from vlrl.distributed.comm import World
from vlrl.distributed.sequence import with_sequences
from vlrl.errors import ConfigError
from vlrl.families.encoded import EncodedPrompt, join_media
from vlrl.judge.train.config import JudgeTrainConfig
from vlrl.plan.measure import training_cost
from vlrl.plan.plan import plan_run, planned_run
from vlrl.policy.planned import ShapesOnly
from vlrl.policy.token_trajectory import TokenTrajectory
from vlrl.policy.vision_language.packed.frames import shares
from vlrl.policy.vision_language.packed.slices import SlicedGroups, check_heads
from vlrl.train.passes import _alone, _by_group


def slices(size: int, predictor: torch.Tensor) -> list[SlicedGroups]:
    found = []
    for rank in range(size):
        group = ShapesOnly(size)
        group.rank = rank
        found.append(SlicedGroups.of(layout(predictor), group))
    return found


@pytest.mark.parametrize("size", [2, 3, 4, 40])
def test_every_column_and_action_is_held_once(size: int) -> None:
    predictor = torch.tensor([8, 9, 30, 0, 8, 15])
    plans = slices(size, predictor)
    columns = torch.arange(1, LENGTH + 1)[None]
    held = torch.cat([plan.own(columns, 1) for plan in plans], 1)[0]
    assert held[:LENGTH].tolist() == columns[0].tolist()
    assert not held[LENGTH:].any()  # filled up
    assert {plan.num_columns for plan in plans} == {-(-LENGTH // size)}
    actions = torch.cat([plan.actions for plan in plans])
    assert sorted(actions.tolist()) == list(range(len(predictor)))
    for plan in plans:
        own = predictor[plan.actions] - plan.start
        assert bool(((own >= 0) & (own < plan.num_columns)).all())


HEADS = [(2, 4, 2), (2, 4, 1), (4, 8, 2), (3, 6, 1)]
"""Ranks, heads, key heads; with fewer key heads than ranks a head serves several."""


@pytest.mark.parametrize(("num", "heads", "key_heads"), HEADS)
def test_attention_over_slices_is_that_of_the_whole_row(
    num: int, heads: int, key_heads: int
) -> None:
    assert_same(in_threads(num, heads, key_heads), whole(heads, key_heads))


@pytest.mark.slow
def test_attention_over_slices_on_four_ranks(tmp_path: Path) -> None:
    assert_same(on_ranks(tmp_path, 4, 8, 2), whole(8, 2))


def assert_same(found: list[torch.Tensor], wanted: list[torch.Tensor]) -> None:
    for name, ours, plain in zip(("out", "query", "key", "value"), found, wanted, strict=True):
        assert torch.allclose(ours, plain, atol=1e-6), name


sizes = st.tuples(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5))


@given(st.lists(sizes, min_size=1, max_size=5), st.integers(1, 6))
def test_frames_are_divided_whole_in_order_and_evenly(
    grid: list[tuple[int, int, int]], num: int
) -> None:
    parts = shares(grid, num)
    frames = [(h, w) for t, h, w in grid for _ in range(t)]
    assert [(h, w) for part in parts for t, h, w in part.grid for _ in range(t)] == frames
    end, total = 0, sum(h * w for h, w in frames)
    for part in parts:
        size = sum(t * h * w for t, h, w in part.grid)
        assert part.stop - part.start == size
        if size:
            assert part.start == end
            end = part.stop
        assert size <= total / num + max(h * w for h, w in frames)
    assert end == total


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tower_over_divided_frames_gives_the_same_features(
    family: str, checkpoints: dict[str, Path], screens: Path
) -> None:
    """A video of four frames and two screens, on three ranks."""
    policy = make_policy(checkpoints[family])
    samples = [video_problem(0), *problems(screens, 2)]
    prompts = [policy.encoder.encode(sample) for sample in samples]
    media = join_media([prompt.media for prompt in prompts])
    assert media is not None
    assert len(media["grid_thw"]) == 3
    core = policy.module.core
    with torch.no_grad():
        wanted = policy.module.family.features(core, media)
        found = features_in_threads(policy.module.family, core, media, 3)
    for ours in found:
        assert torch.allclose(ours.levels, wanted.levels, atol=1e-5)


def test_what_is_shared_of_a_chunk_is_its_own_rows_alone() -> None:
    make = torch.Generator().manual_seed(0)
    prompts = tuple(
        EncodedPrompt(torch.arange(n), torch.arange(n).expand(3, -1)) for n in (3, 4, 5)
    )
    rows = [torch.rand(6, 4, generator=make) for _ in range(3)]
    tokens, mask, group = rows[0].long(), rows[0] > 0.3, torch.tensor([0, 1, 2, 2, 0, 1])
    whole = TokenTrajectory(tokens, mask, rows[1], group, prompts, rows[2])
    kept = _by_group(whole, [3, 4, 2, 0])
    assert kept == [3, 2, 4, 0]
    part = _alone(whole.select(kept))
    assert [p.num_tokens for p in part.prompts] == [5, 3]
    assert part.group.tolist() == [0, 0, 1, 1]
    assert part.reference is not None
    for found, wanted in ((part.logp, rows[1]), (part.reference, rows[2]), (part.mask, mask)):
        assert torch.equal(found, wanted[kept])


def test_heads_that_cannot_be_divided_are_refused() -> None:
    config = Qwen2_5_VLConfig(text_config={"num_attention_heads": 28, "num_key_value_heads": 4})
    for size in (1, 2, 4, 28):
        check_heads(config, size)
    for size in (3, 8):
        with pytest.raises(ConfigError, match=r"dist\.sequence_parallel .* 28 attention heads"):
            check_heads(config, size)
    with pytest.raises(ConfigError, match="its 4 key heads"):
        check_heads(config, 14)
    with pytest.raises(ConfigError, match="do not all attend to the whole row"):
        check_heads(Qwen3_5Config(), 2)
    sliding = {"use_sliding_window": True, "max_window_layers": 0, "sliding_window": 8}
    with pytest.raises(ConfigError, match=r"share their prompt, and its config\.json has"):
        check_heads(Qwen2_5_VLConfig(text_config=sliding), 2)


def test_ranks_that_cannot_be_divided_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"dist\.sequence_parallel \(2\) must divide .* \(3\)"):
        with_sequences(World(0, 3, torch.device("cpu")), 2, 60)
    parts = read_parts(load_run_config(["gui_grounding/tiny"], ["dist.sequence_parallel=2"]))
    with pytest.raises(ConfigError, match=r"must divide plan\.num_gpus \(1\)"):
        plan_run(parts.config, parts.policy_options, "h100_80gb", 1)


@pytest.mark.parametrize(
    ("recipe", "words", "reason"),
    [
        ("image_generation/tiny", (), "this policy's rows cannot be divided"),
        ("text_to_3d/tiny", (), "this policy's rows cannot be divided"),
        ("gui_grounding/tiny", ("policy.share_prompt=off",), r"set policy\.share_prompt: auto"),
    ],
)
def test_policies_that_cannot_divide_rows_are_refused(
    recipe: str, words: tuple[str, ...], reason: str
) -> None:
    config = load_run_config([recipe], ["dist.sequence_parallel=2", *words])
    with pytest.raises(ConfigError, match=r"^dist\.sequence_parallel: .*" + reason):
        read_parts(config)


def test_a_row_that_is_too_long_may_be_divided() -> None:
    """Only where there is room for a part of it; else fewer tokens a GPU do not help either."""
    config = load_run_config(["gui_grounding/tiny"], ["dist.gradient_checkpointing=true"])
    long = dataclasses.replace(PLAN, largest_chunk=4_000, may_share=True, num_sharers=2)
    with pytest.raises(ConfigError, match=r"update .*set dist\.sequence_parallel: 4$"):
        long.check(config)
    for over in ({"may_share": False}, {"largest_chunk": 0}):
        with pytest.raises(ConfigError, match=r"update .*plan\.gpu"):
            dataclasses.replace(long, **over).check(config)


def test_a_judges_training_takes_no_divided_rows() -> None:
    source = {"path": "d", "format": "pick_a_pic"}
    stages = [{"name": "c", "data": [source], "num_steps": 1}]
    given = {"name": "a", "model": "b", "dist": {"sequence_parallel": 2}, "stages": stages}
    with pytest.raises(ConfigError, match=r"dist\.sequence_parallel: judges are trained on whole"):
        check(JudgeTrainConfig, given)


def test_a_plan_counts_what_a_rank_holds_and_sends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    peaks = {}
    for num in (1, 2):
        words = [f"dist.sequence_parallel={num}", "dist.max_tokens_per_chunk=2048",
                 "policy.train_vision=false", "plan.max_prompt_tokens=400"]  # fmt: skip
        parts = read_parts(load_run_config(["gui_grounding/tiny"], words))
        policy = parts.policy_options.planned(planned_run(parts.config, num, flash=False))
        assert policy is not None
        chunk = policy.chunk(2048, largest=True)
        assert chunk.num_tokens == 2048
        peaks[num] = training_cost([policy.module], chunk.forward).peak_bytes
    assert 0.5 < peaks[2] / peaks[1] < 0.7
    text = policy.module.core.config.get_text_config()
    width = text.hidden_size // text.num_attention_heads
    # Queries and outputs, keys and values; there and back; half of it stays here.
    heads = 2 * text.num_attention_heads + 2 * max(2, text.num_key_value_heads)
    size = {torch.bfloat16: 2, torch.float32: 4}[policy.module.core.lm_head.weight.dtype]
    sent = text.num_hidden_layers * 2 * heads * width * 1024 * size / 2
    assert policy.exchanged_bytes == sent
