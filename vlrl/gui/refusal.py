"""How models say that there is nothing to click.

Sources: both coordinates negative (lmms-eval; [-1,-1] in UI-Venus), the computer-use action
`terminate` (cua grounding harness), null coordinates (Holo), and `"result": "negative"`
(ScreenSpot-Pro's negatives). An answer without any place is none of
these: OSWorld-G's own code takes it for [0, 0, 0, 0], which must not count.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vlrl.families.profiles import Profile
from vlrl.families.thinking import strip_thinking
from vlrl.geometry.boxes import Box, Frame
from vlrl.gui.answers import Candidate, candidates
from vlrl.gui.verdict import Answer, Refusal

# Possessive throughout, so that no text makes them slow.
_TERMINATE = re.compile(r"""["']action["']\s*+:\s*+["']terminate["']""")
_NULL = re.compile(
    r"""["'](?:x|bbox_2d|point_2d|bbox|point|coordinate|coordinates)["']\s*+:\s*+null\b"""
)
_NEGATIVE = re.compile(r"""["']result["']\s*+:\s*+["']negative["']""")
_SIGNS = (_TERMINATE, _NULL, _NEGATIVE)


def is_refusal(text: str, places: Sequence[Candidate], words: Sequence[str] = ()) -> bool:
    """Whether an answer says that the target is not there.

    `places` are those read in the same text; `words` are further texts that mean a refusal,
    compared without case, for prompts that ask for one.
    """
    if places:
        return all(value < 0 for value in places[0].values)
    said = strip_thinking(text)
    if any(sign.search(said) is not None for sign in _SIGNS):
        return True
    low = said.casefold()
    return any(word.casefold() in low for word in words)


def read_click(
    text: str, profile: Profile, resized: Frame, words: Sequence[str] = ()
) -> tuple[Answer, Box | None]:
    """The click of an answer and the box it came from, in the profile's frame."""
    places = candidates(text, profile)
    if is_refusal(text, places, words):
        return Refusal(), None
    if not places:
        return None, None
    place = places[0].on(profile.frame(resized))
    return (place.centre, place) if isinstance(place, Box) else (place, None)
