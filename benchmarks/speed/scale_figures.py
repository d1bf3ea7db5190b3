"""Figures of what ``scale.py`` measured: one panel an axis, and memory against the batch."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402

COST, MEMORY = "simulator-cost.svg", "simulator-memory.svg"
PANELS = {
    "steps": ("num_steps", "T (VGG5, trained)"),
    "batch": ("batch", "images a call (VGG5, trained)"),
    "width": ("width", "width (VGG5)"),
    "depth": ("arch", "architecture"),
}


def draw(rows: list[dict[str, Any]], folder: Path) -> None:
    """Write the figures of the rows into a folder, which is made where it is missing."""
    folder.mkdir(parents=True, exist_ok=True)
    # the same file for the same numbers
    with pyplot.rc_context({"svg.hashsalt": "spikeship", "font.size": 9}):
        figure, axes = pyplot.subplots(2, 2, figsize=(8, 5.5), layout="constrained")
        for axis, (name, (key, label)) in zip(axes.flat, PANELS.items(), strict=True):
            _cost(axis, [row for row in rows if row["axis"] == name], key, label)
        figure.savefig(folder / COST, metadata={"Date": None})
        pyplot.close(figure)
        figure, axis = pyplot.subplots(figsize=(5, 3), layout="constrained")
        _memory(axis, [row for row in rows if row["axis"] == "batch"])
        figure.savefig(folder / MEMORY, metadata={"Date": None})
        pyplot.close(figure)


def _cost(axis: Axes, rows: list[dict[str, Any]], key: str, label: str) -> None:
    values = [row[key] for row in rows]
    seconds = [1000 * row["seconds_per_image"] for row in rows]
    if key == "arch":
        axis.bar([value.upper() for value in values], seconds, width=0.5)
    else:
        axis.plot(values, seconds, "o-")
    if key == "batch":
        axis.set_xscale("log", base=2)
        axis.set_xticks(values, [str(value) for value in values])
    elif key != "arch":
        axis.set_xlim(left=0)
    axis.set_ylim(bottom=0)
    axis.set_xlabel(label)
    axis.set_ylabel("ms an image")


def _memory(axis: Axes, rows: list[dict[str, Any]]) -> None:
    batches = [row["batch"] for row in rows]
    axis.plot(batches, [row["peak_bytes"] / 1e9 for row in rows], "o-", label="peak")
    before = [row["before_bytes"] / 1e9 for row in rows]
    axis.plot(batches, before, "s--", label="before: network and messages")
    axis.set_xscale("log", base=2)
    axis.set_xticks(batches, [str(batch) for batch in batches])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("images a call (VGG5, T = 75)")
    axis.set_ylabel("GB resident")
    axis.legend()
