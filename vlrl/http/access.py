"""Access to a server: the token, which addresses are local, and how a request is refused."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator
from contextlib import contextmanager

from vlrl.errors import ConfigError, MissingExtraError, VlrlError

MIN_TOKEN_CHARS = 16


def read_token(variable: str | None) -> str | None:
    """The token in an environment variable; raises ConfigError where it is missing or weak."""
    if variable is None:
        return None
    token = os.environ.get(variable, "")
    if not token:
        raise ConfigError(f"the environment variable {variable!r}, which holds a token, is not set")
    if len(token) < MIN_TOKEN_CHARS or not token.isascii() or not token.isprintable():
        raise ConfigError(
            f"the token in {variable!r} needs at least {MIN_TOKEN_CHARS} printable ASCII "
            "characters, e.g. from `openssl rand -hex 32`"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether an address is reachable from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_address(host: str, token: str | None) -> None:
    """Raises ConfigError for a server that anyone on the network could use."""
    if token is None and not is_loopback(host):
        raise ConfigError(
            f"--host {host} can be reached from other machines: name a variable that holds a "
            "token with --token-env, or stay on 127.0.0.1"
        )


@contextmanager
def serve_extra(command: str) -> Iterator[None]:
    """Wraps the imports of a server: MissingExtraError where its libraries are not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn"):
            raise
        raise MissingExtraError(
            f"`vlrl {command}` needs starlette and uvicorn: uv pip install -e '.[serve]'"
        ) from error


class RequestError(VlrlError):
    """A request that cannot be answered: the HTTP status, the kind of problem, and the field."""

    def __init__(
        self, message: str, status: int = 400, kind: str = "request", field: str = ""
    ) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.status, self.kind, self.field = status, kind, field
