"""Which tokens say yes and which say no."""

from __future__ import annotations

from vlrl.errors import RewardError
from vlrl.judge.interfaces import Tokenizer
from vlrl.judge.yes_token import spellings


def token_ids(tokenizer: Tokenizer, words: tuple[str, ...], what: str) -> list[int]:
    """Ids of all spellings that are one token; RewardError where there is none.

    A word that no single token spells would silently have probability 0.
    """
    ids: set[int] = set()
    for form in spellings(words):
        tokens = tokenizer.encode(form, add_special_tokens=False)
        if len(tokens) == 1:
            ids.add(int(tokens[0]))
    if not ids:
        raise RewardError(
            f"no spelling of {' / '.join(words)!r} is a single token of this judge's vocabulary; "
            f"set `template: {{{what}: [...]}}` to a word that is"
        )
    return sorted(ids)


def check_apart(yes: list[int], no: list[int]) -> None:
    """RewardError where a token is in both."""
    both = sorted(set(yes) & set(no))
    if both:
        raise RewardError(f"tokens {both} mean both yes and no; change `template: yes, no`")
