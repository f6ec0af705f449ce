"""Instruction texts: by label, by meaning of an icon, by looks, by place or order."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from vlrl.gui.capture.colours import (
    Pixels,
    Rgb,
    colour_word,
    css_colour,
    distance,
    fill_rgb,
    fill_word,
    ink_word,
)
from vlrl.gui.capture.icons import phrases
from vlrl.gui.capture.names import name_key
from vlrl.gui.capture.places import neighbour_phrases, noun, order_phrases, region_phrases
from vlrl.gui.capture.records import Element

MAX_LENGTH = 60  # characters
ALIKE = 70.0  # RGB distance below which two fills count as one colour

_CLICK = ("click {}", "click on {}", "press {}", "tap {}", "select {}", "{}")
_LABEL: dict[str, tuple[str, ...]] = {
    "link": ('click on "{}"', "open {}", "{} link", 'the "{}" link', "go to {}"),
    "button": ('click "{}"', "press {}", "{} button", 'the "{}" button', "press the {} button"),
    "tab": ("{} tab", 'switch to the "{}" tab', "open the {} tab"),
    "item": ('choose "{}"', "select {}", 'the "{}" item', "pick {}"),
    "field": ("{} field", 'click in the "{}" field', "type into {}", "enter {}"),
    "dropdown": ("{} dropdown", 'open the "{}" list', "change {}"),
    "checkbox": ('tick "{}"', "{} checkbox", 'check the "{}" box'),
    "radio button": ('choose "{}"', "{} option", 'pick the "{}" option'),
    "switch": ('toggle "{}"', "{} switch", "turn {} on or off"),
    "slider": ("{} slider", 'move the "{}" slider'),
}


@dataclass(frozen=True)
class Instruction:
    """One text that points at one element of a screen."""

    index: int
    kind: str
    text: str


def _words(text: str) -> str:
    return " ".join(text.lower().split())


def _pick(rng: random.Random, options: list[str]) -> str:
    fitting = [o for o in options if len(o) <= MAX_LENGTH and o.isascii()]
    return rng.choice(fitting) if fitting else ""


def label_text(element: Element, word: str, rng: random.Random) -> str:
    """'click on "Inbox"' in one of the wordings of its role."""
    forms = _LABEL.get(word, _LABEL["button"])
    return _pick(rng, [form.format(element.name) for form in forms])


def icon_text(element: Element, rng: random.Random) -> str:
    """What the icon does ('log out'), else its name."""
    known = list(phrases(element.name, element.icons))
    name = (
        element.name.lower() if element.name.istitle() or element.name.islower() else element.name
    )
    plain = [f"{name} icon", f"the {name} icon", f"click the {name} icon"]
    # Twice the weight on meaning: the name alone is often just the image's name.
    return _pick(rng, known + known + plain if known else plain)


def _placed(phrase: str, rng: random.Random) -> str:
    return _pick(rng, [form.format(f"the {phrase}") for form in _CLICK])


class ScreenInstructions:
    """All instructions of one screen: uniqueness is judged against every visible element."""

    def __init__(
        self, elements: list[Element], pixels: Pixels, size: tuple[int, int], seed: str
    ) -> None:
        self._elements = elements
        self._size = size
        self._seed = seed
        self._rgb = [fill_rgb(pixels, e.box) for e in elements]
        filled = [rgb is not None for rgb in self._rgb]
        self._nouns = [noun(e, f) for e, f in zip(elements, filled, strict=True)]
        self._fills = [fill_word(pixels, e.box) for e in elements]
        self._styled = [css_colour(e.text_colour) for e in elements]
        self._inks = [self._ink(pixels, e) for e in elements]
        self._filled = filled
        self._keys = [name_key(e.name) for e in elements]
        self._key_counts = Counter(self._keys)
        self._name_counts = dict(Counter(e.name.lower() for e in elements))
        self.dropped: Counter[str] = Counter()

    @staticmethod
    def _ink(pixels: Pixels, element: Element) -> str:
        """Colour word of text or icon where the image and the style sheet agree on it."""
        seen, styled = ink_word(pixels, element.box), css_colour(element.text_colour)
        # A count in a red bubble on a grey bell does not make the bell red.
        return seen if styled is None or colour_word(styled) == seen else ""

    def _alone(self, index: int) -> bool:
        key = self._keys[index]
        return bool(key) and self._key_counts[key] == 1

    def _label(self, index: int, rng: random.Random) -> str:
        element, word = self._elements[index], self._nouns[index]
        if self._alone(index):
            return label_text(element, word, rng)
        twins = [i for i, key in enumerate(self._keys) if key == self._keys[index] and i != index]
        # Twins are told apart by the row they are in, or not at all.
        rows = {name_key(self._elements[i].row) for i in twins}
        row = element.row
        if row and len(row) <= 24 and name_key(row) not in rows and "" not in rows:
            return _pick(rng, [f'{element.name} in the row "{row}"', f'{element.name} of "{row}"'])
        self.dropped["name not unique on the screen"] += 1
        return ""

    def _icon(self, index: int, rng: random.Random) -> str:
        element = self._elements[index]
        if not self._alone(index):
            self.dropped["name not unique on the screen"] += 1
            return ""
        mine = set(phrases(element.name, element.icons))
        for i, other in enumerate(self._elements):
            if i == index:
                continue
            rival = name_key(other.name)
            if mine & set(phrases(other.name, other.icons)) or rival in {name_key(m) for m in mine}:
                self.dropped["icon meaning not unique"] += 1
                return ""
        return icon_text(element, rng)

    def _appearance(self, index: int, rng: random.Random) -> str:
        word = self._nouns[index]
        rivals = [i for i in range(len(self._elements)) if i != index]
        if self._filled[index] and word in ("button", "tab", "item", "icon"):
            shape = "button"
            colour = self._fills[index]
            same = [
                i
                for i in rivals
                if self._near(self._fills[i], colour) or self._close(self._rgb[i], self._rgb[index])
            ]
        elif word in ("link", "item", "icon", "tab", "button"):
            shape = word if word != "button" else "text button"
            colour = self._inks[index]
            if colour in ("black", "white", "gray"):
                return ""
            same = [
                i
                for i in rivals
                if self._near(self._inks[i], colour)
                or self._near(self._fills[i], colour)
                or self._close(self._styled[i], self._styled[index])
            ]
        else:
            return ""
        # Neutral fills are the background of half the page: nobody asks for "the white button".
        if not colour or colour in ("white", "gray") or same:
            return ""
        return _placed(f"{colour} {shape}", rng)

    @staticmethod
    def _close(a: Rgb | None, b: Rgb | None) -> bool:
        """Whether two fills look alike though no word names them (an avatar, a gradient)."""
        return a is not None and b is not None and distance(a, b) < ALIKE

    @staticmethod
    def _near(a: str, b: str) -> bool:
        """Whether two colour words could name the same colour; '' is unclear, so no rival."""
        return bool(a) and bool(b) and a.split()[-1] == b.split()[-1]

    def _region(self, index: int, rng: random.Random) -> str:
        found = order_phrases(index, self._elements, self._size)
        found = found or region_phrases(index, self._elements, self._nouns, self._size)
        near = neighbour_phrases(index, self._elements, self._nouns, self._name_counts)
        if near and (not found or rng.random() < 0.35):
            found = near
        return _placed(rng.choice(found), rng) if found else ""

    def _texts(self, index: int) -> Iterator[tuple[str, str]]:
        element = self._elements[index]
        named = ("icon", self._icon) if element.element_type == "icon" else ("label", self._label)
        for kind, make in (named, ("appearance", self._appearance), ("region", self._region)):
            yield kind, make(index, random.Random(f"{self._seed}/{index}/{kind}"))

    def build(self) -> list[Instruction]:
        """At most one instruction per element and kind; texts unique on the screen."""
        made: list[Instruction] = []
        for index, element in enumerate(self._elements):
            if element.dropped:
                continue
            for kind, text in self._texts(index):
                if text:
                    made.append(Instruction(index, kind, text))
        counts = Counter(_words(m.text) for m in made)
        twice = [m for m in made if counts[_words(m.text)] > 1]
        self.dropped["instruction not unique on the screen"] += len(twice)
        return [m for m in made if counts[_words(m.text)] == 1]
