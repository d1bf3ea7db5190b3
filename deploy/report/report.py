"""The comparison as one self-contained HTML file, and as a table for the terminal.

Every number is marked as measured, modelled or estimated, and no column mixes the three: what
the chip would take (estimated) and what the GPU takes (measured or modelled) stand in columns of
their own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich import box
from rich.markup import escape
from rich.table import Table

from spikeship.deploy.report import pictures
from spikeship.deploy.report.pictures import ReportFigures
from spikeship.deploy.report.placement_picture import placement_picture
from spikeship.hw_models.atomic import replacing

__all__ = ["ReportFigures", "table", "write_report"]

TEMPLATES = Path(__file__).parent / "templates"
NONE = "–"
_PREFIXES = {0: "", -3: "m", -6: "µ", -9: "n", -12: "p"}
_STAGES = {
    "ann": "ANN",
    "onnxruntime": "ONNX Runtime",
    "int8": "ANN, int8",
    "converted": "Converted",
    "hybrid": "Hybrid",
    "integer": "Integers",
    "lava": "Lava",
}
_MEANINGS = {
    "ANN": "the trained network, float arithmetic in PyTorch",
    "ONNX Runtime": "the same network from its ONNX file, run by ONNX Runtime",
    "ANN, int8": "the trained network in 8-bit integers on ONNX Runtime, not spiking",
    "Converted": "the spiking network straight after threshold balancing",
    "Hybrid": "the spiking network after fine-tuning through time (STDB)",
    "Integers": "the quantized network in the chip's integers, in the simulator",
    "Lava": "the same integers as Lava Processes, on Lava's own runtime",
}


@dataclass(frozen=True)
class Row:
    """One stage, every figure as text; ``–`` where there is none."""

    stage: str
    accuracy: str
    interval: str
    images: str
    agreement: str
    num_steps: str
    chip_steps: str
    synops: str
    energy: str
    energy_range: str
    latency: str


def write_report(
    comparison: Mapping[str, Any], figures_data: ReportFigures, path: Path | str
) -> Path:
    """Write the report as one HTML file that refers to nothing outside itself.

    Energy and time of a stage are shown where it has chip steps; the range is the chip's, where the
    stage's energy is the chip's estimate.

    Args:
        comparison: the JSON object of ``compare`` (or ``demo``: then ``verify`` is told too).
        figures_data: what the pictures show.
        path: where to write; an older file there is replaced in one step.

    Returns:
        The absolute path of the file.
    """
    path = Path(path).absolute()
    rows = comparison["rows"]
    ann = next((row["accuracy"] for row in rows if row["stage"] == "ann"), None)
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [_row(row, comparison["chip"]) for row in rows]
    html = environment.get_template("report.html.j2").render(
        rows=shown,
        meanings={row.stage: _MEANINGS[row.stage] for row in shown if row.stage in _MEANINGS},
        chip=_chip(comparison["chip"]),
        gpu=_gpu(comparison["gpu"]),
        verify=comparison.get("verify"),
        layers=figures_data.synops_by_layer,
        count=_count,
        accuracy=pictures.accuracy(figures_data, _STAGES, ann),
        synops=pictures.synops(figures_data),
        raster=pictures.raster(figures_data),
        raster_label=figures_data.raster_label,
        placement=(
            None if figures_data.placement is None else placement_picture(figures_data.placement)
        ),
        version=version("spikeship"),
    )
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def table(comparison: Mapping[str, Any]) -> Table:
    """Return the stages as one table for the terminal, 80 columns wide, the GPU's line below.

    Below a figure stands its 95 % interval (accuracy) or its range (energy).
    """
    chip, gpu = comparison["chip"], _gpu(comparison["gpu"])
    shown = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        title=f"Energy and latency estimated for {escape(_chip_name(chip))}, all else measured",
        title_justify="left",
        caption=f"GPU reference, {escape(gpu['kind'])}: {gpu['energy']} an inference, "
        f"{gpu['latency']} a call",
        caption_justify="left",
    )
    shown.add_column("stage", no_wrap=True)
    for heading in (
        "accuracy",
        "images",
        "num_\nsteps",
        "chip_\nsteps",
        "synops",
        "energy",
        "latency",
    ):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in (_row(row, chip) for row in comparison["rows"]):
        shown.add_row(
            escape(row.stage),
            f"{row.accuracy}\n[dim]{row.interval}[/dim]",
            row.images,
            row.num_steps,
            row.chip_steps,
            row.synops,
            row.energy if row.energy_range == NONE else f"{row.energy}\n[dim]{row.energy_range}[/]",
            row.latency,
        )
    return shown


def _row(row: Mapping[str, Any], chip: Mapping[str, Any]) -> Row:
    # a stage without chip steps does not run on a chip: what it takes is the GPU's to tell
    on_chip = row["chip_steps"] is not None
    energy_j = row["energy_j"] if on_chip else None
    of_chip = chip["energy_j"]
    ranged = energy_j is not None and math.isclose(energy_j, of_chip["dynamic"] + of_chip["static"])
    return Row(
        stage=_STAGES.get(row["stage"], row["stage"]),
        accuracy=_percent(row["accuracy"]),
        interval=_interval(row["ci95"]),
        images=_count(row["images"]),
        agreement=_percent(row["agreement_with_previous"]),
        num_steps=_count(row["num_steps"]),
        chip_steps=_count(row["chip_steps"]),
        synops=_count(row["synops"]),
        energy=si(energy_j, "J"),
        energy_range=energy_range(of_chip) if ranged else NONE,
        latency=si(row["latency_s"] if on_chip else None, "s"),
    )


def _chip_name(chip: Mapping[str, Any]) -> str:
    name = str(chip["chip"])
    return f"Loihi {name.removeprefix('loihi')}" if name.startswith("loihi") else name


def _chip(chip: Mapping[str, Any]) -> dict[str, Any]:
    energy = chip["energy_j"]
    total = si(energy["dynamic"] + energy["static"], "J")
    return {
        "name": _chip_name(chip),
        "energy": total,
        "energy_range": energy_range(energy),
        "figures": [
            ("energy of one inference", total),
            ("its range", energy_range(energy)),
            ("of it dynamic", si(energy["dynamic"], "J")),
            ("of it static", si(energy["static"], "J")),
            ("time of one inference", si(chip["latency_s"], "s")),
            ("serial slots of the busiest core a step", _count(chip["cycles_per_step"])),
            ("cores", _count(chip["cores"]) + ("" if chip["fits"] else " (does not fit)")),
            *_beside(chip),
        ],
        "assumptions": list(chip["assumptions"]),
    }


def _beside(chip: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The host's row, and what decides the time, where the estimate says them."""
    rows = []
    if "bottleneck" in chip:
        found = chip["bottleneck"]
        busiest = f"busiest in {found['layer']}"
        if found["limit"] == "link" and found.get("link"):
            busiest = f"most of it of {found['link']['synapses'][0]['name']}"
        rows.append(("what decides the time", f"{found['limit']}, {busiest}"))
    if "host" in chip:
        host = chip["host"]
        known = host["energy_j"] is not None
        share = f"{si(host['energy_j'], 'J')}, {si(host['latency_s'], 's')}" if known else "unknown"
        rows.append(("the host's share, not in these figures", share))
    return rows


