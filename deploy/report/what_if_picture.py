"""What-if as a picture: energy, latency, cores and memory by T, weight bits and firing rate."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    EngFormatter,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)

from spikeship.deploy.report.drawing import LIGHT, LINES, MARKERS, Palette, save

_WIDTH, _HEIGHT = 10.5, 10.0  # inches
_LINE = 0.2  # inches of a line of the legend
_AXES = {
    "steps": "time steps of input, T",
    "weight_bits": "weight bits",
    "rate": "firing rate, multiple of the counted one",
}
_ROWS = (
    ("energy_j", "energy an inference, J"),
    ("latency_s", "latency, s"),
    ("cores", "cores"),
    ("synapse_bits", "synaptic memory, bits"),
)
_TITLE = "chips: estimated, shaded from low to high, × where it does not fit; ANNs: as said"
_COUNTS = ("cores", "synapse_bits")
_REFERENCE_LINES = ((0, (1, 2)), (0, (4, 2)), (0, (6, 2, 1, 2)))


def write_what_if_picture(result: Mapping[str, Any], path: Path) -> None:
    """Draw the JSON object of ``what-if``, its text alternative inside.

    Args:
        result: what ``WhatIf.to_json`` gave.
        path: ``.svg`` or ``.png``.

    Raises:
        DeployError: another suffix.
    """
    with matplotlib.rc_context(LIGHT.style()):
        save(_draw(result, LIGHT), alt_text(result), path)


def alt_text(result: Mapping[str, Any]) -> str:
    """The picture in words: every point's energy, and where it breaks even."""
    said = [
        "Line charts of estimated energy with its range, latency, cores and synaptic memory, by "
        "time steps, weight bits and firing rate"
    ]
    for point in result["points"]:
        energy = point["energy_j"]
        said.append(
            f"{point['chip']} at {_AXES[point['axis']]} {point['at']:g}: {energy['value']:.3g} J "
            f"({energy['low']:.3g} to {energy['high']:.3g}), {point['latency_s']:.3g} s, "
            f"{point['cores']} cores" + ("" if point["fits"] else ", does not fit")
        )
    for found in result["break_even"]:
        factor = found["value"]["factor"]
        met = found["value"]["why"] if factor is None else f"at {factor:.3g} times the rate"
        said.append(f"{found['chip']} against {found['against']}: {met}")
    return "; ".join(said)


def _draw(result: Mapping[str, Any], palette: Palette) -> Figure:
    columns = [axis for axis in _AXES if any(p["axis"] == axis for p in result["points"])]
    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    grid = figure.subplots(len(_ROWS), len(columns), squeeze=False, sharey="row", sharex="col")
    for column, axis in enumerate(columns):
        for row, (key, label) in enumerate(_ROWS):
            axes = grid[row, column]
            _lines(axes, result, axis, key, palette)
            if column == 0:
                axes.set_ylabel(label)
        _references(grid[0, column], result, palette)
        grid[-1, column].set_xlabel(_AXES[axis])
        _ticks(grid[-1, column], axis, [p["at"] for p in result["points"] if p["axis"] == axis])
        if axis == "rate":
            _crossings(grid[0, column], result, palette)
    _legend(figure, *grid[0, -1].get_legend_handles_labels())
    return figure


def _legend(figure: Figure, handles: list[Any], names: list[str]) -> None:
    """Put the names above the charts, in as many columns as the width holds."""
    for columns in (3, 2, 1):
        legend = figure.legend(
            handles,
            names,
            loc="outside upper left",
            ncols=columns,
            title=_TITLE,
            alignment="left",
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
    lines = -(-len(names) // columns)
    figure.set_figheight(_HEIGHT + _LINE * max(0, lines - 2))


def _lines(axes: Axes, result: Mapping[str, Any], axis: str, key: str, palette: Palette) -> None:
    for index, chip in enumerate(result["chips"]):
        points = [p for p in result["points"] if (p["axis"], p["chip"]) == (axis, chip)]
        if not points:
            continue
        at = [point["at"] for point in points]
        colour = palette.series[index % len(palette.series)]
        values = [point[key]["value"] if key == "energy_j" else point[key] for point in points]
        axes.plot(
            at, values, color=colour, linestyle=LINES[index % len(LINES)],
            marker=MARKERS[index % len(MARKERS)], markersize=5, label=chip,
        )  # fmt: skip
        ends = [_ends(point, key) for point in points]
        low, high = ([each[end] for each in ends] for end in (0, 1))
        axes.fill_between(at, low, high, color=colour, alpha=0.15, linewidth=0)
        for x, y, point in zip(at, values, points, strict=True):
            if not point["fits"]:
                axes.plot(x, y, marker="x", markersize=11, color=palette.ink, linestyle="none")
    if key in _COUNTS:
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=5))
        axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
    else:
        axes.set_yscale("log")
        bottom, top = axes.get_ylim()
        if top < 100 * bottom:
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(EngFormatter(sep=" "))
        axes.yaxis.set_minor_formatter(NullFormatter())


def _ends(point: Mapping[str, Any], key: str) -> tuple[float, float]:
    """Low and high of a point's figure; a count has no range."""
    if key == "energy_j":
        return point[key]["low"], point[key]["high"]
    if key == "latency_s":
        low, high = point["latency_range_s"]
        return low, high
    return point[key], point[key]


def _ticks(axes: Axes, axis: str, at: Sequence[float]) -> None:
    if axis == "rate" and min(at) > 0:
        axes.set_xscale("log")
    axes.set_xticks(sorted(set(at)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _references(axes: Axes, result: Mapping[str, Any], palette: Palette) -> None:
    for index, reference in enumerate(result["references"]):
        colour = palette.series[(len(result["chips"]) + index) % len(palette.series)]
        label = f"{reference['name']} ({reference['kind']})"
        axes.axhline(
            reference["energy_j"],
            color=colour,
            linewidth=1.2,
            linestyle=_REFERENCE_LINES[index % len(_REFERENCE_LINES)],
            label=label,
        )
        if reference["high"] is not None and reference["high"] > reference["low"]:
            axes.axhspan(reference["low"], reference["high"], color=colour, alpha=0.1, linewidth=0)


def _crossings(axes: Axes, result: Mapping[str, Any], palette: Palette) -> None:
    levels = {reference["name"]: reference["energy_j"] for reference in result["references"]}
    shown = axes.get_xlim()
    for found in result["break_even"]:
        factor = found["value"]["factor"]
        if factor is not None and shown[0] <= factor <= shown[1]:
            axes.plot(
                factor, levels[found["against"]], marker="o", markersize=9, linestyle="none",
                markerfacecolor="none", color=palette.ink,
            )  # fmt: skip
