"""What all drawings share: colours, type, and how a figure becomes a picture or a file.

Matplotlib writes fixed colours. A picture for the report is therefore drawn in placeholder
colours, which become CSS variables afterwards; a style sheet inside the SVG gives them a light and
a dark value. A picture in a file of its own is drawn in the light ones, on white.
"""

import base64
import io
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from spikeship.deploy.errors import DeployError
from spikeship.hw_models.atomic import replacing

# placeholder -> (CSS variable, light, dark); no other part of a drawing has these colours
_COLOURS = {
    "#010101": ("ink", "#1b2430", "#e6eaf0"),
    "#020202": ("muted", "#5a6575", "#9aa6b6"),
    "#030303": ("grid", "#dde2e9", "#2e3744"),
    "#040404": ("one", "#1f5fbf", "#78aaff"),
    "#050505": ("two", "#b4530a", "#ffa860"),
    "#060606": ("three", "#0b7a55", "#4fd3a4"),
    "#070707": ("four", "#7c3fb5", "#cba2ff"),
    "#080808": ("five", "#a8324a", "#ff92a4"),
}
FORMATS = (".svg", ".png")
MARKERS = "osD^v"
LINES = ("-", "--", "-.", ":", "-")
DOTS_PER_INCH = 150
_UNSIGNED = dict.fromkeys(("Creator", "Date", "Format", "Type"))


@dataclass(frozen=True)
class Palette:
    """Colours of a drawing: text, lesser text, lines of the grid, and the series'."""

    ink: str
    muted: str
    grid: str
    series: tuple[str, ...]

    def style(self) -> dict[Any, Any]:
        """Matplotlib's settings for a drawing in these colours."""
        return {
            "svg.fonttype": "none",
            "svg.hashsalt": "spikeship",
            "path.simplify": False,
            "font.family": "sans-serif",
            "font.size": 10,
            "text.parse_math": False,
            "text.color": self.ink,
            "axes.labelcolor": self.ink,
            "axes.edgecolor": self.muted,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "grid.color": self.grid,
            "grid.linewidth": 0.8,
            "xtick.color": self.muted,
            "ytick.color": self.muted,
            "xtick.labelcolor": self.ink,
            "ytick.labelcolor": self.ink,
            "legend.frameon": False,
            "legend.fontsize": 9,
        }


def _palette(colours: list[str]) -> Palette:
    ink, muted, grid, *series = colours
    return Palette(ink, muted, grid, tuple(series))


THEMED = _palette(list(_COLOURS))
LIGHT = _palette([light for _, light, _ in _COLOURS.values()])


@dataclass(frozen=True)
class Picture:
    """A finished picture: its text alternative and an SVG as a data address."""

    alt: str
    source: Markup


def picture(figure: Figure, alt: str) -> Picture:
    """Turn a figure drawn in ``THEMED`` into a picture for the report."""
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    svg = _svg(figure)
    for placeholder, (name, _, _) in _COLOURS.items():
        svg = svg.replace(placeholder, f"var(--{name})")
    start = svg.index(">") + 1
    svg = f"{svg[:start]}<style>{_style_sheet()}</style>{svg[start:]}"
    encoded = base64.b64encode(svg.encode()).decode()
    return Picture(printable(alt), Markup(f"data:image/svg+xml;base64,{encoded}"))


def check_format(path: Path) -> None:
    """Refuse a file name that says no format a picture can be written in.

    Raises:
        DeployError: names the formats.
    """
    if path.suffix.lower() not in FORMATS:
        raise DeployError(f"picture {str(path)!r}: write it as {' or '.join(FORMATS)}")


def save(figure: Figure, alt: str, path: Path) -> None:
    """Write a figure drawn in ``LIGHT`` as SVG or PNG, its text alternative inside.

    Args:
        figure: what to write, on white.
        alt: becomes the SVG's title, or the PNG's description.
        path: its suffix says the format.

    Raises:
        DeployError: another suffix.
    """
    check_format(path)
    alt = printable(alt)
    figure.patch.set_facecolor("white")
    with replacing(path) as temporary:
        if path.suffix.lower() == ".svg":
            svg = _svg(figure)
            words = escape(alt)
            head = f'<svg role="img" aria-label="{words}"'
            start = svg.index(">") + 1
            body = f"<title>{words}</title>{svg[start:]}"
            temporary.write_text(f"{head}{svg[4:start]}{body}", encoding="utf-8")
        else:
            figure.savefig(
                temporary, format="png", dpi=DOTS_PER_INCH, metadata={"Description": alt}
            )


def printable(text: str) -> str:
    """A text without what no picture shows: control characters, which would also break an SVG."""
    return "".join(letter for letter in text if letter.isprintable())


def clipped(name: str, most: int = 24) -> str:
    """A name of at most so many letters: its end, which tells layers apart."""
    name = printable(name)
    return name if len(name) <= most else f"…{name[1 - most :]}"


def thousands(value: float, _: object = None) -> str:
    """A count with its prefix, e.g. ``3 M``, for an axis."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"


def _svg(figure: Figure) -> str:
    written = io.StringIO()
    figure.savefig(written, format="svg", metadata=_UNSIGNED)
    svg = written.getvalue()
    return svg[svg.index("<svg") :]  # without the document type, which names an outside address


def _style_sheet() -> str:
    light = "".join(f"--{name}:{colour};" for name, colour, _ in _COLOURS.values())
    dark = "".join(f"--{name}:{colour};" for name, _, colour in _COLOURS.values())
    return (
        f"svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}"
        "text{font-family:system-ui,sans-serif!important}"
    )
