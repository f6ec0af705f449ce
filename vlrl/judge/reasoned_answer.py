"""Reading what a reasoning judge wrote, in UnifiedReward-Think's format (arXiv 2505.03318).

    <think>
    1. Semantic consistency: Image 1 (8/10) - ...; Image 2 (5/10) - ...
    2. ...
    Total score: Image 1: 8+7=15, Image 2: 5+6=11
    </think>
    <answer>Image 1 is better</answer>

Three differences from the released parser: text after the closing tag is not well-formed, a
missing tag does not fall back to the whole text, and a verdict against the judge's own scores is
flagged.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from vlrl.families.thinking import first_thought

NOUNS = ("Image", "Video", "Answer", "Response", "Picture")
"""What is compared, as written before its number."""
_NOUN = "(?:" + "|".join(NOUNS) + ")"
_VERDICT = re.compile(rf"{_NOUN} ([12]) is better\.?", re.IGNORECASE)
# Possessive throughout, so that no text makes them slow.
_SCORE = re.compile(
    rf"{_NOUN} ([12])\s*+\(\s*+([0-9]++(?:\.[0-9]++)?+)\s*+/\s*+10\s*+\)", re.IGNORECASE
)
_NUMBERING = re.compile(r"[0-9]++[.)]")


@dataclass(frozen=True)
class JudgeAnswer:
    """What could be read."""

    verdict: int | None
    """1 or 2: which one is better; None where no verdict can be read."""
    well_formed: bool
    """Exactly a think block and an answer block with one of the two verdicts, and nothing else."""
    scores: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Dimension to (first, second), 0 to 10, in order."""

    @property
    def totals(self) -> tuple[float, float] | None:
        """Sums of the scores; None where there are none."""
        if not self.scores:
            return None
        return sum(a for a, _ in self.scores.values()), sum(b for _, b in self.scores.values())

    @property
    def contradicts(self) -> bool:
        """Whether the verdict goes against the sum of its own scores; equal sums contradict
        nothing."""
        totals = self.totals
        if totals is None or self.verdict is None or totals[0] == totals[1]:
            return False
        return self.verdict != (1 if totals[0] > totals[1] else 2)


def parse_judge_answer(text: str) -> JudgeAnswer:
    """Verdict, format and scores of an answer; never raises on any text.

    The verdict is that of the last answer block; without one there is none.
    """
    answer = _last_block(text)
    found = None if answer is None else _VERDICT.fullmatch(answer.strip())
    verdict = int(found.group(1)) if found else None
    thought = first_thought(text)
    scores = {} if thought is None else _scores(thought.text)
    return JudgeAnswer(verdict, verdict is not None and _is_shaped(text), scores)


def _last_block(text: str) -> str | None:
    """What the last answer block holds; None without one."""
    found, end = None, 0
    while (start := text.find("<answer>", end)) >= 0:
        end = text.find("</answer>", start)
        if end < 0:
            break
        found = text[start + len("<answer>") : end]
    return found


def _is_shaped(text: str) -> bool:
    """Whether the text is a think block and an answer block, nothing between or around them."""
    # One block of each: a second one inside would leave open which counts.
    if text.count("<think>") != 1 or text.count("<answer>") != 1:
        return False
    think, _, answer = text.strip().partition("<answer>")
    return (
        think.startswith("<think>")
        and think.removeprefix("<think>").rstrip().endswith("</think>")
        and answer.endswith("</answer>")
    )


def _scores(think: str) -> dict[str, tuple[float, float]]:
    scores: dict[str, tuple[float, float]] = {}
    for number, line in enumerate(think.split("\n"), start=1):
        given = {which: float(value) for which, value in _SCORE.findall(line)}
        if given.keys() == {"1", "2"} and all(0 <= value <= 10 for value in given.values()):
            key = _name(line) or f"line {number}"
            if key in scores:
                key = f"{key} ({number})"
            scores[key] = (given["1"], given["2"])
    return scores


def _name(line: str) -> str:
    """What a line of scores is about: the text before its colon without number and stars."""
    head, colon, _ = line.partition(":")
    head = head.strip()
    numbering = _NUMBERING.match(head)
    rest = head if numbering is None else head[numbering.end() :]
    name = rest.strip().lstrip("*").strip().rstrip("*").rstrip() or head
    return "" if "*" in name or not colon else name


def swapped(text: str) -> str:
    """The text with the two candidates' numbers swapped, tags and scores unchanged."""
    pattern = re.compile(rf"({_NOUN} )([12])(?![0-9])", re.IGNORECASE)
    return pattern.sub(lambda m: m.group(1) + ("2" if m.group(2) == "1" else "1"), text)
