"""Cleaning of element names and reasons to refuse them."""

import re
import unicodedata

MAX_NAME = 40  # characters; longer names are sentences, not labels
MAX_RAW = 2_000  # characters; beyond them a page's text is cut before it is cleaned

_REPLACE = {
    "\u2019": "'", "\u2018": "'", "\u201c": '"', "\u201d": '"', "\u2013": "-", "\u2014": "-",
    "\u2026": "...", "\u00a0": " ", "\u00b7": "-",
}  # fmt: skip
_SHORTCUT = re.compile(r"\s*\((?:(?:Ctrl|Alt|Shift|Cmd|Accel|F\d+)[^)]*)\)\s*$", re.IGNORECASE)
_SHORTCUT_BARE = re.compile(r"\s+(?:(?:Ctrl|Alt|Shift|Cmd|Accel)\s?\+\s?)+\S+$|\s+F\d{1,2}$")
# Names that say only that something is an image.
_EMPTY_NAMES = {"icon", "image", "img", "logo", "picture", "svg", "button", "link", "..."}
_LETTERS = re.compile(r"[A-Za-z]")
# Font icons sit in the private use area; they are images, not text.
_PRIVATE = re.compile("[\ue000-\uf8ff]")


def clean_name(raw: str) -> str:
    """A name in plain ASCII with single spaces; '' if it cannot be written so."""
    text = _PRIVATE.sub("", raw[:MAX_RAW])
    for old, new in _REPLACE.items():
        text = text.replace(old, new)
    text = unicodedata.normalize("NFKD", text)
    # Combining marks go; arrows, emoji and bullets at the ends go too.
    text = "".join(c for c in text if not unicodedata.combining(c))
    text = re.sub(r"^[^\x20-\x7e]+|[^\x20-\x7e]+$", "", text.strip())
    text = _SHORTCUT.sub("", " ".join(text.split())).strip()
    text = re.sub(r"(?<=\w)\s*\[[^\]]*\]$", "", text)
    text = text.removesuffix("(current)").strip()
    text = _SHORTCUT_BARE.sub("", text).strip()
    return text if text.isascii() else ""


def refuse_name(name: str) -> str:
    """Why a cleaned name is not a label ('' = it is one)."""
    if not name:
        return "no name"
    if len(name) > MAX_NAME:
        return "name too long"
    letters = len(_LETTERS.findall(name))
    if letters == 0:
        return "name is a number or a symbol"
    if letters < 2 and len(name) < 3:
        return "name too short"
    if letters < 0.4 * len(name.replace(" ", "")):
        return "name is a number or a symbol"
    if name.lower() in _EMPTY_NAMES:
        return "name says nothing"
    if re.search(
        r"https?://|~/|[{}<>\\]|lorem ipsum|^\w+[.:]\w*_\w*|:buttons", name, re.IGNORECASE
    ):
        return "name is code or filler"
    return ""


def name_key(name: str) -> str:
    """The name without case and punctuation: two equal keys look the same to a reader."""
    return " ".join(re.findall(r"[a-z0-9+]+", name.lower()))
