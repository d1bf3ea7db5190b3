"""What a chip's energy is held against: the GPU's row and the quantized ANN's."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from spikeship.deploy.analysis.gpu_row import (
    MODELLED_GPU,
    NoRowError,
    gpu_reference,
    read_gpu_result,
    read_int8_result,
)
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import Images
from spikeship.hw_models import energy_models
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.events.macs import ann_macs
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.meters import gpu
from spikeship.hw_models.meters.gpu import GpuError, GpuReference

# models that say what the quantized ANN of the network would take
QUANTIZED = ("yan", "horowitz:int8")


@dataclass(frozen=True)
class Reference:
    """Joules of one inference on something else.

    Attributes:
        name: what it is.
        kind: ``measured``, ``modelled`` or ``estimated``.
        energy_j: joules per inference.
        low, high: their bounds; high is None where nothing bounds them from above.
        assumptions: what the figure rests on.
        includes_idle: whether what the device draws without computing is in it, as static power is
            in a chip's figure.
    """

    name: str
    kind: str
    energy_j: float
    low: float
    high: float | None
    assumptions: tuple[str, ...]
    includes_idle: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the reference as a JSON object."""
        return {
            "name": self.name,
            "kind": self.kind,
            "energy_j": self.energy_j,
            "low": self.low,
            "high": self.high,
            "assumptions": list(self.assumptions),
            "includes_idle": self.includes_idle,
        }


def gpu_rows(
    graph: FixedGraph,
    images: Images,
    *,
    ann: Ann | None = None,
    result: Path | None = None,
    utilisation: float | None = None,
) -> tuple[Reference, ...]:
    """The GPU's rows: measured here or elsewhere, else modelled.

    What was measured stands there twice, idle power subtracted and with it; what was measured
    elsewhere also at the batch of fewest joules, and also the ANN in 8-bit integers on a CPU,
    where the result holds its joules.

    Args:
        graph: the network, whose layers say the MACs where no classifier is given.
        images: what the classifier takes.
        ann: the classifier, run where CUDA is there.
        result: what benchmarks/gpu_reference.py measured.
        utilisation: share of the peak rate at which a GPU is modelled, whether or not one is here.

    Raises:
        GpuError: the result cannot be read, or is of another classifier; or a utilisation out of
            range, or beside a result.
        MeterError: the GPU is there and cannot be measured.
    """
    if result is not None and utilisation is not None:
        raise GpuError(
            f"gpu utilisation {utilisation:g}: {result} holds what was measured; leave one out"
        )
    macs = ann_macs(graph, padding=True) if ann is None else ann.macs(padding=True)
    if result is not None:
        found = _measured_elsewhere(result, macs)
    elif ann is not None and utilisation is None:
        found = (gpu_reference(ann, images),)
    else:
        found = (gpu.model(macs, MODELLED_GPU, utilisation),)
    rows = [row for one in found for row in _with_and_without_idle("ANN", one, macs)]
    for whole in () if result is None else _int8_elsewhere(result, macs):
        rows += _with_and_without_idle("int8 ANN", whole, macs)
    return tuple(rows)


def _measured_elsewhere(path: Path, macs: int) -> tuple[GpuReference, ...]:
    """One image at a time, and the batch of fewest joules where that is another."""
    one = read_gpu_result(path, macs=macs)
    try:
        best = read_gpu_result(path, macs=macs, batch="best")
    except NoRowError:
        return (one,)
    return (one,) if best.inferences_per_call == 1 else (one, best)


def _int8_elsewhere(path: Path, macs: int) -> tuple[GpuReference, ...]:
    """The same of the ANN in 8-bit integers; none where nothing counted its joules."""
    one = read_int8_result(path, macs=macs)
    best = read_int8_result(path, macs=macs, batch="best")
    if best is not None and best.inferences_per_call == 1:
        best = None
    return tuple(row for row in (one, best) if row is not None)


def _with_and_without_idle(what: str, found: GpuReference, macs: int) -> tuple[Reference, ...]:
    batch = "" if found.inferences_per_call == 1 else f", batch {found.inferences_per_call}"
    row = Reference(
        name=f"{what} on {found.device}{batch}",
        kind=found.kind,
        energy_j=found.energy_j,
        low=found.low,
        high=found.high,
        assumptions=found.assumptions,
        includes_idle=found.kind == "modelled",
    )
    if found.kind == "modelled":
        counted = f"{macs:,} multiply-accumulates, those on padding too, as dense kernels do them"
        return (replace(row, assumptions=(*row.assumptions, counted)),)
    assert found.high is not None  # whatever was measured was drawn
    whole = "all that was drawn, idle power too, as static power is in the chip's figure"
    idle = replace(
        row,
        name=f"{row.name}, with its idle power",
        energy_j=found.high,
        low=found.high,
        high=found.high,
        assumptions=(whole, *row.assumptions),
        includes_idle=True,
    )
    return row, idle


def quantized_ann_rows(graph: FixedGraph, counts: EventCounts) -> tuple[Reference, ...]:
    """The quantized ANN of the same layers, by each model that has one."""
    rows, macs = [], ann_macs(graph, padding=False)
    for name in QUANTIZED:
        found = energy_models.get(name).energy(graph, counts)
        assert found.ann_energy_j is not None  # these models have one
        rows.append(
            Reference(
                name=f"quantized ANN by {name}",
                kind="estimated",
                energy_j=found.ann_energy_j,
                low=found.ann_energy_j if found.ann_low is None else found.ann_low,
                high=found.ann_energy_j if found.ann_high is None else found.ann_high,
                assumptions=(
                    found.source,
                    found.counts,
                    f"{macs:,} multiply-accumulates, none on padding",
                    *(f"without {w}" for w in found.leaves_out),
                ),
            )
        )
    return tuple(rows)
