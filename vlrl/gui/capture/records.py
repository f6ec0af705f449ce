"""The records of a grounding set: one element, one screen, one row."""

from dataclasses import asdict, dataclass, field
from typing import Any

Box = tuple[int, int, int, int]

KINDS = ("label", "icon", "appearance", "region")
ELEMENT_TYPES = ("text", "icon", "input")
PLATFORMS = ("web", "mobile", "desktop")


@dataclass(frozen=True)
class Group:
    """The list, menu or toolbar that an element is in; `box` in pixels, xyxy."""

    id: int
    kind: str
    box: Box
    # Whether items may lie out of sight before the first or after the last visible one.
    more_before: bool = False
    more_after: bool = False


@dataclass
class Element:
    """One visible interactive element; `box` in pixels of the screenshot, xyxy."""

    box: Box
    role: str
    name: str
    text: str
    element_type: str
    source: str = "text"
    icons: list[str] = field(default_factory=list)
    picture: bool = False
    row: str = ""
    group: Group | None = None
    text_colour: str = ""
    fill_colour: str = ""
    disabled: bool = False
    # Why the element may be counted but not asked for ("" = usable).
    dropped: str = ""

    @property
    def centre(self) -> tuple[float, float]:
        """Middle of the box, in pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        return self.box[2] - self.box[0], self.box[3] - self.box[1]


@dataclass(frozen=True)
class Screen:
    """One screenshot; sizes in pixels, `scroll` in pixels from the top of the page."""

    id: str
    image: str
    image_size: tuple[int, int]
    app: str
    platform: str
    viewport: tuple[int, int]
    page: str
    scroll: int
    theme: str
    split: str = "train"

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for screens.jsonl."""
        return asdict(self)


@dataclass(frozen=True)
class Row:
    """One instruction for one element of one screen; `bbox` in pixels, xyxy."""

    id: str
    image: str
    image_size: tuple[int, int]
    instruction: str
    bbox: Box
    kind: str
    element_type: str
    role: str
    name: str
    app: str
    platform: str
    screen: str
    familiar: bool | None = None
    """Held-out rows: training shows an element of the same application, name, role and place
    (a menu that every page repeats); None in the other splits."""

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for a split's JSON lines file."""
        return {key: value for key, value in asdict(self).items() if value is not None}
