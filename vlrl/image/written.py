"""How well the text read in an image matches the requested one."""

from __future__ import annotations


def levenshtein(one: str, other: str) -> int:
    """Smallest number of insertions, deletions and substitutions that turn one into the other."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(other, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def plain(text: str) -> str:
    """The text in the form that is compared: without white space, in lower case."""
    return "".join(text.split()).lower()


def written_score(read: str, target: str) -> float:
    """1 - min(distance, L) / L in [0, 1], L the target's length; 1 if the text contains it.

    Source: Flow-GRPO's OCR reward. Raises ValueError where the target has no characters.
    """
    read, target = plain(read), plain(target)
    if not target:
        raise ValueError("the requested text has no characters")
    if target in read:
        return 1.0
    return 1 - min(levenshtein(read, target), len(target)) / len(target)
