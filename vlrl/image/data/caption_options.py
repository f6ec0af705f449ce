"""The `task:` options that all tasks with captions share."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from vlrl.config.section import Section
from vlrl.families.literal import literal

MARK = "{caption}"


class CaptionTaskOptions(Section):
    """The prompt that a caption becomes, what reports group by, and how bad rows are handled."""

    prompt_template: str = MARK
    """The policy's prompt, e.g. "{caption}, flat emoji style"; rewards see the caption."""
    labels: tuple[str, ...] = ()
    """Row fields that reports group by, e.g. [colour]; GenEval's is `tag`, MME-3DR's `category`."""
    on_bad_row: Literal["error", "skip"] = "error"

    @field_validator("prompt_template")
    @classmethod
    def _has_caption(cls, template: str) -> str:
        if MARK not in template:
            raise ValueError(f"the prompt template needs {MARK} where the caption goes")
        return template

    def prompt(self, caption: str) -> str:
        """The policy's prompt; plain replacement, since both texts may hold braces of their own."""
        return self.prompt_template.replace(MARK, literal(caption))