def _gpu(gpu: Mapping[str, Any]) -> dict[str, Any]:
    energy, latency = si(gpu["energy_j"], "J"), si(gpu["latency_s"], "s")
    return {
        "kind": gpu["kind"],
        "energy": energy,
        "latency": latency,
        "figures": [
            ("device", gpu["device"]),
            ("energy of one inference", energy),
            ("its range", energy_range(gpu)),
            ("time of one call", latency),
            ("inferences a call", _count(gpu["inferences_per_call"])),
            ("power of the idle GPU", si(gpu["idle_power_w"], "W")),
        ],
        "assumptions": list(gpu["assumptions"]),
    }


def _percent(fraction: float | None) -> str:
    return f"{100 * fraction:.1f} %" if fraction is not None else NONE


def _interval(fractions: tuple[float, float] | None) -> str:
    if fractions is None:
        return NONE
    low, high = fractions
    return f"{100 * low:.1f}–{100 * high:.1f} %"


def energy_range(energy: Mapping[str, float | None]) -> str:
    """Joules ``low`` to ``high`` in the unit of the upper end, e.g. ``0.9–21 µJ``.

    A lower end that would be below a thousandth of it has its own unit: ``5 nJ–21 µJ``. Without
    an upper end: ``5 nJ or more``.
    """
    low, high = energy["low"], energy["high"]
    if low is None or not math.isfinite(low):
        return NONE
    if high is None or not math.isfinite(high):
        return f"{si(low, 'J')} or more"
    lower = _three_digits(low) / 10.0 ** _exponent(high)
    begin = si(low, "J") if 0 < lower < 1e-3 else _plain(lower)
    return f"{begin}–{si(high, 'J')}"


def _count(number: float | None) -> str:
    if number is None:
        return NONE
    return f"{number / 1e6:,.3g} M" if number >= 1e6 else f"{number:,.0f}"


def si(value: float | None, unit: str) -> str:
    """Three digits and the unit with its prefix, e.g. ``3.21 µJ``."""
    if value is None or not math.isfinite(value):
        return NONE
    exponent = _exponent(value)
    return f"{_plain(_three_digits(value) / 10.0**exponent)} {_PREFIXES[exponent]}{unit}"


def _three_digits(value: float) -> float:
    return float(f"{value:.2e}")


def _plain(rounded: float) -> str:
    """A number of few digits, all of them, with commas."""
    return f"{rounded:,.12g}"


def _exponent(value: float) -> int:
    """Power of ten of the prefix for ``value`` in three digits: 0, -3, -6, -9 or -12."""
    rounded = int(f"{value:.2e}".split("e")[1])  # 999.7e-6 is 1 m, not 1,000 µ
    return max(-12, min(0, rounded // 3 * 3))
