"""The fast engine: the reference's spikes, batched over images and folded over time.

Nothing crosses the layers of a gated graph out of step, so each layer runs all its T local steps
at once: one large convolution or product for the sums (``sums.py``), one compiled scan for the
neurons (``scan.py``). An ungated graph without loops is folded the same way over its chip steps.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.counts import EventCounts, count_layer
from spikeship.hw_models.graph import FixedGraph, Neuron, Readout
from spikeship.hw_models.recording import Recording
from spikeship.hw_models.reference import StateOverflowError, check_messages
from spikeship.hw_models.scan import scan
from spikeship.hw_models.sums import Sums

MEMORY_BUDGET = 2 * 2**30
BYTES_PER_VALUE = 16  # sums, their float form, messages and spikes of one neuron in one step


@dataclass(frozen=True, eq=False)
class Simulation:
    """What a simulation gives.

    Attributes:
        scores: readout per image and class after all steps, int64, in units of the readout's
            scale; spike counts where the last node is a neuron.
        scores_by_step: the same after each step of the output's own, (images, steps, classes).
        counts: spikes, synaptic operations and updates, per layer and chip step.
        rails: neuron-steps at the lower and the upper rail, by node name.
        recording: every node's activity, where it was asked for.
    """

    scores: NDArray[np.int64]
    scores_by_step: NDArray[np.int64]
    counts: EventCounts
    rails: dict[str, tuple[int, int]]
    recording: Recording | None

    @property
    def predictions(self) -> NDArray[np.int64]:
        """Class per image (the first of equals, as argmax has it)."""
        return np.asarray(self.scores.argmax(axis=1), dtype=np.int64)


def simulate(
    graph: FixedGraph,
    messages: NDArray[Any],
    *,
    record: bool = False,
    memory_budget: int = MEMORY_BUDGET,
) -> Simulation:
    """Run images through a graph.

    Args:
        graph: a network without loops.
        messages: integers (images, T, *input shape).
        record: keep every node's activity.
        memory_budget: bytes that the layers in work may take; images are run in chunks of it.

    Raises:
        ValueError: messages that do not fit, or a graph with loops.
        StateOverflowError: a sum left 24 bits.
    """
    messages = check_messages(graph, messages).astype(np.int16)
    engine = Engine(graph)
    parts = [
        engine.run(messages[chunk], record=record)
        for chunk in engine.chunks(len(messages), messages.shape[1], memory_budget)
    ]
    return _merged(parts)


class Engine:
    """A graph made ready: weights in the form the sums want, kept for many batches."""

    def __init__(self, graph: FixedGraph) -> None:
        order = [graph.input.name, *(node.name for node in graph.nodes)]
        for synapse in graph.synapses:
            if order.index(synapse.source) >= order.index(synapse.target):
                raise ValueError(
                    f"synapse {synapse.name!r}: leads back from {synapse.source!r} to "
                    f"{synapse.target!r}; the simulator takes no loops, the reference does"
                )
        self.graph = graph
        self.sums = {node.name: self._sums_of(node.name) for node in graph.nodes}

    def _sums_of(self, name: str) -> list[Sums]:
        return [Sums(self.graph, synapse) for synapse in self.graph.incoming(name)]

    def chunks(self, images: int, num_steps: int, memory_budget: int) -> Iterator[slice]:
        """Slices of images whose layers fit the budget together (at least one image each)."""
        nodes = (self.graph.input, *self.graph.nodes)
        neurons = sum(int(np.prod(node.shape)) for node in nodes)
        per_image = neurons * self.graph.chip_steps(num_steps) * BYTES_PER_VALUE
        size = max(1, memory_budget // per_image)
        for begin in range(0, images, size):
            yield slice(begin, min(begin + size, images))

    def run(self, messages: NDArray[np.int16], *, record: bool = False) -> Simulation:
        """Run one chunk of checked messages; see simulate."""
        graph = self.graph
        images, num_steps = messages.shape[:2]
        total = graph.chip_steps(num_steps)
        # in an ungated graph every node runs in all chip steps, so time is folded over those
        steps = num_steps if graph.gated else total
        sent: dict[str, NDArray[Any]] = {graph.input.name: messages}
        rails: dict[str, tuple[int, int]] = {}
        kept: dict[str, NDArray[Any]] = {}
        layers = []
        for node in graph.nodes:
            activation = self._activation(node.name, sent, images, steps)
            sources = {s.source: sent[s.source] for s in graph.incoming(node.name)}
            values: NDArray[Any]
            if isinstance(node, Readout):
                values = _accumulated(node, activation)
                layers.append(count_layer(graph, node, sources))
            else:
                values, rails[node.name] = _spikes(node, activation, graph)
                sent[node.name] = values
                layers.append(count_layer(graph, node, sources, values))
            if record or node is graph.output:
                kept[node.name] = values
        counts = EventCounts(
            num_steps=num_steps,
            chip_steps=total,
            images=images,
            input_spikes=np.count_nonzero(messages.reshape(images, num_steps, -1), axis=(0, 2)),
            layers=tuple(layers),
        )
        output = kept[graph.output.name].astype(np.int64)
        by_step = output if isinstance(graph.output, Readout) else output.cumsum(axis=1)
        by_step = by_step.reshape(images, steps, -1)
        return Simulation(
            scores=by_step[:, -1],
            scores_by_step=by_step,
            counts=counts,
            rails=rails,
            recording=self._recording(messages, kept, rails, total) if record else None,
        )

    def _activation(
        self, name: str, sent: dict[str, NDArray[Any]], images: int, steps: int
    ) -> NDArray[np.int32]:
        node = self.graph.node(name)
        total = np.zeros((images * steps, int(np.prod(node.shape))), np.int32)
        for sums in self.sums[name]:
            messages = sent[sums.synapse.source]
            if not self.graph.gated:
                messages = _delayed(messages, sums.synapse.delay, steps)
            sums.add_to(messages.reshape(images * steps, *messages.shape[2:]), total)
        return total.reshape(images, steps, -1)

    def _recording(
        self,
        messages: NDArray[Any],
        kept: dict[str, NDArray[Any]],
        rails: dict[str, tuple[int, int]],
        total: int,
    ) -> Recording:
        """Put local steps back where the chip has them."""
        graph, (images, num_steps) = self.graph, messages.shape[:2]
        nodes = {}
        for node in graph.nodes:
            local = kept[node.name]
            if not graph.gated:
                nodes[node.name] = local
                continue
            depth = graph.depths[node.name]
            chip = np.zeros((images, total, *node.shape), local.dtype)
            chip[:, depth : depth + num_steps] = local
            if isinstance(node, Readout):
                chip[:, depth + num_steps :] = local[:, -1:]
            nodes[node.name] = chip
        return Recording(num_steps=num_steps, input=messages, nodes=nodes, rails=rails)


def _delayed(messages: NDArray[Any], delay: int, steps: int) -> NDArray[Any]:
    """Messages as they arrive: ``delay`` steps later, over ``steps`` chip steps."""
    late = np.zeros((len(messages), steps, *messages.shape[2:]), messages.dtype)
    counted = min(messages.shape[1], steps - delay)
    late[:, delay : delay + counted] = messages[:, :counted]
    return late


def _accumulated(node: Readout, activation: NDArray[np.int32]) -> NDArray[np.int32]:
    bias = np.broadcast_to(node.bias, node.shape).reshape(-1)
    total = (activation.astype(np.int64) + bias).cumsum(axis=1)
    if total.size and int(np.abs(total).max()) > fixed.READOUT_RAIL:
        raise StateOverflowError(
            f"readout {node.name!r}: reaches {int(np.abs(total).max())}, beyond 32 bits; "
            "use fewer steps or a larger scale"
        )
    return total.astype(np.int32).reshape(*activation.shape[:2], *node.shape)


def _spikes(
    node: Neuron, activation: NDArray[np.int32], graph: FixedGraph
) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    spikes = np.empty(activation.shape, np.uint8)
    lower, upper, worst, step = scan(node, activation, spikes)
    if worst > fixed.STATE_RAIL:
        chip_step = step + 1 + (graph.depths[node.name] if graph.gated else 0)
        raise StateOverflowError(
            f"node {node.name!r}: its input reaches {worst >> fixed.STATE_SHIFT} weight units in "
            f"chip step {chip_step}, beyond the {fixed.INPUT_LIMIT} that 24 bits hold; quantize "
            "with a larger scale"
        )
    return spikes.reshape(*activation.shape[:2], *node.shape), (lower, upper)


def _merged(parts: list[Simulation]) -> Simulation:
    counts = parts[0].counts
    for part in parts[1:]:
        counts = counts + part.counts
    recordings = [part.recording for part in parts if part.recording is not None]
    names = parts[0].rails
    rails = {
        name: (sum(p.rails[name][0] for p in parts), sum(p.rails[name][1] for p in parts))
        for name in names
    }
    recording = None
    if recordings:
        recording = Recording(
            num_steps=recordings[0].num_steps,
            input=np.concatenate([r.input for r in recordings]),
            nodes={
                name: np.concatenate([r.nodes[name] for r in recordings])
                for name in recordings[0].nodes
            },
            rails=rails,
        )
    return Simulation(
        scores=np.concatenate([part.scores for part in parts]),
        scores_by_step=np.concatenate([part.scores_by_step for part in parts]),
        counts=counts,
        rails=rails,
        recording=recording,
    )
