"""Who may talk to a reward server: the token, and what an address reaches."""

from __future__ import annotations

import ipaddress
import os

from vlrl.errors import ConfigError

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
    """Whether an address reaches this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
