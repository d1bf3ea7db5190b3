"""Recording: what every node did in every chip step, the same from every engine."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.errors import InputError
from spikeship.hw_models.graph import FixedGraph, Readout


@dataclass(frozen=True, eq=False)
class Recording:
    """Activity of a run, in chip steps: index k is Lava step k + 1.

    Attributes:
        num_steps: T.
        input: messages, (images, T, *shape).
        nodes: by node name (images, T + D, *shape): 0/1 spikes, graded messages of sigma-delta
            neurons, or the readout's potential.
        rails: by node name how many neuron-steps met the lower and the upper rail; empty where
            the engine cannot see potentials (Lava).
        potentials: by node name (images, T + D, *shape) the state after each step: v after the
            reset, sigma of a SigmaDelta, act of a Delta; empty where it was not asked for.
        wraps: by node name how many sums and currents left 24 bits, of a run that lets them.
        currents: the same as potentials, for the neurons' u.
    """

    num_steps: int
    input: NDArray[Any]
    nodes: Mapping[str, NDArray[Any]]
    rails: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    potentials: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    currents: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return (
            f"<Recording of {len(self.input)} images, T = {self.num_steps}: "
            f"{', '.join(self.nodes)}>"
        )

    wraps: Mapping[str, int] = field(default_factory=dict)

    def scores(self, graph: FixedGraph) -> NDArray[np.int64]:
        """Per image and class: the readout's last potential, or spike counts without a readout."""
        last = self.nodes[graph.output.name]
        if isinstance(graph.output, Readout):
            return np.asarray(last[:, -1], dtype=np.int64)
        return np.asarray(last.sum(axis=1), dtype=np.int64)

    def scores_by_step(self, graph: FixedGraph) -> NDArray[np.int64]:
        """Scores after each of the output's own steps, (images, steps, classes).

        Its own steps are its T local ones in a gated graph, all T + D in an ungated one, and in a
        staged one the step in which it is read.
        """
        output = np.asarray(self.nodes[graph.output.name], dtype=np.int64)
        by_step = output if isinstance(graph.output, Readout) else output.cumsum(axis=1)
        if graph.gated:
            by_step = by_step[:, graph.drain : graph.drain + self.num_steps]
        if graph.timing == "staged":
            by_step = by_step[:, -1:]
        return by_step.reshape(*by_step.shape[:2], -1)


@dataclass(frozen=True)
class Difference:
    """Where two recordings first disagree, in order of steps, then of layers."""

    image: int
    layer: str
    chip_step: int
    local_step: int
    neuron: tuple[int, ...]
    expected: int
    found: int

    def __str__(self) -> str:
        """Say it in one line."""
        return (
            f"image {self.image}, layer {self.layer!r}, chip step {self.chip_step} "
            f"(local step {self.local_step}), neuron {self.neuron}: "
            f"expected {self.expected}, found {self.found}"
        )


def first_difference(graph: FixedGraph, expected: Recording, found: Recording) -> Difference | None:
    """Return the earliest disagreement, or None where every value of every node is equal.

    Raises:
        ValueError: the recordings are of different runs (other nodes, images or steps).
    """
    earliest: Difference | None = None
    for node in graph.nodes:
        ours, theirs = expected.nodes[node.name], found.nodes[node.name]
        if ours.shape != theirs.shape:
            raise InputError(
                f"layer {node.name!r}: recordings have shapes {ours.shape} and {theirs.shape}; "
                "compare runs of the same images and steps"
            )
        where = np.argwhere(ours != theirs)
        if len(where) == 0:
            continue
        image, step, *neuron = (int(n) for n in min(map(tuple, where)))
        if earliest is None or (image, step) < (earliest.image, earliest.chip_step - 1):
            at = (image, step, *neuron)
            earliest = Difference(
                image=image,
                layer=node.name,
                chip_step=step + 1,
                local_step=step - graph.depths[node.name],
                neuron=tuple(neuron),
                expected=int(ours[at]),
                found=int(theirs[at]),
            )
    return earliest
