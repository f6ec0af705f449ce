"""A JSON schema of whole config files, so that editors complete and check them.

It is made of the models that the sections are checked with: a run's, and those of every registered
task, policy, reward and combinator. Recipes may be parts that are laid over others, so no key is
required. A name of the user's own (`package.module:attribute`) may stand for any plug-in, and its
options are then free.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args

from pydantic import BaseModel

from vlrl.config.curriculum import SamplerConfig
from vlrl.config.schema import RunConfig
from vlrl.protocols import Reward
from vlrl.registry import REGISTRY, resolve
from vlrl.reward.combinators.base import Combinator
from vlrl.reward.functions import spec_of
from vlrl.reward.lint.allowed import RULE_NAMES
from vlrl.reward.node import NODE_SCHEMA
from vlrl.reward.tree import NODE_KEYS

Schema = dict[str, Any]

EXTENDS: Schema = {
    "description": "recipes that this one is laid over: paths relative to this file, or names",
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
}
NODE_PROPERTIES: Schema = {
    "weight": {"type": "number", "description": "under sum and mean; default 1.0"},
    "label": {"type": "string", "description": "its name in the logs"},
    "allow": {
        "type": "object",
        "description": "rules that it breaks on purpose, each with the reason",
        "properties": {rule: {"type": "string"} for rule in RULE_NAMES},
        "additionalProperties": False,
    },
}
NODE: Schema = {"$ref": "#/$defs/RewardNode"}
OWN_NAME: Schema = {"type": "string", "pattern": ":"}


def run_schema() -> Schema:
    """The schema of a run's config file."""
    defs: Schema = {}
    schema = model_schema(RunConfig, "run", defs)
    properties = schema["properties"]
    properties["extends"] = EXTENDS
    for kind, options in (("task", "task"), ("policy", "policy_options")):
        properties[kind] = _plugin_section(kind, options, defs)
    properties["reward"] = NODE
    properties["metrics"] = {"type": "object", "additionalProperties": NODE}
    _complete_stage(defs["run.StageConfig"]["properties"])
    defs["RewardNode"] = _reward_node(defs)
    return _document("A vlrl run", schema, defs)


def _complete_stage(properties: Schema) -> None:
    """A stage's reward and algo are those of a run; its sampler may be a name alone."""
    properties["reward"] = {"anyOf": [NODE, {"type": "null"}]}
    properties["algo"] = {"$ref": "#/$defs/run.AlgoConfig"}
    kinds = get_args(SamplerConfig.model_fields["kind"].annotation)
    properties["sampler"] = {
        "anyOf": [{"enum": list(kinds)}, {"$ref": "#/$defs/run.SamplerConfig"}]
    }
    one = {"type": ["string", "boolean", "number"]}
    several = properties["keep"]["additionalProperties"]
    properties["keep"]["additionalProperties"] = {"anyOf": [one, several]}


def file_schema(model: type[BaseModel], title: str) -> Schema:
    """The schema of a config file that one model checks as a whole."""
    defs: Schema = {}
    schema = model_schema(model, "file", defs)
    schema["properties"]["extends"] = EXTENDS
    return _document(title, schema, defs)


def model_schema(model: type[BaseModel], prefix: str, defs: Schema) -> Schema:
    """A model's schema without required keys; its parts go to `defs` under names of their own."""
    schema = _with_nodes(model.model_json_schema(ref_template=f"#/$defs/{prefix}.{{model}}"))
    for name, part in schema.pop("$defs", {}).items():
        defs[f"{prefix}.{name}"] = part
        part.pop("required", None)
    schema.pop("required", None)
    schema.setdefault("properties", {})
    return schema


def _document(title: str, schema: Schema, defs: Schema) -> Schema:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": title,
        "$defs": dict(sorted(defs.items())),
    }


