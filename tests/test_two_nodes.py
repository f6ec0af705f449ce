"""Two nodes for real: what crosses a network of their own, and how they end when it is cut."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers_nodes import INTERFACES, Ended, Nodes, ended, free_port
from helpers_ranks import Ranks, assert_same_curve, zero
from helpers_runs import ROOT, curve, small_run

pytestmark = [pytest.mark.slow, pytest.mark.ranks]
NUM_STEPS = 8


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    try:
        if problem := made.up():
            pytest.skip(f"no network namespaces can be made here: {problem}")
        yield made
    finally:
        made.down()


def test_two_nodes_equal_one_and_survive_a_cut_link_and_a_lost_node(
    nodes: Nodes, checkpoints: dict[str, Path], screens: Path, tmp_path: Path, ranks: Ranks
) -> None:
    def config(name: str, stage: int, **over: Any) -> dict[str, Any]:
        sizes = {"dist__deepspeed": zero(stage), "num_steps": NUM_STEPS, "dist__hang_timeout_s": 6}
        return small_run(checkpoints["qwen2_5_vl"], screens, tmp_path, name, **sizes, **over)

    def launch(name: str, jobs: list[dict[str, Any]]) -> list[Ended]:
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(jobs), encoding="utf-8")
        logs = [tmp_path / f"{name}_{host}.log" for host in ("node1", "node2")]
        return nodes.run(file, logs)

    unshared = {**config("unshared", 2), "out": str(nodes.private)}
    double = {stage: config(f"two_nodes{stage}", stage) for stage in (2, 3)}
    broken = config("broken", 2, checkpoint__every=1)
    cut = {"rank": 0, "step": 3, "command": "ip link set v1 down"}
    first = launch(
        "first",
        [
            {"config": unshared, "refused": str(tmp_path)},
            *({"config": job, "interfaces": INTERFACES} for job in double.values()),
            {"config": broken, "fault": cut},
        ],
    )
    cut_after_s = report("the link was cut", broken, first)
    nodes.join()
    began = time.time()
    back = str(tmp_path / "back")
    kill = {"rank": 1, "step": 5, "command": "kill -KILL $PID"}
    second = launch("second", [{"config": broken, "resume": "auto", "fault": kill, "back": back}])
    back_s = float(Path(back).read_text(encoding="utf-8")) - began
    print(f"started again, the first step was done after {back_s:.1f} s")
    killed_after_s = report("node2 was killed", broken, second)
    third = launch("third", [{"config": broken, "resume": "auto"}])

    for rank in (0, 1):
        told = (tmp_path / f"refused{rank}.txt").read_text(encoding="utf-8")
        assert told.startswith(f"node{rank + 1}: out: ")
        assert "is not the same folder on node2 as on rank 0's node" in told
    single = {stage: config(f"one_node{stage}", stage) for stage in (2, 3)}
    ranks.run([{"config": job} for job in single.values()])
    for stage, job in double.items():
        assert_same_curve(single[stage], job, 0.0)
        show_bytes(tmp_path, job, stage)

    assert [one.status for one in first] == [75, 75], [one.said[-3000:] for one in first]
    assert "rank 1 (node2) was lost in step 4: no sign of life for 6 s" in first[0].said
    assert "rank 0 (node1) or the network to it was lost" in first[1].said
    for one in first:
        assert "; step 3 is saved; go on with --resume" in one.said
    assert cut_after_s < 20
    assert [one.status for one in second] == [75, -9], [one.said[-3000:] for one in second]
    assert "rank 1 (node2) was lost in step 6" in second[0].said
    assert "; step 5 is saved; go on with --resume" in second[0].said
    assert killed_after_s < 20
    assert [one.status for one in third] == [0, 0], [one.said[-3000:] for one in third]
    assert_same_curve(double[2], broken, 0.0)
    assert [row["step"] for row in curve(broken)] == list(range(1, NUM_STEPS + 1))


def test_torchrun_restarts_a_killed_worker_on_two_nodes(
    nodes: Nodes, checkpoints: dict[str, Path], screens: Path, tmp_path: Path, ranks: Ranks
) -> None:
    """The command of docs/training.md, on both nodes; node2's worker is killed after step 3."""
    config = small_run(
        checkpoints["qwen2_5_vl"],
        screens,
        tmp_path,
        "restarted",
        dist__deepspeed=zero(2),
        num_steps=NUM_STEPS,
        checkpoint__every=1,
        checkpoint__keep_last=NUM_STEPS,
    )
    whole = {**config, "name": "whole"}
    ranks.run([{"config": whole}])
    file = tmp_path / "config.yaml"
    reward = {"use": "helpers_runs:letters_until_a_kill"}
    file.write_text(json.dumps({**config, "reward": reward}), encoding="utf-8")
    mark = tmp_path / "killed"
    command = [
        *("torchrun", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=2"),
        *("--rdzv-backend=c10d", f"--rdzv-endpoint=node1:{free_port()}", "--rdzv-id=7"),
        *(str(ROOT / "scripts/train_grpo.py"), "--config", str(file), "--resume"),
    ]
    more = {
        "PYTHONPATH": f"{ROOT}:{ROOT}/tests",
        "VLRL_KILLED": str(mark),
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
    }
    logs = [tmp_path / f"torchrun{node}.log" for node in (1, 2)]
    ends = ended([nodes.start(node, command, logs[node], more) for node in (0, 1)], logs)
    assert [one.status for one in ends] == [0, 0], [one.said[-3000:] for one in ends]
    assert_same_curve(whole, config, 0.0)
    assert [row["step"] for row in curve(config)] == list(range(1, NUM_STEPS + 1))
    killed_at = float(mark.read_text(encoding="utf-8"))
    assert re.search(r"a collective of step 4 failed: .*\[10\.9\.0\.2\]", ends[0].said)
    redone = tmp_path / "restarted/checkpoints/step-000004"
    after_s = redone.stat().st_mtime - killed_at
    print(f"node2's worker was killed: step 4 was done and saved {after_s:.1f} s later")


def report(fault: str, config: dict[str, Any], ends: list[Ended]) -> float:
    """Print and return how long the last surviving rank took to end."""
    mark = Path(config["out"]) / config["name"] / "fault"
    at = float(mark.read_text(encoding="utf-8"))
    after_s = max(one.at for one in ends) - at
    print(f"{fault}: all ended after {after_s:.1f} s")
    for one in ends:
        print(f"  status {one.status}: {one.said.strip().splitlines()[-1][:300]}")
    return after_s


def show_bytes(folder: Path, config: dict[str, Any], stage: int) -> None:
    """What a step sends; it is as much on both nodes, and is not nothing."""
    of = [folder / config["name"] / f"bytes{rank}.json" for rank in (0, 1)]
    first, second = [json.loads(path.read_text(encoding="utf-8")) for path in of]
    assert len(first) == len(curve(config))
    for step, (one, other) in enumerate(zip(first, second, strict=True), start=1):
        sent = f"node1 sent {one[0]:,} bytes, node2 {other[0]:,}"
        print(f"ZeRO-{stage}, step {step}: {sent}")
        assert min(*one, *other) > 100_000
