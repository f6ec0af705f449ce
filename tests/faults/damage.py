"""What happens to files: cut, flipped, swapped, zeroed, of another type, with huge numbers."""

from __future__ import annotations

import random
from collections.abc import Sequence

HUGE = (b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\x00\xff\xff\xff")
"""Sizes as formats declare them, in both orders of bytes."""
TEXTS = (
    b"NaN", b"-Infinity", b"1e999", b"null", b"[", b"{", b'"', b"\\ud800", b"9" * 5000, b"[" * 3000,
    b"\x00", b"\xff\xfe", b"&a *a", b"!!python/object:os.system", b"!!timestamp x", b"!!int ''",
    b"2001-99-99", b"\r\n", b"true", b"-1", b"\xf0\x9f\x92\xa5", b"'", b",", b":", b"<|im_end|>",
)  # fmt: skip
"""What does not belong into most texts."""


def damaged(
    data: bytes, rng: random.Random, others: Sequence[bytes], *, is_text: bool = False
) -> tuple[str, bytes]:
    """(what was done, the damaged file); others: files of other types under this one's name."""
    kinds = ["cut", "flip", "flip", "flips", "swap", "zeros", "doubled", "noise", "huge", "gone"]
    kinds += ["empty", "other type"] if rng.random() < 0.3 else []
    kinds += ["text"] * 6 if is_text else ["header"]
    kind = rng.choice(kinds)
    made = bytearray(data)
    place = rng.randrange(len(data))
    length = rng.randint(1, max(1, len(data) // 4))
    if kind == "cut":
        del made[place:]
    elif kind == "flip":
        made[place] ^= 1 << rng.randrange(8)
    elif kind == "flips":
        for _ in range(rng.randint(2, 30)):
            made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    elif kind == "swap":
        other = rng.randrange(len(data))
        first, second = data[place : place + length], data[other : other + length]
        made[place : place + length], made[other : other + length] = second, first
    elif kind == "zeros":
        made[place : place + length] = bytes(len(made[place : place + length]))
    elif kind == "doubled":
        made[place:place] = data[place : place + length]
    elif kind == "noise":
        made[place : place + length] = rng.randbytes(length)
    elif kind == "huge":
        made[place : place + 4] = rng.choice(HUGE)
    elif kind == "header":
        place = rng.randrange(min(64, len(data)))
        made[place : place + 4] = rng.choice(HUGE)
    elif kind == "gone":
        del made[place : place + length]
    elif kind == "text":
        made[place : place + rng.choice((0, 0, 1, 4))] = rng.choice(TEXTS)
    else:
        made = bytearray(b"" if kind == "empty" else rng.choice(list(others)))
    return f"{kind} at {place}", bytes(made)
