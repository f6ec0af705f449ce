"""YAML text to plain data and back, without YAML's traps and within limits.

As in YAML 1.2 `1e-6` is a number, and `on`, `off`, `yes`, `no`, `1:30` and `2026-01-31` are text.
`010`, which is 8 in YAML 1.1, is an error, and so is a key given twice; a key next to a merge
(`<<`) overrides it. Keys are texts as they are written, `0` too. Files nested or repeated without
bounds are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from vlrl.errors import ConfigError, first_line

MAX_DEPTH = 64
MAX_VALUES = 200_000
"""Of a file, aliases expanded."""
MERGE_TAG = "tag:yaml.org,2002:merge"
INT_TAG = "tag:yaml.org,2002:int"
PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "bool", "null"))
"""Of what is no text without quotes."""


class _Loader(yaml.SafeLoader):
    """The safe loader, with other rules for numbers, booleans and repeated keys."""

    num_merged = 0

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put what is merged in its place; merges of merges multiply, so they are counted."""
        super().flatten_mapping(node)
        self.num_merged += len(node.value)
        if self.num_merged > MAX_VALUES:
            raise ConfigError(f"{self.name}: merges make it larger than {MAX_VALUES} values")


class _Dumper(yaml.SafeDumper):
    """Writes for `_Loader` and for YAML 1.1: text that either would read as another type is
    quoted."""


_FLOAT = re.compile(
    r"^[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_INT = re.compile(r"^[-+]?(?:[0-9][0-9_]*|0x[0-9a-fA-F_]+)$")
_LEADING_ZERO = re.compile(r"^[-+]?0[0-9_]+$")
_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")


def _drop_resolver(side: Any, kind: str) -> None:
    tag = f"tag:yaml.org,2002:{kind}"
    side.yaml_implicit_resolvers = {
        key: [pair for pair in pairs if pair[0] != tag]
        for key, pairs in side.yaml_implicit_resolvers.items()
    }


def _replace_resolver(side: Any, kind: str, pattern: re.Pattern[str], first: str) -> None:
    _drop_resolver(side, kind)
    side.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", pattern, list(first))


_replace_resolver(_Loader, "float", _FLOAT, "-+0123456789.")
_replace_resolver(_Dumper, "float", _FLOAT, "-+0123456789.")
_replace_resolver(_Loader, "bool", _BOOL, "tTfF")
_replace_resolver(_Loader, "int", _INT, "-+0123456789")
_drop_resolver(_Loader, "timestamp")
# Beside the rules of YAML 1.1, by which `010` and `1:30` are quoted already.
_Dumper.add_implicit_resolver(INT_TAG, _LEADING_ZERO, list("-+0"))


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value
    if _LEADING_ZERO.match(text):
        where = f"{node.start_mark.name}, line {node.start_mark.line + 1}"
        raise ConfigError(
            f"{where}: {text} is octal in YAML 1.1 and decimal in YAML 1.2; write a number without "
            "the leading zero, and a text in quotes"
        )
    return loader.construct_yaml_int(node)


def _key(loader: _Loader, node: yaml.Node) -> Any:
    """A key as it is written: `0`, `true` and `1.5` are texts there, as they are in JSON."""
    if node.tag in PLAIN_TAGS and isinstance(node, yaml.ScalarNode):
        return node.value
    return loader.construct_object(node, deep=True)


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    given = {id(key) for key, _ in node.value if key.tag != MERGE_TAG}
    loader.flatten_mapping(node)
    result: dict[Any, Any] = {}
    own: set[Any] = set()
    for key_node, value_node in node.value:
        key = _key(loader, key_node)
        where = f"{key_node.start_mark.name}, line {key_node.start_mark.line + 1}"
        if not isinstance(key, str):
            raise ConfigError(f"{where}: a key must be a text, not {key!r}")
        if id(key_node) in given:
            if key in own:
                raise ConfigError(f"{where}: {key!r} is given twice")
            own.add(key)
        result[key] = loader.construct_object(value_node, deep=True)
    return result


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Loader.add_constructor(INT_TAG, _whole)


def parse_yaml(text: str, name: str) -> Any:
    """YAML text as plain data; `name` is the file named in errors. Raises ConfigError."""
    try:
        _check_depth(text, name)
        loader = _Loader(text)
        loader.name = name
        try:
            data = loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from error
    except (ValueError, OverflowError, RecursionError, LookupError, AttributeError,
            TypeError) as error:  # fmt: skip
        # A date that does not exist, a number of thousands of digits, `!!int ''`.
        raise ConfigError(f"{name}: a value cannot be read: {first_line(error)}") from error
    if _num_values(data, {}) > MAX_VALUES:
        raise ConfigError(f"{name}: aliases make it larger than {MAX_VALUES} values")
    _check_texts(data, name, "")
    return data


def dump_yaml(config: Mapping[str, Any]) -> str:
    """Plain data as text that `parse_yaml` reads back to the same."""
    return yaml.dump(dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _check_depth(text: str, name: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            mark = event.start_mark
            line = mark.line + 1 if mark is not None else 0
            raise ConfigError(f"{name}, line {line}: nested more than {MAX_DEPTH} levels deep")


def _check_texts(data: object, name: str, place: str) -> None:
    """ConfigError for texts that no file name and no tokenizer can hold."""
    if isinstance(data, str):
        if "\0" in data or any("\ud800" <= char <= "\udfff" for char in data):
            raise ConfigError(
                f"{name}: {place.lstrip('.') or 'the value'} holds a NUL or half of a surrogate "
                "pair; remove it"
            )
    elif isinstance(data, dict):
        for key, value in data.items():
            _check_texts(key, name, f"{place}.(a key)")
            _check_texts(value, name, f"{place}.{key}")
    elif isinstance(data, list):
        for number, value in enumerate(data):
            _check_texts(value, name, f"{place}[{number}]")


def _num_values(data: object, known: dict[int, int]) -> int:
    """Values in plain data, shared parts counted wherever they appear."""
    if not isinstance(data, dict | list):
        return 1
    if id(data) not in known:
        known[id(data)] = MAX_VALUES + 1  # an alias to itself has no end
        parts = data.values() if isinstance(data, dict) else data
        known[id(data)] = 1 + sum(_num_values(part, known) for part in parts)
    return known[id(data)]
