"""From preferences to questions with known answers."""

from __future__ import annotations

import random
from dataclasses import dataclass

from vlrl.errors import DataError
from vlrl.judge.data.preference import Preference
from vlrl.judge.interfaces import Tokenizer
from vlrl.judge.question import Ask, ImageBook, Questions


@dataclass(frozen=True)
class Item:
    """A question and its target answer."""

    ask: Ask
    completion: str


def items_of(
    pair: Preference,
    questions: Questions,
    book: ImageBook,
    *,
    both_orders: bool,
    single: bool,
    rng: random.Random,
) -> list[Item]:
    """The questions that a pair gives: in both orders, in one at random, or one per candidate.

    A rationale belongs to the order that it was written for, so such a pair is used in that order
    only, and the whole rationale is learnt. The same holds for a complete `answer` as
    scripts/sample_judgements.py writes it, whose `verdict` is 1 or 2.
    """
    template = questions.template
    yes, no = template.yes[0], template.no[0]
    if pair.preferred == 0:
        raise DataError(f"{pair.where}: a tie has no answer; set `ties: drop`")
    if isinstance(pair.fields.get("answer"), str):
        first, second = pair.chosen, pair.rejected
        if pair.fields.get("verdict") == 2:
            first, second = second, first
        ask = questions.compare(book, pair.caption, first, second)
        return [Item(ask, pair.fields["answer"])]
    if single:
        return [
            Item(questions.single(book, pair.caption, pair.chosen), yes),
            Item(questions.single(book, pair.caption, pair.rejected), no),
        ]
    if pair.reasoning:
        ask = questions.compare(book, pair.caption, pair.first, pair.second)
        word = yes if pair.preferred == 1 else no
        return [Item(ask, f"{pair.reasoning}\n{template.cue} {word}")]
    orders = [
        Item(questions.compare(book, pair.caption, pair.chosen, pair.rejected), yes),
        Item(questions.compare(book, pair.caption, pair.rejected, pair.chosen), no),
    ]
    return orders if both_orders else [rng.choice(orders)]


def encode_completion(tokenizer: Tokenizer, text: str) -> list[int]:
    """Tokens of a target answer; with an end token where it is more than one token."""
    tokens = tokenizer.encode(text, add_special_tokens=False)
    return tokens if len(tokens) == 1 else [*tokens, tokenizer.eos_token_id]
