"""The report's pictures of what was measured, as SVG that follows light and dark mode."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from spikeship.deploy.report.drawing import (
    LINES,
    MARKERS,
    THEMED,
    Picture,
    clipped,
    picture,
    thousands,
)
from spikeship.deploy.report.placement_picture import PlacementFigure
from spikeship.hw_models.errors import InputError
from spikeship.hw_models.events.counts import LayerRates

_INK, _MUTED, _GRID, _SERIES = THEMED.ink, THEMED.muted, THEMED.grid, THEMED.series
_STYLE = THEMED.style()
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
        placement: the chip's cores; None for no such picture.

    Raises:
        ValueError: a raster is not two-dimensional, or they differ in steps.
    """

    accuracy_by_step: Mapping[str, Sequence[float]]
    synops_by_layer: Sequence[LayerRates]
    raster: Mapping[str, NDArray[np.bool_]]
    raster_label: str
    placement: PlacementFigure | None = None

    def __post_init__(self) -> None:
        shapes = {name: spikes.shape for name, spikes in self.raster.items()}
        if any(len(shape) != 2 for shape in shapes.values()):
            raise InputError(f"raster: each node needs (chip_steps, neurons), got {shapes}")
        if len({shape[0] for shape in shapes.values()}) > 1:
            raise InputError(f"raster: nodes differ in chip steps ({shapes}); give one image's run")


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
                linestyle=LINES[index % len(LINES)],
                marker=MARKERS[index % len(MARKERS)],
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
        return picture(figure, "Line chart of accuracy against time steps: " + "; ".join(said))


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
                marker=MARKERS[index],
                markersize=5.5,
                color=_SERIES[index],
                label=kind,
            )
            for row in at[counts <= 0]:
                place = axes.get_yaxis_transform()
                axes.text(
                    0.01, row, "0", color=_SERIES[index], fontsize=8, va="center", transform=place
                )
        axes.set_yticks(rows, [clipped(layer["name"]) for layer in layers])
        axes.set_ylim(len(layers) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        for row in rows[1:]:
            axes.axhline(row - 0.5, color=_GRID, linewidth=0.8)
        axes.xaxis.set_major_formatter(FuncFormatter(thousands))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("synaptic operations an inference (logarithmic)")
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3)
        said = "; ".join(
            f"{layer['name']} {layer['synops_effective']:,.0f} effective, "
            f"{layer['synops_connected']:,.0f} connected, {layer['synops_dense']:,.0f} dense"
            for layer in layers
        )
        return picture(figure, "Dot chart of synaptic operations in each layer: " + said)


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
        return picture(
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
    axes.set_title(clipped(name) + part, loc="left", fontsize=9, color=_INK, pad=3)


def _canvas(height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()
