"""The question that goes with a coordinate profile, where the user gives none.

GUI-G2's is the published one. The others ask plainly for the profile's own notation: a model's
published score needs its published prompt, given by --prompt or in the checkpoint's vlrl.json.
"""

from __future__ import annotations

from vlrl.families.profiles import GUI_G2_QUESTION, Profile
from vlrl.gui.syntax import SYNTAXES

SCALE_WORDS = {
    "resized_px": "in pixels of the image",
    "thousand": "scaled to 0-1000 on both axes",
    "nine_ninety_nine": "scaled to 0-999 on both axes",
    "unit": "as fractions of the image's width and height, from 0 to 1",
}


def question_for(profile: Profile) -> str:
    """A prompt with {instruction} that asks for the profile's notation and scale."""
    if profile.name == "gui_g2":
        return GUI_G2_QUESTION
    names = ("x1", "y1", "x2", "y2") if profile.kind == "box" else ("x", "y")
    shape = SYNTAXES[profile.syntax].template
    for name in names:
        shape = shape.replace("#", name, 1)
    what = "bounding box" if profile.kind == "box" else "point to click"
    return (
        f"Find the element for this instruction and give its {what}, "
        f"{SCALE_WORDS[profile.scale]}.\nInstruction: {{instruction}}\n"
        f"Answer with only: {shape}"
    )
