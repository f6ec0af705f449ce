"""The concepts and words of the embedded text-to-image set, and how captions name them."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

SEED = "images 1"
"""Changes which concepts and words are new, and which colours are held out."""

# "name" or "name = Fluent icon" where the icon has another name. Chosen by eye among the 853
# that both packages draw: no people, faces, heads, flags, clock faces, moon phases or framed
# scenes, nothing that a background hides, only one of several that look alike.
CONCEPTS = {
    "food": """
        grapes; watermelon; lemon; banana; pineapple; mango; red apple; pear; cherries;
        strawberry; blueberries; kiwi = kiwi-fruit; tomato; coconut; avocado; eggplant; potato;
        carrot; ear of corn; chili pepper = hot-pepper; cucumber; broccoli;
        loaf of bread = bread; croissant; pretzel; stack of pancakes = pancakes; waffle;
        wedge of cheese = cheese-wedge; chicken leg = poultry-leg; hamburger; french fries;
        slice of pizza = pizza; hot dog; sandwich; taco; frying pan = cooking;
        bowl of salad = green-salad; box of popcorn = popcorn; rice ball;
        plate of spaghetti = spaghetti; ice cream cone = soft-ice-cream; doughnut; cookie;
        birthday cake; cupcake; chocolate bar; lollipop; honey pot; teapot;
        mug of beer = beer-mug; chopsticks; amphora
    """,
    "nature": """
        monkey; gorilla; dog; cat; tiger; deer; cow; camel = two-hump-camel; giraffe;
        hippo = hippopotamus; hedgehog; bat; kangaroo; turkey; rooster; chick = baby-chick;
        penguin; duck; owl; feather; flamingo; peacock; parrot; crocodile; turtle; lizard; snake;
        dragon; dinosaur = t-rex; whale; tropical fish; pufferfish = blowfish; octopus;
        jellyfish; crab; lobster; snail; butterfly; caterpillar = bug; ant; bee = honeybee;
        ladybug = lady-beetle; spider; rose; hibiscus; sunflower; tulip; potted plant;
        pine tree = evergreen-tree; tree = deciduous-tree; palm tree; cactus; clover = shamrock;
        maple leaf; red mushroom = mushroom; bird nest = nest-with-eggs
    """,
    "objects": """
        sunglasses; jeans; scarf; dress; backpack; hiking boot; high-heeled shoe; crown; top hat;
        graduation cap; baseball cap = billed-cap; lipstick; diamond = gem-stone; bell;
        microphone; headphones = headphone; radio; saxophone; accordion; guitar; trumpet; violin;
        drum; maracas; mobile phone; telephone; battery; laptop; movie camera; clapper board;
        television; camera; magnifying glass = magnifying-glass-tilted-left; light bulb;
        flashlight; book = closed-book; stack of books = books; money bag; credit card;
        cardboard box = package; mailbox = closed-mailbox-with-raised-flag; pencil; paintbrush;
        crayon; briefcase; ruler = straight-ruler; scissors; padlock = locked; key; hammer; axe;
        bomb; bow and arrow; screwdriver; toolbox; magnet; ladder; telescope; door; window;
        chair; broom; bucket; toothbrush; sponge; fire extinguisher
    """,
    "travel": """
        globe = globe-showing-europe-africa; compass; volcano; tent; desert island; house;
        ferris wheel; roller coaster; circus tent; steam train = locomotive; bus; ambulance;
        fire engine; police car; taxi; car = automobile; tractor; racing car; motorcycle;
        wheelchair = manual-wheelchair; bicycle; skateboard; roller skate; gas pump = fuel-pump;
        traffic light = vertical-traffic-light; stop sign; road barrier = construction;
        life buoy = ring-buoy; sailboat; airplane; helicopter; rocket; suitcase = luggage;
        alarm clock; hourglass = hourglass-done; crescent moon; sun; star; rainbow; umbrella;
        lightning bolt = high-voltage; flame = fire
    """,
    "activities": """
        balloon; party popper; gift box = wrapped-gift; medal = sports-medal; trophy;
        soccer ball; basketball; american football; tennis racket = tennis;
        table tennis paddle = ping-pong; boxing glove; target = bullseye; kite; water pistol;
        billiard ball = pool-8-ball; game controller = video-game; joystick; slot machine;
        puzzle piece; teddy bear; chess pawn; heart = heart-suit; spool of thread = thread;
        ball of yarn = yarn
    """,
}

PLURAL = (
    "grapes",
    "cherries",
    "blueberries",
    "broccoli",
    "french fries",
    "chopsticks",
    "sunglasses",
    "jeans",
    "headphones",
    "maracas",
    "scissors",
)
"""Names that read well without an article."""
SILENT_H = ("hour", "honest")

WORDS = """
    act age air ant arm art bag bat bed bee big box bus cap car cat cow cup cut day dog dry ear egg
    eye fan far fly fox fun gas gum hat hen hot ice ink jam jar jet key kid leg lip log low man map
    mix mud net new nut oak oil old one owl pan pen pet pie pig pot row run sad sea sky sun tea ten
    top toy two van wax web wet zoo
    baby ball band bank barn bath bear bell bird boat bold bone book bowl cake calm card city clay
    coat cold corn dark deer desk door duck dust east face farm fast fire fish flag four frog game
    gate gift goat good hand help hero home king kite lake lamp leaf lion love milk moon nest nine
    open park rain ring road rock rose salt ship shoe snow sock soup star swan tent time town tree
    wall wind wolf wood
"""
"""160 common words of three and four letters, 80 each."""


@dataclass(frozen=True)
class Concept:
    """One object that both packages draw."""

    name: str
    icon: str
    """Its name in the Fluent package."""
    category: str

    @property
    def slug(self) -> str:
        """The name as a file name."""
        return slug(self.name)


def slug(name: str) -> str:
    """Lower-case letters and digits, joined by single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def concepts() -> list[Concept]:
    """All concepts in the order of the table."""
    found = []
    for category, text in CONCEPTS.items():
        for entry in " ".join(text.split()).split("; "):
            name, _, icon = entry.partition(" = ")
            found.append(Concept(name, icon or slug(name), category))
    return found


def shuffled(names: Iterable[str]) -> list[str]:
    """An order that looks random and is the same on every machine."""
    return sorted(names, key=lambda name: hashlib.sha256(f"{SEED}/{name}".encode()).digest())


def with_article(name: str) -> str:
    """`a red apple`, `an owl`, `scissors`."""
    if name in PLURAL:
        return name
    is_open = name[0] in "aeiou" or name.startswith(SILENT_H)
    return f"{'an' if is_open else 'a'} {name}"
