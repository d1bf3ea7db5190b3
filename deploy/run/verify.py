"""Hold the fast simulator against a slower authority, every value of every layer."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.errors import InputError
from spikeship.hw_models.events.recording import Difference, Recording, first_difference
from spikeship.hw_models.graph import FixedGraph, GradedNode, Readout
from spikeship.hw_models.lava import runner
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.simulator.simulator import simulate

Against = Literal["lava", "reference"]
SPIKE_RATE = 0.2
UNSAID_STEPS = 32
GRADED_MAX = 127  # of random messages to sigma-delta neurons


@dataclass(frozen=True)
class Verification:
    """The result of a comparison.

    Attributes:
        against: who the simulator was held against.
        images: number of images.
        steps: chip steps of each.
        spikes_compared: spikes the authority recorded, every one of them compared.
        values_compared: neuron-steps compared, silent ones and readout potentials included.
        first_difference: the earliest disagreement, or None.
        layers: per node its name, the authority's spikes (messages, where graded; None of a
            readout), and whether all its values are equal.
        recording: what the authority recorded.
    """

    against: Against
    images: int
    steps: int
    spikes_compared: int
    values_compared: int
    first_difference: Difference | None
    layers: tuple[dict[str, Any], ...]
    recording: Recording

    def __repr__(self) -> str:
        found = "all equal" if self.spikes_equal else f"first difference: {self.first_difference}"
        return (
            f"<Verification against {self.against}: {self.spikes_compared:,} spikes of "
            f"{self.images} images, {found}>"
        )

    @property
    def spikes_equal(self) -> bool:
        """Whether every value of every layer is equal."""
        return self.first_difference is None

    def to_json(self) -> dict[str, Any]:
        """The object that ``verify --json`` prints."""
        return {
            "against": self.against,
            "images": self.images,
            "steps": self.steps,
            "spikes_compared": self.spikes_compared,
            "values_compared": self.values_compared,
            "spikes_equal": self.spikes_equal,
            "first_difference": None
            if self.first_difference is None
            else str(self.first_difference),
            "layers": list(self.layers),
        }


def verify(
    graph: FixedGraph,
    messages: NDArray[Any],
    against: Against,
    *,
    stall_s: float = runner.STALL_S,
) -> Verification:
    """Run the simulator and an authority on the same messages and compare all they recorded.

    Args:
        graph: the network.
        messages: integers (images, T, *input shape).
        against: real Lava, or the reference interpreter.
        stall_s: give Lava up when no step has begun for this long.

    Raises:
        ValueError: messages that do not fit, no images, or a sum that leaves 24 bits.
        LavaError: Lava did not finish.
    """
    if len(messages) == 0:
        raise InputError("verify: no images to compare; give at least one")
    ours = simulate(graph, messages, record=True).recording
    assert ours is not None  # record=True
    if against == "lava":
        theirs = runner.run(graph, messages, stall_s=stall_s).recording
    else:
        theirs = reference.run(graph, messages)
    layers: tuple[dict[str, Any], ...] = tuple(
        {
            "name": node.name,
            "spikes": None
            if isinstance(node, Readout)
            else int(np.count_nonzero(theirs.nodes[node.name])),
            "equal": bool(np.array_equal(theirs.nodes[node.name], ours.nodes[node.name])),
        }
        for node in graph.nodes
    )
    return Verification(
        against=against,
        images=len(messages),
        steps=graph.chip_steps(graph.steps_of(messages.shape[1])),
        spikes_compared=sum(int(row["spikes"] or 0) for row in layers),
        values_compared=sum(values.size for values in theirs.nodes.values()),
        first_difference=first_difference(graph, theirs, ours),
        layers=layers,
        recording=theirs,
    )


def random_messages(graph: FixedGraph, images: int, seed: int) -> NDArray[np.int64]:
    """Seeded random messages of the network's kind: Bernoulli 0.2, signed where the input is.

    Returns:
        Integers (images, T, *input shape), T the graph's own or 32 where it says none. Graded
        ``spikes`` have a magnitude of 1..max_message, uniform in its logarithm; of 8 bits at most
        before sigma-delta neurons, whose sums nothing bounds. Direct input gets one uniform value
        a pixel, the same every step.
    """
    rng = np.random.default_rng(seed)
    steps = graph.num_steps or UNSAID_STEPS
    shape = (images, steps, *graph.input.shape)
    top = graph.input.max_message
    low = -top if graph.input.signed else 0
    if graph.input.encoding == "direct":
        still = rng.integers(low, top + 1, (images, 1, *graph.input.shape))
        return np.broadcast_to(still, shape).copy()
    spikes = (rng.random(shape) < SPIKE_RATE).astype(np.int64)
    if graph.input.encoding == "spikes" and top > 1:
        if any(isinstance(node, GradedNode) for node in graph.nodes):
            top = min(top, GRADED_MAX)
        spikes *= np.exp(rng.random(shape) * np.log(top + 1)).astype(np.int64).clip(1, top)
    if graph.input.signed:
        spikes *= rng.choice(np.array([-1, 1]), shape)
    return spikes
