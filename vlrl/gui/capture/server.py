"""A static file server on 127.0.0.1, port chosen by the system."""

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

_TYPES = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".woff2": "font/woff2",
}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def guess_type(self, path: str | PathLike[str]) -> str:
        """The media type by ending; some systems map .js to plain text, which browsers refuse."""
        suffix = Path(str(path)).suffix.lower()
        return _TYPES.get(suffix) or super().guess_type(path)

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the progress bar owns the terminal."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A browser that closes a connection early is nothing to report."""


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serves `folder` while the block runs and yields its base URL (ends with a slash)."""
    handler = partial(_Quiet, directory=str(folder))
    with _Server(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/"
        finally:
            server.shutdown()
            thread.join()
