"""Texts as counts of their letter triples."""

from __future__ import annotations

import zlib

import numpy as np

from vlrl.reward.novelty.features import Features
from vlrl.types import Rollout

NUM = 256


def letter_triples(rollout: Rollout) -> np.ndarray | None:
    """Square roots of the counts of letter triples, hashed to 256 numbers; case is ignored."""
    if not isinstance(rollout.output, str):
        return None
    words = " ".join(rollout.output.lower().split())
    counts = np.zeros(NUM)
    for i in range(len(words)):
        counts[zlib.crc32(words[i : i + 3].encode("utf-8", "surrogatepass")) % NUM] += 1
    return np.sqrt(counts)


text_features = Features(letter_triples, NUM)
