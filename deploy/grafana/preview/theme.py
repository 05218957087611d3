"""Colours of Grafana's dark theme, by the names that dashboards use, and those between two."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from deploy.grafana.preview.errors import PanelError

CANVAS: Final = "#111217"
PANEL: Final = "#181b1f"
SECONDARY: Final = "#22252b"
BORDER: Final = "#2a2d33"
GRID: Final = "#2b2e34"
TEXT: Final = "#ccccdc"
QUIET: Final = "#8e8f9c"
FAINT: Final = "#6b6c78"
LINK: Final = "#6e9fff"
DARK_TEXT: Final = "#111217"
WHITE: Final = "#ffffff"
FONTS: Final = "Helvetica, Arial, 'Liberation Sans', sans-serif"
"""All of the same widths, so that text fits wherever the picture is looked at."""

# From the lightest to the darkest.
_SHADES: Final = ("super-light-", "light-", "", "semi-dark-", "dark-")
_HUES: Final = {
    "red": ("#ffa6b0", "#ff7383", "#f2495c", "#e02f44", "#c4162a"),
    "orange": ("#ffcb7d", "#ffb357", "#ff9830", "#ff780a", "#fa6400"),
    "yellow": ("#fff899", "#ffee52", "#fade2a", "#f2cc0c", "#e0b400"),
    "green": ("#c8f2c2", "#96d98d", "#73bf69", "#56a64b", "#37872d"),
    "blue": ("#c0d8ff", "#8ab8ff", "#5794f2", "#3274d9", "#1f60c4"),
    "purple": ("#deb6f2", "#ca95e5", "#b877d9", "#a352cc", "#8f3bb8"),
}
_NAMED: Final = {
    f"{shade}{hue}": color
    for hue, colors in _HUES.items()
    for shade, color in zip(_SHADES, colors, strict=True)
} | {
    "transparent": PANEL,
    "text": TEXT,
    "gray": "#808080",
    "grey": "#808080",
    "white": WHITE,
    "black": "#000000",
}
_PALETTE: Final = (
    *("green", "yellow", "blue", "orange", "red", "purple"),
    *("dark-green", "dark-yellow", "dark-blue", "dark-orange", "dark-red", "dark-purple"),
    *("super-light-green", "super-light-yellow", "super-light-blue"),
    *("super-light-orange", "super-light-red", "super-light-purple"),
    *("#447ebc", "#c15c17", "#890f02", "#0a437c", "#6d1f62", "#584477", "#b7dbab", "#f4d598"),
    *("#70dbed", "#f9ba8f", "#f29191", "#82b5d8", "#e5a8e2", "#aea2e0", "#629e51", "#e5ac0e"),
    *("#64b0c8", "#e0752d", "#bf1b00", "#0a50a1", "#962d82", "#614d93", "#9ac48a", "#f2c96d"),
    *("#65c5db", "#f9934e", "#ea6460", "#5195ce", "#d683ce", "#806eb7", "#3f6833", "#967302"),
    *("#2f575e", "#99440a", "#58140c", "#052b51", "#511749", "#3f2b5b", "#e0f9d7", "#fceaca"),
    *("#cffaff", "#f9e2d2", "#fce2de", "#badff4", "#f9d9f9", "#dedaf7"),
)
_LEAST_CONTRAST: Final = 3.0
_CONTINUOUS: Final = {
    "continuous-GrYlRd": ("green", "yellow", "red"),
    "continuous-BlYlRd": ("dark-blue", "super-light-yellow", "dark-red"),
    "continuous-BlPu": ("blue", "purple"),
}
# Of heat maps, from low to high as on a dark page. There, turning them round changes nothing for schemes that
# Grafana has turned round already.
_SCHEMES: Final = {
    "Oranges": (
        "#7f2704",
        "#a63603",
        "#d94801",
        "#f16913",
        "#fd8d3c",
        "#fdae6b",
        "#fdd0a2",
        "#fee6ce",
        "#fff5eb",
    ),
    "Spectral": (
        *("#5e4fa2", "#3288bd", "#66c2a5", "#abdda4", "#e6f598", "#ffffbf"),
        *("#fee08b", "#fdae61", "#f46d43", "#d53e4f", "#9e0142"),
    ),
}
_HEX: Final = re.compile(r"#[0-9a-fA-F]{6}")


def color(name: str) -> str:
    """The colour of a name, as `#rrggbb`.

    Raises:
        PanelError: It is not known.
    """
    found = _NAMED.get(name, name)
    if not _HEX.fullmatch(found):
        raise PanelError(f"the colour {name!r} is not known")
    return found


def palette(place: int) -> str:
    """The colour of a series by its place in the panel."""
    return color(_PALETTE[place % len(_PALETTE)])


def palette_by_name(name: str) -> str:
    """The colour that a hash of the name picks among those that stand out from the panel."""
    found = 5381
    for character in reversed(name):
        found = (found * 33 ^ ord(character)) & 0xFFFFFFFF
    visible = [each for each in map(color, _PALETTE) if _contrast(each, PANEL) >= _LEAST_CONTRAST]
    return visible[found % len(visible)]


def between(stops: Sequence[str], share: float) -> str:
    """The colour at a share from 0 to 1 of the way along a curve that the stops bend (a cubic B-spline)."""
    colors = [_parts(color(each)) for each in stops]
    last = len(colors) - 1
    place = min(max(share, 0.0), 1.0)
    first = min(int(place * last), last - 1)
    way = place * last - first
    mixed_parts = []
    for part in range(3):
        b, c = colors[first][part], colors[first + 1][part]
        a = colors[first - 1][part] if first else 2 * b - c
        d = colors[first + 2][part] if first + 2 <= last else 2 * c - b
        mixed_parts.append(_spline(way, a, b, c, d))
    return "#" + "".join(f"{min(max(round(each), 0), 255):02x}" for each in mixed_parts)


def _spline(t: float, a: float, b: float, c: float, d: float) -> float:
    t2, t3 = t * t, t * t * t
    curve = (1 - 3 * t + 3 * t2 - t3) * a + (4 - 6 * t2 + 3 * t3) * b + (1 + 3 * t + 3 * t2 - 3 * t3) * c
    return (curve + t3 * d) / 6


def mixed(over: str, under: str, opacity: float) -> str:
    """What is seen where one colour lies over another."""
    pairs = zip(_parts(over), _parts(under), strict=True)
    return "#" + "".join(f"{round(a * opacity + b * (1 - opacity)):02x}" for a, b in pairs)


def on(background: str) -> str:
    """A colour for text that can be read on the background."""
    red, green, blue = _parts(background)
    return DARK_TEXT if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else WHITE  # noqa: PLR2004


def continuous(mode: str) -> Sequence[str] | None:
    """The stops of a mode that goes from the least to the greatest value; None for other modes."""
    return _CONTINUOUS.get(mode)


def scheme(name: str) -> Sequence[str]:
    """The stops of a heat map, from low to high.

    Raises:
        PanelError: It is not known.
    """
    if name not in _SCHEMES:
        raise PanelError(f"the scheme {name!r} is not known")
    return _SCHEMES[name]


def by_thresholds(thresholds: Mapping[str, Any], value: float | None, low: float, high: float) -> str:
    """The colour of the last step that the value reaches.

    Args:
        thresholds: Of a field.
        value: To be coloured.
        low: What 0 % means.
        high: What 100 % means.
    """
    steps = thresholds.get("steps") or [{"color": "green", "value": None}]
    chosen = steps[0]["color"]
    if value is not None:
        in_percent = thresholds.get("mode") == "percentage"
        compared = (value - low) / ((high - low) or 1) * 100 if in_percent else value
        for step in steps[1:]:
            if step["value"] is None or compared >= step["value"]:
                chosen = step["color"]
    return color(chosen)


def _contrast(one: str, other: str) -> float:
    """As WCAG defines it, from 1 to 21."""
    brighter, darker = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def _luminance(value: str) -> float:
    red, green, blue = (
        share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4  # noqa: PLR2004 - of sRGB
        for share in (part / 255 for part in _parts(value))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _parts(value: str) -> tuple[int, int, int]:
    return int(value[1:3], 16), int(value[3:5], 16), int(value[5:7], 16)
