"""A command line from the fields of section models, and back to checked sections.

A command of a section takes `--config FILE ...`, `key=value` overrides, and each field as an option
of its own: `--batch-size 8` is the override `batch_size=8`. Its type, limits, default and meaning
are the field's.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from vlrl.cli.checks import interrupted, number, told, whole
from vlrl.config.loader import apply_override, compose
from vlrl.config.resolve import check
from vlrl.config.schema import RunConfig
from vlrl.config.section import Section
from vlrl.errors import ConfigError, VlrlError

Model = TypeVar("Model", bound=BaseModel)


def add_section(parser: argparse.ArgumentParser, *models: type[Section]) -> None:
    """`--config`, overrides and the options of a command's section; of several models the union."""
    add_config(parser, "YAML with any of the options below; merged in order")
    add_options(parser, *models)
    parser.set_defaults(sections=models)


def add_config(parser: argparse.ArgumentParser, meaning: str, *, required: bool = False) -> None:
    """`--config FILE ...` and the overrides."""
    parser.add_argument(
        "--config", nargs="+", default=[], required=required, metavar="FILE", help=meaning
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="dotted, read as YAML")


def add_options(parser: argparse.ArgumentParser, *models: type[Section]) -> None:
    """One option per field that fits on a command line; one group per class of fields."""
    done: set[str] = set()
    for model in models:
        for part, fields in _by_class(model):
            new = {name: field for name, field in fields.items() if name not in done}
            if not new:
                continue
            title = (part.__doc__ or "options").partition("\n")[0].rstrip(".")
            group = parser.add_argument_group(title[0].lower() + title[1:])
            for name, field in new.items():
                _add_option(group, name, field)
            done.update(new)


def _by_class(model: type[BaseModel]) -> Iterator[tuple[type, dict[str, FieldInfo]]]:
    """A model's fields by the class that declares them, in the order of its bases."""
    known = model.model_fields
    for part in model.__mro__:
        own = [name for name in inspect.get_annotations(part) if name in known]
        yield part, {name: known[name] for name in own}


def add_launcher(parser: argparse.ArgumentParser) -> None:
    """What the deepspeed launcher sets; LOCAL_RANK in the environment says the same."""
    parser.add_argument("--local_rank", type=int, default=None, help=argparse.SUPPRESS)


