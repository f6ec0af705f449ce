"""The JSON schemas of config files: up to date, true of every recipe, and strict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from vlrl.cli.schema import schema_text
from vlrl.config.loader import read_yaml
from vlrl.registry import REGISTRY

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT / "configs/schema"
KINDS = ("run", *REGISTRY["config_file"])
RECIPES = sorted((ROOT / "configs").rglob("*.yaml"))


def validator(kind: str) -> jsonschema.Draft202012Validator:
    """A validator of the schema that is in the repository."""
    return jsonschema.Draft202012Validator(json.loads((SCHEMAS / f"{kind}.json").read_text()))


@pytest.mark.parametrize("kind", KINDS)
def test_the_schemas_in_the_repository_are_those_of_the_code(kind: str) -> None:
    text = (SCHEMAS / f"{kind}.json").read_text(encoding="utf-8")
    command = f"vlrl schema {kind} > configs/schema/{kind}.json"
    assert text == schema_text(kind) + "\n", f"run: {command}"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_recipe_names_its_schema_and_fits_it(path: Path) -> None:
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    prefix = "# yaml-language-server: $schema="
    assert first.startswith(prefix)
    schema = (path.parent / first.removeprefix(prefix)).resolve()
    assert schema.parent == SCHEMAS
    found = list(validator(schema.stem).iter_errors(json.loads(json.dumps(read_yaml(path)))))
    assert not found, [error.message for error in found]


@pytest.mark.parametrize(
    "config",
    [
        {"algo": {"group_sise": 3}},
        {"task": {"use": "gui_grounding", "promt": "x"}},
        {"task": {"use": "gui_groundin"}},
        {"policy": {"use": "flow", "lora": {"rnk": 1}}},
        {"policy": {"use": "vision_language", "temperature": "warm"}},
        {"reward": {"use": "gaussian_point", "alpa": 1}},
        {"reward": {"sums": []}},
        {"reward": {"sum": [{"use": "box_iou", "weight": "1"}]}},
        {"reward": {"gate": {"if": {"use": "box_valid"}, "thn": {"use": "box_iou"}}}},
        {"metrics": {"iou": {"stages": {"a": {"use": "box_io"}, "b": {"use": "box_iou"}}}}},
    ],
)
def test_typing_slips_are_refused(config: dict[str, Any]) -> None:
    assert list(validator("run").iter_errors(config))


def test_names_of_the_users_own_are_let_through() -> None:
    config = {
        "task": {"use": "mine:Task", "whatever": 1},
        "reward": {"sum": [{"use": "mine:reward", "scale": 2, "weight": 0.5}]},
    }
    assert not list(validator("run").iter_errors(config))
