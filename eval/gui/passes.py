"""The calls of an item as lines of JSON, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Self

from pydantic import BaseModel, FiniteFloat, TypeAdapter, model_validator

from vlrl.eval.gui.asking import Ask, Reply
from vlrl.eval.gui.items import Item
from vlrl.eval.gui.strategies import Pass
from vlrl.eval.store import Store
from vlrl.geometry.boxes import Frame


def to_row(item: Item, passes: Iterable[Pass]) -> dict[str, Any]:
    """One item's calls as a line of JSON."""
    return {
        "id": item.id,
        "passes": [
            {
                "output": one.reply.output,
                "error": one.reply.error,
                "crop": one.ask.crop,
                "seed": one.ask.seed,
                "greedy": one.ask.greedy,
                "resized": list(one.reply.resized.extent),
                "seconds": round(one.reply.seconds, 4),
                "num_tokens": one.reply.num_tokens,
            }
            for one in passes
        ],
    }


class _StoredPass(BaseModel):
    """A call as `to_row` writes it."""

    output: str | None
    error: str | None
    crop: tuple[int, int, int, int] | None
    seed: int
    greedy: bool
    resized: tuple[FiniteFloat, FiniteFloat]
    seconds: FiniteFloat
    num_tokens: int

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.output is None and self.error is None:
            raise ValueError("a call without an output must have its error")
        return self


_PASSES = TypeAdapter(list[_StoredPass])


def from_row(row: Mapping[str, Any], item: Item) -> list[Pass]:
    """The calls of a line; the inverse of `to_row`. KeyError or ValueError for any other row."""
    return [
        Pass(
            Ask(item, one.crop, one.seed, one.greedy),
            Reply(one.output, Frame(*one.resized), one.error, one.seconds, one.num_tokens),
        )
        for one in _PASSES.validate_python(row["passes"])
    ]


def not_asked(item: Item) -> Pass:
    """The one failed pass of an item whose image no model can be shown."""
    return Pass(Ask(item), Reply(None, item.frame, item.problem or "not asked"))


def failure(passes: Iterable[Pass]) -> str | None:
    """Why an item has no answer: the error of its first failed call."""
    return next((one.reply.error for one in passes if one.reply.output is None), None)


def load(store: Store, items: Mapping[str, Item]) -> dict[str, list[Pass]]:
    """All answers so far, by item; where a call failed and a later one did not, the answer."""
    found: dict[str, list[Pass]] = {}
    for own, passes in store.rows(items, lambda row: from_row(row, items[row["id"]])):
        if failure(passes) is None or own not in found:
            found[own] = passes
    return found
