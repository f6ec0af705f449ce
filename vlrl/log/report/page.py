"""Self-contained HTML pages from the templates next to the code that fills them."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

FOLDER = Path(__file__).parent
BETWEEN_TAGS = re.compile(r">[^\S\n]*+\n\s*+<")
"""White space with a line end in it; possessive, so that long runs of it cost one reading."""


def render(template: str, folder: Path = FOLDER, **values: object) -> Markup:
    """HTML of `<folder>/<template>`; plain values are escaped, Markup is inserted unescaped.

    Templates of other folders may extend `page.html.j2` of this one.
    """
    html = _environment(folder).get_template(template).render(values)
    # Lines and indentation are for whoever reads the template.
    return Markup(BETWEEN_TAGS.sub("><", html).strip())


@cache
def _environment(folder: Path) -> Environment:
    loader = FileSystemLoader([folder, FOLDER])
    return Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
