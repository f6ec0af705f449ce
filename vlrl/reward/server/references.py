"""Reference images on the server: sent ones in a temporary folder, own ones below a root."""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from vlrl.reward.server.wire_images import WireError, checked_file


class ReferenceStore:
    """Files under their SHA-256, so that a reward may keep features by path."""

    def __init__(self, folder: Path, root: Path | None, max_bytes: int, max_pixels: int) -> None:
        self.folder, self.root = folder, root
        self.max_bytes, self.max_pixels = max_bytes, max_pixels
        self._lock = threading.Lock()
        self._sizes: OrderedDict[Path, int] = OrderedDict()
        """Bytes of every kept file, the longest unused first."""
        self._users: Counter[Path] = Counter()

    def lease(self, files: Mapping[str, str]) -> Lease:
        """Access for one request with its sent `files`; what it names stays until it ends."""
        return Lease(self, files)

    def keep(self, digest: str, text: str, field: str) -> Path:
        """The path of a sent file, for one more user; raises WireError if not an image."""
        data, ending = checked_file(digest, text, field, self.max_pixels)
        path = self.folder / f"{digest}{ending}"
        with self._lock:
            if path not in self._sizes:
                part = path.with_suffix(".part")
                part.write_bytes(data)
                os.replace(part, path)
                self._sizes[path] = len(data)
            self._sizes.move_to_end(path)
            self._users[path] += 1
        return path

    def release(self, paths: list[Path]) -> None:
        """One user less; then the oldest unused files go until the rest fits."""
        with self._lock:
            self._users.subtract(paths)
            total = sum(self._sizes.values())
            for path in [p for p in self._sizes if not self._users[p]]:
                if total <= self.max_bytes:
                    break
                total -= self._sizes.pop(path)
                self._users.pop(path, None)
                path.unlink(missing_ok=True)

    def own(self, path: str, field: str) -> str:
        """An image of the server's own folder; raises WireError for anything outside it."""
        if self.root is None:
            raise WireError("the server has no `references:` folder, so images must be sent", field)
        try:
            found = (self.root / path).resolve(strict=True)
        except (OSError, ValueError, RuntimeError):
            found = None
        # One message for both: clients must not learn what is outside the folder.
        if found is None or not found.is_relative_to(self.root) or not found.is_file():
            raise WireError(f"no image {path!r} in the server's `references:` folder", field)
        return str(found)


class Lease:
    """One request's references; a context, so that they are always released."""

    def __init__(self, store: ReferenceStore, files: Mapping[str, str]) -> None:
        self._store, self._files = store, files
        self._paths: dict[str, Path] = {}

    def __enter__(self) -> Lease:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._store.release(list(self._paths.values()))

    def path_of(self, reference: str, field: str) -> str:
        """The path of `sha256:<hex>` or `path:<path>`; raises WireError."""
        kind, _, name = reference.partition(":")
        if kind == "path":
            return self._store.own(name, field)
        if kind != "sha256":
            raise WireError("a reference is written sha256:<hex> or path:<path>", field)
        if name not in self._files:
            raise WireError(f"`files` has no {name!r}", field)
        if name not in self._paths:
            self._paths[name] = self._store.keep(name, self._files[name], f"files.{name}")
        return str(self._paths[name])
