"""The report's three pictures, drawn with matplotlib as SVG that follows light and dark mode.

Matplotlib writes fixed colours. Each picture is therefore drawn in placeholder colours, which
become CSS variables afterwards; a style sheet inside the SVG gives them a light and a dark value.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from spikeship.hw_models.counts import LayerRates

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
_INK, _MUTED, _GRID, *_SERIES = _COLOURS
_MARKERS = "osD^v"
_LINES = ("-", "--", "-.", ":", "-")
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "spikeship",
    "path.simplify": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _MUTED,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": _GRID,
    "grid.linewidth": 0.8,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "legend.frameon": False,
    "legend.fontsize": 9,
}
_WIDTH = 5.0  # inches: narrow, so that the type is still readable on a phone
_SHOWN_NEURONS = 64
_SHOWN_CELLS = 40_000


@dataclass(frozen=True, eq=False)
class ReportFigures:
    """What the pictures show.

    Attributes:
        accuracy_by_step: by stage, the accuracy (0..1) after local step 1, 2, ... T.
        synops_by_layer: counts of every layer per inference, in the order of the network.
        raster: by node name the spikes of one image, bool, (chip_steps, neurons).
        raster_label: what that image is, for the caption.

    Raises:
        ValueError: a raster is not two-dimensional, or they differ in steps.
    """

    accuracy_by_step: Mapping[str, Sequence[float]]
    synops_by_layer: Sequence[LayerRates]
    raster: Mapping[str, NDArray[np.bool_]]
    raster_label: str

    def __post_init__(self) -> None:
        shapes = {name: spikes.shape for name, spikes in self.raster.items()}
        if any(len(shape) != 2 for shape in shapes.values()):
            raise ValueError(f"raster: each node needs (chip_steps, neurons), got {shapes}")
        if len({shape[0] for shape in shapes.values()}) > 1:
            raise ValueError(f"raster: nodes differ in chip steps ({shapes}); give one image's run")


@dataclass(frozen=True)
class Picture:
    """A finished picture: its text alternative and an SVG as a data address."""

    alt: str
    source: Markup


def accuracy(figures: ReportFigures, labels: Mapping[str, str], ann: float | None) -> Picture:
    """Accuracy against time steps, a line a stage; ``ann`` (0..1) is a level to compare with."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _canvas(3.2)
        said = []
        for index, (stage, values) in enumerate(figures.accuracy_by_step.items()):
            steps = np.arange(1, len(values) + 1)
            axes.plot(
                steps,
                100 * np.asarray(values),
                color=_SERIES[index % len(_SERIES)],
                linestyle=_LINES[index % len(_LINES)],
                marker=_MARKERS[index % len(_MARKERS)],
                markersize=max(5.5 - index, 2.5),
                markevery=max(1, len(values) // 20),
                label=labels.get(stage, stage),
            )
            if len(values):
                name = labels.get(stage, stage)
                said.append(f"{name} {100 * values[-1]:.1f} % after {len(values)} steps")
        if ann is not None:
            axes.axhline(
                100 * ann, color=_MUTED, linewidth=1.2, linestyle=(0, (1, 2)), label=labels["ann"]
            )
            said.append(f"{labels['ann']} {100 * ann:.1f} %, a level line")
        axes.set(xlabel="time steps of input", ylabel="accuracy, %")
        axes.set_ylim(max(0.0, axes.get_ylim()[0]), 101)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if said:
            axes.legend(loc="lower right")
        return _picture(figure, "Line chart of accuracy against time steps: " + "; ".join(said))


def synops(figures: ReportFigures) -> Picture:
    """Synaptic operations per layer on a logarithmic axis; a layer without any says 0."""
    layers = figures.synops_by_layer
    counted = {
        "dense": [layer["synops_dense"] for layer in layers],
        "connected": [layer["synops_connected"] for layer in layers],
        "effective": [layer["synops_effective"] for layer in layers],
    }
    rows = np.arange(len(layers))
    with matplotlib.rc_context(_STYLE):
        figure, axes = _canvas(1.3 + 0.36 * max(len(layers), 3))
        axes.set_xscale("log")
        for index, (kind, values) in enumerate(counted.items()):
            counts, at = np.asarray(values), rows + 0.2 * (index - 1)
            axes.plot(
                counts[counts > 0],
                at[counts > 0],
                linestyle="none",
                marker=_MARKERS[index],
                markersize=5.5,
                color=_SERIES[index],
                label=kind,
            )
            for row in at[counts <= 0]:
                place = axes.get_yaxis_transform()
                axes.text(
                    0.01, row, "0", color=_SERIES[index], fontsize=8, va="center", transform=place
                )
        axes.set_yticks(rows, [_clipped(layer["name"]) for layer in layers])
        axes.set_ylim(len(layers) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        for row in rows[1:]:
            axes.axhline(row - 0.5, color=_GRID, linewidth=0.8)
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("synaptic operations an inference (logarithmic)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3)
        said = "; ".join(
            f"{layer['name']} {layer['synops_effective']:,.0f} effective, "
            f"{layer['synops_connected']:,.0f} connected, {layer['synops_dense']:,.0f} dense"
            for layer in layers
        )
        return _picture(figure, "Dot chart of synaptic operations in each layer: " + said)


def raster(figures: ReportFigures) -> Picture:
    """Spikes of one image: chip steps to the right, neurons downwards, a panel a node."""
    panels = list(figures.raster.items())
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 0.6 + 0.95 * max(len(panels), 1)), layout="constrained")
        grid = figure.subplots(max(len(panels), 1), 1, sharex=True, squeeze=False)[:, 0]
        said = []
        for index, (axes, (name, spikes)) in enumerate(zip(grid, panels, strict=False)):
            _panel(axes, name, spikes, _SERIES[index % 4], len(panels))
            said.append(f"{name} {int(spikes.sum()):,} spikes of {spikes.shape[1]:,} neurons")
        grid[-1].set_xlabel("chip step")
        grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
        steps = panels[0][1].shape[0] if panels else 0
        return _picture(
            figure,
            f"Spike raster of {figures.raster_label}, time against neuron index over {steps} "
            "chip steps: " + "; ".join(said),
        )


def _panel(axes: Axes, name: str, spikes: NDArray[np.bool_], colour: str, panels: int) -> None:
    steps, neurons = spikes.shape
    room = _SHOWN_CELLS // max(1, panels * steps)
    shown = min(neurons, _SHOWN_NEURONS, max(room, 8))
    chosen = np.linspace(0, neurons - 1, shown).round().astype(int)
    step, row = np.nonzero(spikes[:, chosen])
    # a dash a spike, all in one path: NaN lifts the pen
    across = np.stack([step + 0.6, step + 1.4, np.full(len(step), np.nan)], axis=1).ravel()
    down = np.stack([row, row, np.full(len(row), np.nan)], axis=1).ravel()
    thickness = min(4.0, 40 / max(shown, 1))
    axes.plot(across, down, color=colour, linewidth=thickness, solid_capstyle="butt")
    axes.set_xlim(0.5, steps + 0.5)
    axes.set_ylim(max(shown, 1) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    ends = sorted({0, max(shown - 1, 0)})
    axes.yaxis.set_major_locator(FixedLocator(ends))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{chosen[int(at)]:,}"))
    part = "" if shown == neurons else f", {shown} of {neurons:,} neurons shown"
    axes.set_title(_clipped(name) + part, loc="left", fontsize=9, color=_INK, pad=3)


def _thousands(value: float, _: object = None) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"


def _clipped(name: str) -> str:
    return name if len(name) <= 24 else f"…{name[-23:]}"


def _canvas(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def _picture(figure: Figure, alt: str) -> Picture:
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
    written = io.StringIO()
    unsigned = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(written, format="svg", metadata=unsigned)
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]  # without the document type, which names an outside address
    for placeholder, (name, _, _) in _COLOURS.items():
        svg = svg.replace(placeholder, f"var(--{name})")
    start = svg.index(">") + 1
    svg = f"{svg[:start]}<style>{_style_sheet()}</style>{svg[start:]}"
    encoded = base64.b64encode(svg.encode()).decode()
    return Picture(alt, Markup(f"data:image/svg+xml;base64,{encoded}"))


def _style_sheet() -> str:
    light = "".join(f"--{name}:{colour};" for name, colour, _ in _COLOURS.values())
    dark = "".join(f"--{name}:{colour};" for name, _, colour in _COLOURS.values())
    return (
        f"svg{{{light}}}@media (prefers-color-scheme:dark){{svg{{{dark}}}}}"
        "text{font-family:system-ui,sans-serif!important}"
    )
