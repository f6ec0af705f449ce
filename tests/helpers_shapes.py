"""The check of types and shapes that tests run under; see `--jaxtyping-packages` in the project."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
"""An int is a float, as for every type checker."""
