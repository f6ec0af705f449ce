"""Addresses of servers: what may be in them, and how messages show them."""

from __future__ import annotations


def shown(url: str) -> str:
    """The address for messages: what comes before the last `@` is masked, and the query."""
    scheme, mark, rest = url.partition("://")
    head, at, tail = rest.rpartition("@")
    place, asked, query = tail.partition("?")
    return f"{scheme}{mark}{'***@' if at and head else ''}{place}{'?***' if query else asked}"


def check_address_text(url: str) -> str:
    """The address itself; raises ValueError where it holds a password, a query or a fragment.

    A saved config must run again, so nothing in it can be masked: secrets stay in the environment.
    """
    if any(mark in url for mark in "@?#"):
        raise ValueError(
            "an address has no user name, password, query or fragment, as it is saved with the "
            "config and shown in messages; put the key into an environment variable and name "
            "that (token_env, api_key_env)"
        )
    return url
