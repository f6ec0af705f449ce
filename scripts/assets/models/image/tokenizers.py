"""Small CLIP and T5 tokenizers, trained on the captions themselves."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import CLIPTokenizer, T5Tokenizer

CLIP_SPECIAL = ("<|startoftext|>", "<|endoftext|>")
T5_SPECIAL = ("<pad>", "</s>", "<unk>")


def clip_tokenizer(captions: Sequence[str], vocab_size: int, max_tokens: int) -> CLIPTokenizer:
    """Byte-level BPE with CLIP's end-of-word marks; every byte stays in the vocabulary."""
    tokenizer = Tokenizer(BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(), _bytes()]
    )
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = BpeTrainer(
        vocab_size=vocab_size - len(CLIP_SPECIAL),
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab = dict(model["vocab"])
    for letter in alphabet:
        vocab.setdefault(f"{letter}</w>", len(vocab))
    for token in CLIP_SPECIAL:
        vocab[token] = len(vocab)
    return CLIPTokenizer(
        vocab=vocab,
        merges=[tuple(merge) for merge in model["merges"]],  # type: ignore[misc]
        model_max_length=max_tokens,
    )


def t5_tokenizer(captions: Sequence[str], max_tokens: int) -> T5Tokenizer:
    """Unigram pieces: every word of the captions whole, and every letter for other words.

    Scores are log-frequencies, so a known word is always one piece: so few distinct captions
    would mislead the usual training, which keeps what repeats across words.
    """
    counts = Counter(f"▁{word}" for caption in captions for word in caption.split())
    total = sum(counts.values())
    pieces = [(token, 0.0) for token in T5_SPECIAL]
    pieces += [(word, math.log(count / total)) for word, count in sorted(counts.items())]
    letters = sorted({"▁"} | {letter for caption in captions for letter in caption})
    rare = math.log(1 / total) - 10
    pieces += [(letter, rare) for letter in letters if letter != " " and letter not in counts]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=max_tokens)


def _bytes() -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
