"""Special tokens that may end an answer."""

from __future__ import annotations

END_TOKENS = (
    "<|im_end|>",
    "<|endoftext|>",
    "<|eot_id|>",
    "<|end|>",
    "<|return|>",
    "</s>",
    "<eos>",
    "<end_of_turn>",
    "[EOS]",
)


def strip_ends(text: str) -> str:
    """The answer without white space and special end tokens around it."""
    end = len(text)
    shorter = True
    while shorter:  # moves an index: cutting the text once per token would be quadratic
        shorter = False
        while end and text[end - 1].isspace():
            end -= 1
        for token in END_TOKENS:
            if text.endswith(token, 0, end):
                end -= len(token)
                shorter = True
    return text[:end].lstrip()