def parse(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The arguments; an override may stand behind any option."""
    args, rest = parser.parse_known_args(argv)
    for item in rest:
        if item.startswith("-") or "=" not in item or not hasattr(args, "overrides"):
            parser.error(f"unrecognized arguments: {' '.join(rest)}")
        args.overrides.append(item)
    models: tuple[type[Section], ...] = getattr(args, "sections", ())
    if models and not args.config:
        set_here = {item.partition("=")[0].partition(".")[0] for item in args.overrides}
        lacking = [
            "--config" if _reading(field.annotation) is None else option_name(name)
            for name, field in models[0].model_fields.items()
            if field.is_required() and name not in set_here | vars(args).keys()
        ]
        if lacking:
            parser.error(f"the following arguments are required: {', '.join(lacking)}")
    return args


def values(args: argparse.Namespace) -> dict[str, Any]:
    """What files, overrides and options say together, not yet checked."""
    return compose(args.config, args.overrides) | given(args, *args.sections)


def section(model: type[Model], args: argparse.Namespace) -> Model:
    """The checked section of a command; raises ConfigError."""
    return check(model, values(args))


def section_beside_run(
    model: type[Model],
    name: str,
    args: argparse.Namespace,
    also: Callable[[Model], Sequence[str]] = lambda options: (),
) -> tuple[RunConfig, Model]:
    """A run's config, and the command's own section, from under `name:` or from options.

    also: overrides of the run that follow from the section.
    """
    data = compose(args.config, args.overrides)
    own = data.pop(name, {})
    if not isinstance(own, dict):
        raise ConfigError(f"{name}: a section, not {own!r}")
    own = {**own, **given(args, model)}
    for key, field in model.model_fields.items():
        if field.is_required() and key not in own:
            raise ConfigError(f"{option_name(key)} is missing")
    options = check(model, own)
    for assignment in also(options):
        apply_override(data, assignment)
    return check(RunConfig, data), options


def given(args: argparse.Namespace, *models: type[BaseModel]) -> dict[str, Any]:
    """The options that stand on the command line, by field."""
    names = dict.fromkeys(n for model in models for _, own in _by_class(model) for n in own)
    own = {name: vars(args)[name] for name in names if name in args}
    return {
        name: dict(value) if value and isinstance(value, list) and _is_pair(value[0]) else value
        for name, value in own.items()
    }


def option_name(field: str) -> str:
    """`batch_size` as one writes it: `--batch-size`."""
    return "--" + field.replace("_", "-")


def launch(
    add_arguments: Callable[[argparse.ArgumentParser], None],
    description: str,
    argv: Sequence[str] | None,
) -> int:
    """Run a command as a program of its own, on every rank of a launcher.

    A user's mistake is one clear message and status 2.
    """
    parser = argparse.ArgumentParser(description=description)
    add_arguments(parser)
    args = parse(parser, argv)
    try:
        status: int = args.run(args)
    except (VlrlError, OSError) as error:
        rank = os.environ.get("RANK", "0")
        # All ranks read the same config and complain alike; data and disks differ by rank.
        if rank == "0" or not isinstance(error, ConfigError):
            print("" if rank == "0" else f"[rank {rank}] ", told(error), sep="", file=sys.stderr)
        return error.exit_status if isinstance(error, VlrlError) else 2
    except KeyboardInterrupt:
        return interrupted()
    return status


def _add_option(group: argparse._ArgumentGroup, name: str, field: FieldInfo) -> None:
    how = _reading(field.annotation, field.metadata)
    if how is None:
        return  # a section of its own, or a list of them: in a file, or as an override
    meaning = " ".join((field.description or "").split()).rstrip(".")
    default = field.get_default(call_default_factory=True)
    if not field.is_required() and default not in (None, False, "", (), {}):
        meaning = f"{meaning}; default: {default}" if meaning else f"default: {default}"
    group.add_argument(
        option_name(name),
        dest=name,
        default=argparse.SUPPRESS,
        help=meaning.replace("%", "%%"),
        **how,
    )


def _reading(annotation: Any, limits: Sequence[Any] = ()) -> dict[str, Any] | None:
    """How argparse reads a field of this type; None for what no option can say."""
    kind, own = _bare(annotation)
    limits = [*limits, *own]
    origin, parts = get_origin(kind), get_args(kind)
    if kind is bool:
        return {"action": "store_const", "const": True}
    if origin is Literal:
        return {"choices": parts, "type": type(parts[0])}
    if origin is dict and parts[0] is str and parts[1] in (str, Path):
        return {"nargs": "*", "type": _pair, "metavar": "NAME=VALUE"}
    if origin in (tuple, list):
        inner = _reading(parts[0])
        return None if inner is None else {**inner, "nargs": "*"}
    if kind in (int, float):
        return {"type": _limited(kind, limits), "metavar": "N" if kind is int else "X"}
    if kind in (str, Path):
        return {"type": kind, "metavar": "TEXT" if kind is str else "PATH"}
    return None


def _bare(annotation: Any) -> tuple[Any, list[Any]]:
    """A type without `Annotated` and `| None`, and the limits that they carry."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        kind, limits = _bare(parts[0])
        return kind, [*limits, *parts[1:]]
    if origin in (Union, UnionType):
        inner = [part for part in parts if part is not NoneType]
        return _bare(inner[0]) if len(inner) == 1 else (annotation, [])
    return annotation, []


def _limited(kind: type, limits: Sequence[Any]) -> Callable[[str], Any]:
    bounds: dict[str, Any] = {}
    for one in limits:
        if isinstance(one, Gt | Ge | Le):
            bounds |= dataclasses.asdict(one)
    above, least = bounds.get("gt"), bounds.get("ge")
    if kind is int:
        least = above + 1 if above is not None else least
        return int if least is None else whole(least, bounds.get("le"))
    return float if above is None and least is None else number(above=above, least=least)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise argparse.ArgumentTypeError(f"takes NAME=VALUE, not {text!r}")
    return name, value


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple)


def named(options: Mapping[str, Any]) -> str:
    """The options as one writes them, for messages."""
    return ", ".join(option_name(name) for name in options)
