"""Prompts through the text encoders: once, before training, after which the encoders are freed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from vlrl.errors import ConfigError
from vlrl.policy.flow.trajectory import EncodedCaption

Encode = Callable[[Sequence[str]], tuple[Tensor, Tensor]]
MEMORY_LIMIT_BYTES = 4 * 2**30
BATCH_SIZE = 16


class CaptionStore:
    """Encoded prompts, in memory or in a folder that several ranks and runs may share.

    `fingerprint` names the encoders and their settings, so that a folder never mixes two models.
    """

    def __init__(self, folder: str | None, fingerprint: str) -> None:
        self.folder = None if folder is None else Path(folder) / _digest(fingerprint)
        self._kept: dict[str, EncodedCaption] = {}

    def fill(self, texts: Iterable[str], encode: Encode) -> int:
        """Encode what is not there yet; returns how many that were.

        Raises ConfigError where memory would not hold them all.
        """
        missing = [text for text in dict.fromkeys(texts) if not self._has(text)]
        for start in range(0, len(missing), BATCH_SIZE):
            batch = missing[start : start + BATCH_SIZE]
            context, pooled = encode(batch)
            if start == 0 and self.folder is None:
                self._check_size(len(missing), context[0], pooled[0])
            for row, text in enumerate(batch):
                self._put(text, EncodedCaption(context[row].cpu(), pooled[row].cpu()))
        return len(missing)

    def __getitem__(self, text: str) -> EncodedCaption:
        if text in self._kept:
            return self._kept[text]
        if self.folder is not None and self._path(text).is_file():
            state = load_file(self._path(text))
            return EncodedCaption(state["context"], state["pooled"])
        raise ConfigError(
            f"the prompt {text!r} was not encoded before training, and the text encoders are gone; "
            "pass its sample to policy.prepare"
        )

    def _has(self, text: str) -> bool:
        return text in self._kept or (self.folder is not None and self._path(text).is_file())

    def _put(self, text: str, encoded: EncodedCaption) -> None:
        if self.folder is None:
            self._kept[text] = EncodedCaption(encoded.context.clone(), encoded.pooled.clone())
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path(text)
        # Ranks may write the same prompt at the same time: each its own file, then one rename.
        aside = path.with_suffix(f".{os.getpid()}")
        tensors = {"context": encoded.context, "pooled": encoded.pooled}
        save_file({name: t.contiguous() for name, t in tensors.items()}, aside)
        os.replace(aside, path)

    def _path(self, text: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{_digest(text)}.safetensors"

    def _check_size(self, count: int, context: Tensor, pooled: Tensor) -> None:
        size = count * (context.nbytes + pooled.nbytes)
        if size > MEMORY_LIMIT_BYTES:
            raise ConfigError(
                f"policy: {count} encoded prompts take {size / 2**30:.0f} GiB of memory a rank; "
                "set policy.prompt_cache to a folder, or policy.max_prompt_tokens lower"
            )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
