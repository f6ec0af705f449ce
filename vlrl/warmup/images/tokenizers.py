"""Small CLIP and T5 tokenizers, trained on the captions themselves."""

from __future__ import annotations

import json
from collections.abc import Sequence

from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer, UnigramTrainer
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


def t5_tokenizer(captions: Sequence[str], vocab_size: int, max_tokens: int) -> T5Tokenizer:
    """Unigram pieces over the captions' own letters."""
    tokenizer = Tokenizer(Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    trainer = UnigramTrainer(
        vocab_size=vocab_size,
        special_tokens=list(T5_SPECIAL),
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    pieces = [tuple(piece) for piece in json.loads(tokenizer.to_str())["model"]["vocab"]]
    return T5Tokenizer(vocab=pieces, extra_ids=0, model_max_length=max_tokens)


def _bytes() -> pre_tokenizers.ByteLevel:
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
