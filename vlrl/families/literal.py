"""Text of the data's or of a model's in a prompt: its characters, never a family's marks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MARKS = ("<|", "<｜")
"""How the marks of turns and images begin in the chat templates of Qwen, Llama and DeepSeek."""


def literal(text: str, tokens: Iterable[str] = (), *, marks: Sequence[str] = MARKS) -> str:
    """The text with a space in every control mark, and in each of `tokens`: `< |im_end|>`.

    A mark in an instruction would end the turn, forge another one, or ask for an image. The space
    does the same in every family, here and on a server whose tokenizer is out of reach.
    """
    for mark in (*marks, *(token for token in tokens if len(token) > 1)):
        text = text.replace(mark, f"{mark[0]} {mark[1:]}")
    return text
