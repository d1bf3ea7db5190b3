"""What a chip's energy is held against: the GPU's row and the quantized ANN's."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from spikeship.deploy.ann import Ann
from spikeship.deploy.gpu_row import MODELLED_GPU, gpu_reference, read_gpu_result
from spikeship.deploy.inputs import Images
from spikeship.hw_models import energy_models, gpu
from spikeship.hw_models.counts import EventCounts
from spikeship.hw_models.graph import Conv, Dense, FixedGraph

# models that say what the quantized ANN of the network would take
QUANTIZED = ("yan", "horowitz:int8")


@dataclass(frozen=True)
class Reference:
    """Joules of one inference on something else.

    Attributes:
        name: what it is.
        kind: ``measured``, ``modelled`` or ``estimated``.
        energy_j: joules per inference. low, high: their bounds; high is None where nothing bounds
            them from above.
        assumptions: what the figure rests on.
    """

    name: str
    kind: str
    energy_j: float
    low: float
    high: float | None
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the reference as a JSON object."""
        return {
            "name": self.name,
            "kind": self.kind,
            "energy_j": self.energy_j,
            "low": self.low,
            "high": self.high,
            "assumptions": list(self.assumptions),
        }


def gpu_row(
    graph: FixedGraph, images: Images, *, ann: Ann | None = None, result: Path | None = None
) -> Reference:
    """The GPU's row as ``compare`` has it: measured here or elsewhere, else modelled.

    Args:
        graph: the network, whose layers say the MACs where no classifier is given.
        images: what the classifier takes.
        ann: the classifier, run where CUDA is there.
        result: what benchmarks/gpu_reference.py measured.

    Raises:
        GpuError: the result cannot be read, or is of another classifier.
        MeterError: the GPU is there and cannot be measured.
    """
    macs = ann_macs(graph) if ann is None else ann.macs()
    if result is not None:
        found = read_gpu_result(result, macs=macs)
    elif ann is not None:
        found = gpu_reference(ann, images)
    else:
        found = gpu.model(macs, MODELLED_GPU)
    return Reference(
        name=f"ANN on {found.device}",
        kind=found.kind,
        energy_j=found.energy_j,
        low=found.low,
        high=found.high,
        assumptions=found.assumptions,
    )


def quantized_ann_rows(graph: FixedGraph, counts: EventCounts) -> tuple[Reference, ...]:
    """The quantized ANN of the same layers, by each model that has one."""
    rows = []
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
                    *(f"without {w}" for w in found.leaves_out),
                ),
            )
        )
    return tuple(rows)


def ann_macs(graph: FixedGraph) -> int:
    """Multiply-accumulates of the ANN with these layers, taps on padding included."""
    total = 0
    for synapse in graph.synapses:
        if isinstance(synapse, Conv):
            total += prod(graph.node(synapse.target).shape[1:]) * synapse.weight.size
        elif isinstance(synapse, Dense):
            total += synapse.weight.size
    return total