def _plugin_section(kind: str, options_kind: str, defs: Schema) -> Schema:
    """A section that names a plug-in by `use:`."""
    cases = []
    for name in REGISTRY[kind]:
        target = resolve(options_kind, name)
        options = target if options_kind != kind else target.Options
        section = model_schema(options, f"{kind}.{name}", defs)
        section["properties"] = {"use": {"const": name}, **section["properties"]}
        defs[f"{kind}.{name}"] = section
        cases.append(_case(name, f"{kind}.{name}"))
    return {"type": "object", "properties": {"use": _names(REGISTRY[kind])}, "allOf": cases}


def _reward_node(defs: Schema) -> Schema:
    """A leaf, `{use: name, <options>}`, or a combinator, `{sum: [...]}`."""
    cases = []
    for name, options in _reward_options():
        leaf = model_schema(options, f"reward.{name}", defs)
        leaf["properties"] = {"use": {"const": name}, **NODE_PROPERTIES, **leaf["properties"]}
        leaf["additionalProperties"] = False
        defs[f"reward.{name}"] = leaf
        cases.append(_case(name, f"reward.{name}"))
    combinators = {
        name: _combinator(resolve("combinator", name), name, defs)
        for name in REGISTRY["combinator"]
    }
    return {
        "type": "object",
        "properties": {"use": _names(REGISTRY["reward"])},
        "if": {"required": ["use"]},
        "then": {"allOf": cases},
        "else": {
            "properties": {**combinators, **NODE_PROPERTIES},
            "patternProperties": {":": {}},
            "additionalProperties": False,
            "maxProperties": 1 + len(NODE_KEYS),
        },
    }


def _reward_options() -> Iterator[tuple[str, type[BaseModel]]]:
    for name in REGISTRY["reward"]:
        target = resolve("reward", name)
        is_class = inspect.isclass(target) and issubclass(target, Reward)
        yield name, target.Options if is_class else spec_of(target).options


def _combinator(target: type[Combinator], name: str, defs: Schema) -> Schema:
    schema = model_schema(target.Options, f"combinator.{name}", defs)
    if target.kinds is not None:
        schema.pop("additionalProperties")
        schema |= _by_kind(target.kinds, schema["properties"], f"combinator.{name}", defs)
    if target.only_field is not None:
        schema = schema["properties"][target.only_field]
    about = (inspect.getdoc(target) or "").partition("\n")[0]
    return {**schema, "description": about}


def _by_kind(section: str, shared: Schema, prefix: str, defs: Schema) -> Schema:
    """`kind:` by name, and the options of each beside it."""
    cases = []
    for kind in REGISTRY[section]:
        own = model_schema(resolve(section, kind).Options, f"{prefix}.{kind}", defs)
        own["properties"] = {**shared, **own["properties"], "kind": {"const": kind}}
        own["additionalProperties"] = False
        defs[f"{prefix}.{kind}"] = own
        cases.append(
            {
                "if": {"properties": {"kind": {"const": kind}}, "required": ["kind"]},
                "then": {"$ref": f"#/$defs/{prefix}.{kind}"},
            }
        )
    names = {**shared["kind"], **_names(REGISTRY[section])}
    names.pop("type", None)
    return {"properties": {**shared, "kind": names}, "allOf": cases}


def _with_nodes(schema: Any) -> Any:
    """The schema with its marks of reward nodes replaced by the definition of one."""
    if isinstance(schema, list):
        return [_with_nodes(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if all(schema.get(key) == value for key, value in NODE_SCHEMA.items()):
        return NODE
    return {key: _with_nodes(part) for key, part in schema.items()}


def _case(name: str, definition: str) -> Schema:
    """What holds where `use:` is this name."""
    return {
        "if": {"properties": {"use": {"const": name}}, "required": ["use"]},
        "then": {"$ref": f"#/$defs/{definition}"},
    }


def _names(rows: dict[str, str]) -> Schema:
    return {"anyOf": [{"enum": list(rows)}, OWN_NAME]}
