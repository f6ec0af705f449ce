"""Addresses of servers: what may be in them, and how messages show them."""

from __future__ import annotations


def shown(url: str) -> str:
    """The address for messages: what comes before the last `@` is masked, and the query.

    Also where it is no address, as without a scheme: a password in it is still one.
    """
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    head, at, tail = rest.rpartition("@")
    place, secret = tail, ""
    for sign in "?#":
        before, found, _ = place.partition(sign)
        place, secret = before, f"{sign}***" if found else secret
    return f"{scheme}{mark}{'***@' if at and head else ''}{place}{secret}"


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
