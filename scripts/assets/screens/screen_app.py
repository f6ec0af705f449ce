"""An application before it is rendered: its settings, and files taken from other packages."""

from dataclasses import dataclass, field

SB_ADMIN_2 = "startbootstrap-sb-admin-2@4.1.4"
MOBILE = (280, 504)
WEB = (448, 364)
DESKTOP = (504, 364)


@dataclass(frozen=True)
class App:
    """One application; sizes in pixels, `states` are lists of selectors clicked in order."""

    name: str
    package: str
    licence: str
    pages: tuple[str, ...]
    viewports: tuple[tuple[str, tuple[int, int]], ...] = (("web", WEB), ("mobile", MOBILE))
    scrolls: int = 3
    skip: tuple[str, ...] = ()
    states: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # A script that switches to the dark theme ("" = there is none).
    dark: str = ""
    # (part of a URL, package, path inside it): missing files answered from another package.
    redirects: tuple[tuple[str, str, str], ...] = ()
    # Native windows of a desktop application, cut into tiles of DESKTOP size.
    windows: tuple[tuple[int, int], ...] = ()
    # A page written into the package folder, for libraries without one.
    host_page: str = ""
    css: str = ""
    settle_ms: int = 200
    # Selector that must be there before anything is read; a busy machine starts slowly.
    wait_for: str = ""
    unseen: bool = False
    # Folder inside the package that is the root of the site for its pages.
    root: str = ""


_FA4 = "font-awesome@4.7.0"
FONT_AWESOME = (
    ("font-awesome/4.7.0/css/font-awesome.min.css", _FA4, "css/font-awesome.min.css"),
    ("font-awesome/4.7.0/fonts/", _FA4, "fonts/"),
    ("font-awesome/latest/css/font-awesome.min.css", _FA4, "css/font-awesome.min.css"),
    (
        "font-awesome/latest/fonts/fontawesome-webfont.woff2",
        _FA4,
        "fonts/fontawesome-webfont.woff2",
    ),
    (
        "fontawesome.com/releases/v5.0.6/css/all.css",
        SB_ADMIN_2,
        "vendor/fontawesome-free/css/all.min.css",
    ),
    ("fontawesome.com/releases/v5.0.6/webfonts/", SB_ADMIN_2, "vendor/fontawesome-free/webfonts/"),
)


def jsdelivr(*packages: str) -> tuple[tuple[str, str, str], ...]:
    """Redirects of a CDN's addresses to the packages that they serve."""
    return tuple((f"/npm/{package}/", package, "") for package in packages)


FONT_AWESOME_6 = (
    "fontawesome.com/releases/v6.3.0/js/all.js",
    "@fortawesome/fontawesome-free@6.3.0",
    "js/all.js",
)
WINDOWS = ((1008, 728), (1512, 728), (1512, 1092))
