"""What would end in a traceback, do nothing, or name nothing is refused by `--dry-run`."""

from __future__ import annotations

from pathlib import Path

import pytest

from vlrl.cli.main import main
from vlrl.config.section import MAX_WHOLE, Section
from vlrl.errors import ConfigError
from vlrl.reward.tree import build_reward

ROOT = Path(__file__).parents[1]
TINY = ROOT / "configs/gui_grounding/tiny.yaml"
JUDGE = ROOT / "configs/judge/tiny_judge.yaml"
HUGE = "9" * 23


@pytest.mark.parametrize(
    ("override", "key"),
    [
        # Numbers that a library refuses later, or computes 0 and infinity with.
        (f"seed={HUGE}", "seed"),
        (f"num_steps={HUGE}", "num_steps"),
        (f"policy.max_new_tokens={HUGE}", "max_new_tokens"),
        (f"policy.lora={{rank: {HUGE}}}", "lora.rank"),
        (f"policy.lora={{alpha: {HUGE}}}", "lora.alpha"),
        (f"task.data.train.limit={HUGE}", "data.train.limit"),
        ("algo.group_size=1000000000", "algo.group_size"),
        ("algo.num_prompts=1000000000", "algo.num_prompts"),
        ("eval.num_bootstrap=1000000000", "eval.num_bootstrap"),
        ("dist.num_threads=1000000000", "dist.num_threads"),
        ("policy.temperature=1e-320", "temperature"),
        ("policy.temperature=1e300", "temperature"),
        ("policy.top_p=1e-320", "top_p"),
        ("optim.lr=1e-310", "optim.lr"),
        ("optim.weight_decay=1e300", "optim.weight_decay"),
        ("reward={use: gaussian_point, alpha: 1e-320}", "alpha"),
        ("reward={use: gaussian_point, alpha: .inf}", "alpha"),
        ("reward={use: gaussian_point, alpha: true}", "alpha"),
        (f"reward={{sum: [{{use: box_iou, weight: {HUGE * 20}}}]}}", "weight"),
        ("reward={sum: [{use: box_iou, weight: 1e308}, {use: box_hit, weight: 1e308}]}", "weight"),
        # Patterns.
        ("policy.lora={target_modules: '('}", "lora.target_modules"),
        ("policy.lora={target_modules: ''}", "lora.target_modules"),
        ("policy.lora={target_modules: []}", "lora.target_modules"),
        # What is named is not there, or is something else.
        ("policy.model=/dev/null", "policy.model"),
        (f"policy.model={ROOT / 'README.md'}", "policy.model"),
        (f"policy.model={ROOT / 'docs'}", "policy.model"),
        ("policy.model=/nowhere/model", "policy.model"),
        ("policy.model=~nobody/model", "policy.model"),
        ("policy.model=''", "policy.model"),
        ("dist.deepspeed=/etc/passwd", "dist.deepspeed"),
        ("dist.deepspeed=/nowhere.json", "dist.deepspeed"),
        ("dist.deepspeed=''", "dist.deepspeed"),
        ("task.data={}", "task.data"),
        ("task.data.train=[]", "task.data.train"),
        ("train_split=trian", "train_split"),
        ("eval.splits=[validation]", "eval.splits"),
        ("out=''", "out"),
        (f"out={ROOT / 'README.md'}", "out"),
        ("out=/dev/null/runs", "out"),
        # What would do nothing.
        ("algo={population_std: true, advantage: group_centre}", "algo.population_std"),
        ("algo.nft.beta=2", "algo.nft"),
        ("algo.constant_length=7", "algo.constant_length"),
    ],
)
def test_a_dry_run_refuses_it_and_names_the_key(
    override: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "--config", str(TINY), "--dry-run", override]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert key in printed.err


@pytest.mark.parametrize(
    ("override", "key"),
    [
        (f"seed={HUGE}", "seed"),
        ("model=/dev/null", "model"),
        ("dist.deepspeed=/etc/passwd", "dist.deepspeed"),
        ("out=''", "out"),
        ("lora={target_modules: '('}", "lora.target_modules"),
    ],
)
def test_so_does_that_of_a_judge(
    override: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train-judge", "--config", str(JUDGE), "--dry-run", override]) == 2
    assert key in capsys.readouterr().err


@pytest.mark.parametrize(
    "override",
    [
        f"seed={MAX_WHOLE}",
        "policy.model=some/name",
        "policy.model=runs/not_yet/model",
        "policy.lora={target_modules: [q_proj]}",
        "algo={population_std: true, advantage: group_zscore}",
        "optim.lr=1e-12",
        "out=runs/not/yet",
        "reward={sum: [{use: box_iou, weight: 1e6}, {use: box_hit, weight: 0}]}",
    ],
)
def test_what_can_be_meant_passes(override: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--config", str(TINY), "--dry-run", override]) == 0, capsys.readouterr()


@pytest.mark.parametrize("content", ["[]", "{", '{"zero_optimization": 5}',
    '{"zero_optimization": {"stage": 9}}', '{"zero_optimization": {"stage": "two"}}',
    '{"optimizer": {}}'])  # fmt: skip
def test_a_sharding_file_is_read_by_the_dry_run(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "zero.json"
    path.write_text(content)
    words = ["train", "--config", str(TINY), "--dry-run", f"dist.deepspeed={path}"]
    assert main(words) == 2
    assert f"dist.deepspeed: {path}: " in capsys.readouterr().err


def test_a_sum_whose_range_overflows_is_refused() -> None:
    node: object = {"use": "box_iou", "weight": 1e30}
    for _ in range(11):
        node = {"sum": [node], "weight": 1e30}
    with pytest.raises(ConfigError, match=r"reward\.sum.*overflows; make the weights smaller"):
        build_reward({"sum": [node]})


def test_sizes_hold_in_lists_and_for_any_section() -> None:
    class Options(Section):
        sizes: tuple[int, ...] = ()
        share: float = 0.5

    assert Options(sizes=(0, -MAX_WHOLE), share=0.0).share == 0.0
    with pytest.raises(ValueError, match=f"must be at most {MAX_WHOLE} in size"):
        Options(sizes=(1, 10**400))
    with pytest.raises(ValueError, match=r"must be 0 or from 1e-30 to 1e\+30 in size, not -1e-31"):
        Options(share=-1e-31)
