"""Random looks of a synthetic page: fonts, sizes, colours, as CSS."""

import colorsys
import random
from dataclasses import dataclass

FONTS = ("Roboto", "Open Sans", "Liberation Sans", "DejaVu Sans", "Liberation Serif", "Noto Sans",
         "Roboto Condensed", "DejaVu Serif", "Liberation Mono")  # fmt: skip
_FONT_WEIGHTS = (8, 7, 7, 4, 2, 2, 2, 1, 1)


@dataclass(frozen=True)
class Theme:
    """Colours as CSS hex, sizes in pixels."""

    font: str
    size: int
    dark: bool
    ground: str
    surface: str
    text: str
    faint: str
    line: str
    accent: str
    on_accent: str
    second: str
    bar: str
    on_bar: str
    radius: int
    pad: int


def _hex(hue: float, light: float, saturation: float) -> str:
    red, green, blue = colorsys.hls_to_rgb(hue % 1.0, light, saturation)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def make_theme(rng: random.Random) -> Theme:
    """A random theme with readable contrast."""
    dark = rng.random() < 0.3
    hue = rng.random()
    tint = rng.choice([0.0, 0.05, 0.15, 0.4])
    ground = _hex(hue, rng.uniform(0.08, 0.16) if dark else rng.uniform(0.93, 1.0), tint)
    surface = _hex(hue, rng.uniform(0.14, 0.22) if dark else rng.uniform(0.97, 1.0), tint)
    accent_hue = rng.choice([0.0, 0.06, 0.14, 0.33, 0.4, 0.48, 0.58, 0.62, 0.75, 0.9])
    light_accent = 0.1 < accent_hue < 0.2
    accent = _hex(
        accent_hue, 0.5 if light_accent else rng.uniform(0.36, 0.5), rng.uniform(0.6, 0.95)
    )
    coloured_bar = rng.random() < 0.35
    dark_bar = coloured_bar or rng.random() < 0.25
    bar = accent if coloured_bar else _hex(hue, 0.17, 0.25) if dark_bar else surface
    return Theme(
        font=rng.choices(FONTS, _FONT_WEIGHTS)[0],
        size=rng.choice([12, 13, 13, 14, 14, 15, 16]),
        dark=dark,
        ground=ground,
        surface=surface,
        text=_hex(hue, 0.9 if dark else rng.uniform(0.08, 0.2), 0.1),
        faint=_hex(hue, 0.65 if dark else 0.45, 0.08),
        line=_hex(hue, 0.3 if dark else 0.85, 0.1),
        accent=accent,
        on_accent="#111111" if light_accent else "#ffffff",
        second=_hex(accent_hue + rng.choice([0.2, 0.35, 0.5, 0.7]), 0.42, 0.75),
        bar=bar,
        on_bar=("#111111" if light_accent else "#ffffff") if coloured_bar or dark_bar
        else _hex(hue, 0.9 if dark else 0.15, 0.1),
        radius=rng.choice([0, 2, 4, 4, 6, 8, 14]),
        pad=rng.choice([4, 5, 6, 7, 8]),
    )  # fmt: skip


