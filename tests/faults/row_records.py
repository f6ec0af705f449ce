"""Files that vlrl and other tools write beside a run or a model, and an oracle for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from broken_media import HEIGHT, WIDTH
from helpers_runs import run_config
from row_tables import NUM_ROWS, Kind, Values, as_json, as_lines, items, listed, numbers, rows_of

from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.data.json_file import clean_text
from vlrl.distributed.engine import deepspeed_config
from vlrl.eval.gui.passes import load
from vlrl.eval.judge.agreement import read_judgements
from vlrl.eval.recipe import read_recipe
from vlrl.eval.store import Store
from vlrl.eval.video.runner import stored as stored_answers
from vlrl.families.adapters import adapter_base
from vlrl.judge.data.preference import Preference
from vlrl.judge.question import JUDGE_FILE, JudgeTemplate, template_of
from vlrl.log.sinks import JsonLines

SETTINGS = {"model": "m", "prompt": "Click: {instruction}", "temperature": 0.0, "votes": None}


TEMPLATE = {"criteria": "Is it a cat?", "yes": ["yes", "Yes"], "no": ["no"]}


RECIPE = {"profile": "gui_g2", "prompt": "Click: {instruction}", "max_new_tokens": 64}


def stored(i: int) -> dict[str, Any]:
    one = {"output": f"[{i}, 2]", "error": None, "crop": None, "seed": 0, "greedy": True,
           "resized": [WIDTH, HEIGHT], "seconds": 0.25, "num_tokens": 7}  # fmt: skip
    return {"id": f"s{i}", "passes": [one]}


def read_store(path: Path) -> Values:
    """As a resumed evaluation does."""
    folder = path.parent / path.stem
    folder.mkdir(exist_ok=True)
    (folder / "answers.rank0.jsonl").write_bytes(path.read_bytes())
    store = Store(folder)
    store.drop_cut_lines()
    found = load(store, {item.id: item for item in items()})
    return sorted(
        (own, p.reply.output, list(p.reply.resized.extent), p.reply.num_tokens)
        for own, passes in found.items()
        for p in passes
    )


def said_by_store(path: Path) -> Values:
    data = path.read_bytes()
    whole = data[: data.rfind(b"\n") + 1].decode()
    rows = [json.loads(line) for line in whole.split("\n") if line.strip()]
    last: dict[str, Any] = {}
    for row in rows:
        if row["id"] not in last or all(p["output"] is not None for p in row["passes"]):
            last[row["id"]] = row
    return sorted(
        (row["id"], p["output"] if p["output"] is None else clean_text(p["output"]),
         numbers(p["resized"]), p["num_tokens"])
        for row in last.values()
        for p in row["passes"]
    )  # fmt: skip


def read_settings(path: Path) -> Values:
    """Another setting is refused by name, so what passes are the same ones."""
    folder = path.parent / path.stem
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_bytes(path.read_bytes())
    Store(folder).open(SETTINGS)
    return [SETTINGS]


def beside(path: Path, name: str) -> str:
    """A folder that holds the file under another name."""
    folder = path.parent / path.stem
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(path.read_bytes())
    return str(folder)


def spoken(i: int) -> dict[str, Any]:
    return {"id": f"s{i}", "output": f"from {i}.5 s", "error": None, "seconds": 0.5,
            "num_tokens": 3}  # fmt: skip


def read_spoken(path: Path) -> Values:
    store = Store(Path(beside(path, "answers.rank0.jsonl")))
    store.drop_cut_lines()
    found = stored_answers(store, {f"s{i}" for i in range(NUM_ROWS)})
    return sorted((own, one.output, one.num_tokens) for own, one in found.items())


def said_by_spoken(path: Path) -> Values:
    data = path.read_bytes()
    lines = data[: data.rfind(b"\n") + 1].decode().split("\n")
    last: dict[str, Any] = {}
    for row in (json.loads(line) for line in lines if line.strip()):
        if row["output"] is not None or row["id"] not in last:
            last[row["id"]] = row
    return sorted(
        (own, None if row["output"] is None else clean_text(row["output"]), row["num_tokens"])
        for own, row in last.items()
        if {"error", "seconds"} <= row.keys()
    )


def read_metrics(path: Path) -> Values:
    """What a resumed run keeps."""
    file = Path(beside(path, "metrics.jsonl")) / "metrics.jsonl"
    JsonLines(file, NUM_ROWS)
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def said_by_metrics(path: Path) -> Values:
    """The lines that are whole, up to the step of the resume."""
    found = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            if type(row["step"]) is int and row["step"] <= NUM_ROWS:
                found.append(row)
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
    return found


def pairs() -> list[Preference]:
    return [Preference(f"row {i}", f"s{i}", "c", Path("a.png"), Path("b.png"), 1)
            for i in range(NUM_ROWS)]  # fmt: skip


def read_sharding(path: Path) -> Values:
    parts = {"task": {"use": "gui_grounding"}, "policy": {"use": "vision_language"},
             "reward": {"use": "letters"}}  # fmt: skip
    config = run_config(path.parent, "run", parts, {"dist__deepspeed": str(path)})
    return [deepspeed_config(check(RunConfig, config)).get("zero_optimization")]


RECORDS: dict[str, Kind] = {
    "stored answers": Kind(
        "stored.jsonl", lambda: as_lines(rows_of(stored)), read_store, said_by_store
    ),
    "settings of an evaluation": Kind(
        "settings.json", lambda: as_json(SETTINGS), read_settings,
        lambda path: [json.loads(path.read_text("utf-8"))],
    ),
    "stored answers about videos": Kind(
        "spoken.jsonl", lambda: as_lines(rows_of(spoken)), read_spoken, said_by_spoken
    ),
    "metrics of a run": Kind(
        "metrics.jsonl", lambda: as_lines(rows_of(lambda i: {"step": i + 1, "reward/mean": i / 7})),
        read_metrics, said_by_metrics,
    ),
    "judgements JSONL": Kind(
        "judged.jsonl", lambda: as_lines(rows_of(lambda i: {"id": f"s{i}", "p": i / 7})),
        lambda path: [(j.id, j.p) for j in read_judgements(path, pairs())],
        lambda path: sorted((str(r["id"]), float(r["p"])) for r in listed(path)),
    ),
    "judge's template": Kind(
        "template.json", lambda: as_json(TEMPLATE),
        lambda path: [template_of(beside(path, JUDGE_FILE))[0].model_dump(mode="json")],
        lambda path: [{**JudgeTemplate().model_dump(mode="json"),
                       **{k: v for k, v in json.loads(path.read_text("utf-8")).items()
                          if k != "criteria"}}],
    ),
    "adapter": Kind(
        "adapter.json", lambda: as_json({"base_model_name_or_path": "Qwen/x", "r": 8}),
        lambda path: [adapter_base(beside(path, "adapter_config.json"))],
        lambda path: [json.loads(path.read_text("utf-8"))["base_model_name_or_path"]],
    ),
    "sharding": Kind(
        "sharding.json", lambda: as_json({"zero_optimization": {"stage": 2}, "wall_clock": False}),
        read_sharding,
        lambda path: [json.loads(path.read_text("utf-8")).get("zero_optimization")],
    ),
    "recipe of a checkpoint": Kind(
        "recipe.json", lambda: as_json(RECIPE), 
        lambda path: [read_recipe(beside(path, "vlrl.json")).model_dump(exclude_unset=True)],
        lambda path: [json.loads(path.read_text("utf-8"))],
    ),
}  # fmt: skip
