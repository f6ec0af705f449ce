"""What all combinators share: children, names, and how they are read from the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from vlrl.errors import ConfigError
from vlrl.protocols import Reward
from vlrl.reward.node import Build, NodeOptions, build_fields, read_options
from vlrl.reward.parts import unique_names
from vlrl.types import Score


class Combinator(Reward):
    """Several rewards combined into one; `label`, if set, adds the joint value to the parts.

    The constructor takes the fields of `Options` by name, nodes already built.
    """

    Options: ClassVar[type[NodeOptions]]
    only_field: ClassVar[str | None] = None
    """The field that takes the whole value where the config has no mapping with keys."""
    weighted: ClassVar[bool] = False
    """Whether children may carry `weight`."""

    kinds: ClassVar[str | None] = None
    """The registry's section of its kinds, whose options stand beside `kind:`."""
    names_leaves: ClassVar[bool] = True
    """Whether leaves of different children must have names of their own."""

    def __init__(self, children: Sequence[Reward]) -> None:
        self.children = tuple(children)
        self.needs = frozenset().union(*(child.needs for child in children))
        if self.names_leaves:
            unique_names(self)

    @classmethod
    def from_config(cls, value: object, where: str, build: Build) -> Self:
        """From what stands below the combinator's name; raises ConfigError that names the place."""
        if cls.only_field is not None:
            value = {cls.only_field: value}
        elif not isinstance(value, Mapping):
            keys = (field.alias or name for name, field in cls.Options.model_fields.items())
            raise ConfigError(f"{where}: takes a mapping with {', '.join(keys)}, not {value!r}")
        options = read_options(cls.Options, value, where, cls.only_field)
        fields = build_fields(options, where, build, cls.only_field)
        try:
            return cls(**fields)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error

    def joined(
        self,
        value: float | None,
        parts: Mapping[str, float],
        stages: tuple[float | None, ...] = (),
    ) -> Score:
        """A score with the parts of the children, and its own value where it has a label."""
        own: dict[str, Any] = {}
        if self.label is not None and value is not None:
            own[self.label] = value
        return Score(value, {**parts, **own}, stages)
