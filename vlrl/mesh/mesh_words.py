"""Voxel codes in a model's answer: how they are read, and what happens if their number is wrong.

Text form: `<mesh-start><mesh12><mesh7>...<mesh-end>`, as ShapeLLM-Omni writes them. Rules:

- a block runs from its start to its end; without an end, to the end of the text;
- anything that is not a code of the codebook is skipped;
- too few codes are padded with the last one, too many are cut off (the released parsers pad too,
  but crash on none and on too many);
- without any code there is no object;
- of several blocks the first counts.

Each of these leaves a `fault`: the object is scored, but it is not well formed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

START, END = "<mesh-start>", "<mesh-end>"
MARK = "<mesh"
"""How every word of a mesh begins."""
_TOKEN = re.compile(r"<mesh(-start|-end|[0-9]+)>")


@dataclass(frozen=True)
class MeshCodes:
    """The codes of one object."""

    values: tuple[int, ...]
    """Exactly as many as an object has; empty if there is no object."""
    fault: str
    """What was wrong with them; empty if nothing was."""


def fit_codes(
    found: Sequence[int], num_tokens: int, num_codes: int, *, is_closed: bool = True
) -> MeshCodes:
    """Sampled codes, made exactly `num_tokens` by the rules above."""
    faults = [] if is_closed else ["no end"]
    values = [code for code in found if 0 <= code < num_codes]
    if len(values) < len(found):
        faults.append(f"{len(found) - len(values)} that are no codes")
    if not values:
        return MeshCodes((), ", ".join([*faults, "no codes"]))
    if len(values) != num_tokens:
        faults.append(f"{len(values)} codes for {num_tokens}")
    values = (values + [values[-1]] * (num_tokens - len(values)))[:num_tokens]
    return MeshCodes(tuple(values), ", ".join(faults))


def read_codes(text: str, num_tokens: int, num_codes: int) -> MeshCodes:
    """The codes of the first object in a text; never raises."""
    tokens = list(_TOKEN.finditer(text))
    first = next((i for i, match in enumerate(tokens) if match[1] == "-start"), None)
    if first is None:
        return MeshCodes((), "no start")
    codes: list[int] = []
    is_closed = False
    strange = False
    place = tokens[first].end()
    rest = tokens[first + 1 :]
    for match in rest:
        strange = strange or bool(text[place : match.start()].strip())
        place = match.end()
        if match[1] == "-end":
            is_closed = True
            break
        # int() raises for very many digits; no codebook has ten-digit codes.
        codes.append(int(match[1]) if match[1].isdecimal() and len(match[1]) < 10 else -1)
    found = fit_codes(codes, num_tokens, num_codes, is_closed=is_closed)
    faults = [found.fault] if found.fault else []
    if strange:
        faults.append("words between codes")
    if sum(match[1] == "-start" for match in tokens) > 1:
        faults.append("several objects")
    return MeshCodes(found.values, ", ".join(faults))


def write_codes(values: Sequence[int]) -> str:
    """The text form of an object's codes."""
    return START + "".join(f"<mesh{value}>" for value in values) + END
