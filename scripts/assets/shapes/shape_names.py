"""Names of the embedded models: their makers' names, merged into classes."""

from __future__ import annotations

import re
import unicodedata

CLASSES: tuple[tuple[str, str], ...] = (
    ("armchair", r"armchair"),
    ("stool", r"\bstool|ottoman|\bpuff\b"),
    ("sofa", r"sofa|couch"),
    ("bench", r"bench\b|\bbank\b"),
    ("coffee table", r"coffee table|technical table"),
    ("nightstand", r"bedside table|tv stand"),
    ("desk", r"\bdesk\b(?! lamp)"),
    ("lamp", r"lamp\b|lantern|lamppost|street light|outdoor light|pendant|porch light"),
    ("chair", r"chair\b|\bseat\b(?! leon)"),
    ("table", r"table\b(?!t)(?! tennis| fan)"),
    ("bed", r"\bbed\b|\bcrib\b|\bfuton\b"),
    ("shelf", r"shelves|bookcase|\brack\b"),
    ("cabinet", r"cabinet|cupboard|wardrobe|dresser|locker"),
    ("tree", r"tree|pine\b|poplar|cypress|maple|beech|acacia|bamboo"),
    ("plant", r"plant\b|flower|tulip|orchid|lily|yucca|ficus|cactus|spathi|\bbush\b"),
    ("bottle", r"bottle|flacon"),
    ("vase", r"vase|\bjar\b|pottery"),
    ("cup", r"\bcup\b|\bglass\b(?! door| table)|mug"),
    ("bowl", r"\bbowl\b|plate\b"),
    ("car", r"\bcar\b|sedan|renault|peugeot|focus|chevrolet|beetle|\bsuv\b|leon"),
    ("truck", r"truck|\bbus\b|\bvan\b"),
    ("bike", r"bike|bicycle|scooter|tricycle|yamaha"),
    ("window", r"window"),
    ("door", r"door"),
    ("sink", r"basin|\bsink\b|lavatory|vanity"),
    ("toilet", r"toilets? unit|^toilet$|urinal|bidet|modern toilet"),
    ("bathtub", r"\bbath\b|bathtub|jacuzzi"),
    ("oven", r"oven|cooker|stove|washing machine|dryer machine"),
    ("fridge", r"fridge|refrigerator|freezer"),
    ("person", r"male|female|\bboy\b|\bgirl\b|mannequin"),
    ("animal", r"\bcat\b|\bdog\b|horse\b|deer|rabbit|bulldog"),
    ("box", r"\bbox\b|\bcrate\b|\bchest\b|container"),
    ("television", r"\btv\b|television|screen|monitor|imac"),
    ("socket", r"plug|switch|socket"),
    ("railing", r"railing|fence|hedge"),
    ("radiator", r"radiator"),
    ("towel", r"towel"),
    ("shirt", r"dress|skirt|jacket|trousers|short\b|clothes"),
)
"""(class, pattern of the maker's name), first match wins."""


def clean(name: str) -> str:
    """Lower case, plain letters, without a number at the end."""
    # The catalogue is a Java properties file: accents are escaped.
    name = re.sub(r"\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1], 16)), name)
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^a-z0-9 '-]+", " ", plain.lower())
    return re.sub(r"\s*\d+\S*$", "", plain).strip() or "thing"


def class_of(name: str) -> str | None:
    """The class of a cleaned name; None if no class matches."""
    return next((word for word, pattern in CLASSES if re.search(pattern, name)), None)
