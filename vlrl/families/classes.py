"""Model classes of other libraries, looked up by the names that checkpoints state."""

from __future__ import annotations

from typing import Any


def transformers_class(name: str) -> Any:
    """A class of transformers."""
    import transformers

    return getattr(transformers, name)


def diffusers_class(name: str) -> Any:
    """A class of diffusers; None where the installed version has none of that name."""
    import diffusers

    return getattr(diffusers, name, None)