def css(theme: Theme, rng: random.Random) -> str:
    """The style sheet of a page in this theme."""
    t = theme
    border = rng.choice(
        [f"1px solid {t.line}", f"1px solid {t.line}", f"2px solid {t.line}", "none"]
    )
    shadow = rng.choice(["none", "0 1px 3px rgba(0,0,0,.25)", "0 2px 8px rgba(0,0,0,.2)"])
    upper = "text-transform:uppercase;letter-spacing:.4px;" if rng.random() < 0.1 else ""
    weight = rng.choice([400, 500, 600])
    field_edge = rng.choice([f"1px solid {t.faint}", f"1px solid {t.line}"])
    underline = rng.choice(["none", "underline"])
    return f"""
*{{box-sizing:border-box;margin:0;padding:0}}
html,body{{width:100%;height:100%;overflow:hidden}}
body{{font:{t.size}px/1.35 '{t.font}',sans-serif;background:{t.ground};color:{t.text};
 display:flex;flex-direction:column}}
a{{color:{t.accent};text-decoration:{underline}}}
svg{{width:1.25em;height:1.25em;fill:currentColor;vertical-align:-.2em;flex:none}}
button,input,select,textarea{{font:inherit;color:inherit}}
.bar{{background:{t.bar};color:{t.on_bar};display:flex;align-items:center;gap:{t.pad}px;
 padding:{t.pad}px {t.pad + 3}px;border-bottom:1px solid {t.line};flex:none}}
.bar a,.bar button{{color:{t.on_bar};text-decoration:none}}
.brand{{font-weight:700;font-size:1.15em;margin-right:auto}}
.icon{{background:none;border:0;padding:{max(3, t.pad - 2)}px;min-width:24px;min-height:24px;
 border-radius:{t.radius}px;display:inline-flex;align-items:center;justify-content:center;
 cursor:pointer}}
.btn{{display:inline-flex;align-items:center;gap:5px;border:{border};
 padding:{t.pad}px {t.pad * 2}px;
 border-radius:{t.radius}px;background:{t.surface};color:{t.text};font-weight:{weight};
 text-decoration:none;white-space:nowrap;{upper}}}
.btn.main{{background:{t.accent};color:{t.on_accent};border-color:{t.accent}}}
.btn.second{{background:{t.second};color:#fff;border-color:{t.second}}}
.btn.bad{{background:#c62828;color:#fff;border-color:#c62828}}
.btn.good{{background:#2e7d32;color:#fff;border-color:#2e7d32}}
.btn.flat{{background:none;border-color:transparent;color:{t.accent}}}
.row{{display:flex;align-items:center;gap:{t.pad + 2}px;flex-wrap:wrap}}
.main{{flex:1;display:flex;min-height:0}}
.body{{flex:1;padding:{t.pad + 3}px;display:flex;flex-direction:column;gap:{t.pad + 4}px;
 overflow:hidden;min-width:0}}
.side{{background:{t.surface};border-right:1px solid {t.line};padding:{t.pad}px;flex:none;
 display:flex;flex-direction:column;gap:2px;overflow:hidden}}
.side a{{display:flex;align-items:center;gap:7px;padding:{t.pad}px;border-radius:{t.radius}px;
 color:{t.text};text-decoration:none;white-space:nowrap}}
.side a.on{{background:{t.accent};color:{t.on_accent}}}
.card{{background:{t.surface};border:{border};border-radius:{t.radius}px;box-shadow:{shadow};
 padding:{t.pad + 4}px;display:flex;flex-direction:column;gap:{t.pad}px}}
.grid{{display:grid;gap:{t.pad + 3}px}}
.faint{{color:{t.faint};font-size:.92em}}
h1{{font-size:1.4em}} h2{{font-size:1.15em}}
.field{{display:flex;flex-direction:column;gap:3px;flex:1;min-width:90px}}
.in{{background:{t.surface};border:{field_edge};border-radius:{t.radius}px;padding:{t.pad}px;
 width:100%;
 min-height:26px}}
.check{{display:flex;align-items:center;gap:7px}}
.check input{{width:16px;height:16px;accent-color:{t.accent}}}
.toggle{{width:34px;height:19px;border-radius:10px;border:0;background:{t.faint};position:relative}}
.toggle.on{{background:{t.accent}}}
.toggle::after{{content:"";position:absolute;top:3px;left:3px;width:13px;height:13px;
 border-radius:50%;
 background:#fff}} .toggle.on::after{{left:18px}}
.tabs{{display:flex;gap:2px;border-bottom:1px solid {t.line};flex:none}}
.tabs [role=tab]{{padding:{t.pad}px {t.pad + 5}px;border:0;background:none;white-space:nowrap}}
.tabs [aria-selected=true]{{color:{t.accent};border-bottom:2px solid {t.accent};font-weight:600}}
{_lists(t)}"""


def _lists(t: Theme) -> str:
    """Style of lists, tables, menus and floating parts."""
    return f"""
.list{{list-style:none;display:flex;flex-direction:column}}
.list li{{display:flex;align-items:center;gap:8px;padding:{t.pad}px;
 border-bottom:1px solid {t.line}}}
.list li>a{{flex:1;color:{t.text};text-decoration:none;padding:2px 0}}
table{{border-collapse:collapse;width:100%;background:{t.surface}}}
td,th{{text-align:left;padding:{t.pad}px;border-bottom:1px solid {t.line};white-space:nowrap}}
.menu{{position:absolute;background:{t.surface};border:1px solid {t.line};
 border-radius:{t.radius}px;
 box-shadow:0 3px 12px rgba(0,0,0,.3);padding:4px 0;min-width:130px;z-index:5}}
.menu [role=menuitem]{{display:flex;gap:8px;padding:{t.pad - 1}px 14px;white-space:nowrap;
 align-items:center}}
.menubar{{display:flex;background:{t.surface};border-bottom:1px solid {t.line};flex:none}}
.menubar [role=menuitem]{{padding:{t.pad - 1}px {t.pad + 3}px}}
.tools{{display:flex;gap:2px;padding:3px;background:{t.surface};
 border-bottom:1px solid {t.line};flex:none}}
.dim{{position:absolute;inset:0;background:rgba(0,0,0,.5);display:flex;align-items:center;
 justify-content:center;z-index:4}}
.foot{{display:flex;justify-content:space-around;background:{t.bar};color:{t.on_bar};
 border-top:1px solid {t.line};padding:{t.pad - 2}px;flex:none;margin-top:auto}}
.foot a{{color:{t.on_bar};text-decoration:none;display:flex;flex-direction:column;
 align-items:center;
 padding:3px 6px;font-size:.85em;gap:2px}}
.fab{{position:absolute;right:14px;bottom:60px;width:46px;height:46px;border-radius:50%;border:0;
 background:{t.accent};color:{t.on_accent};z-index:3}}
.crumbs{{display:flex;gap:6px}}
.pick{{display:flex;gap:3px}} .pick a{{border:1px solid {t.line};padding:3px 8px;
 text-decoration:none;
 border-radius:{t.radius}px}}
"""
