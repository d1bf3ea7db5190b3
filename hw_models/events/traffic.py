"""Traffic: how often every neuron sends in every step, mean over images.

Recorded, or spread evenly where only a layer's total is known. A recording is kept as whole
numbers over all images, 4 bytes a neuron and step however many there are (VGG16 at T = 100:
132 MB, twice that while the recorder has its own); a layer spread evenly takes 8 bytes a step.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.events.activity import Activity, sending
from spikeship.hw_models.events.counts import CountError, EventCounts, working_steps
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.events.tally import count_nonzero
from spikeship.hw_models.graph import FixedGraph, Readout, SpikingNode

Sent = NDArray[np.floating[Any]]
MOST_BYTES = 2**31


class Means(Mapping[str, Sent]):
    """Means over images, each divided when it is asked for.

    Args:
        sums: whole numbers over all images, by name, (steps, *shape); float32 holds them up to 2^24
            images.
        images: how many.
    """

    def __init__(self, sums: Mapping[str, Sent], images: int) -> None:
        self.sums, self.images = sums, images

    def __getitem__(self, name: str) -> Sent:
        """Return a node's means in a fresh array of float64."""
        return np.divide(self.sums[name], self.images, dtype=np.float64)

    def __iter__(self) -> Iterator[str]:
        """Names of the nodes."""
        return iter(self.sums)

    def __len__(self) -> int:
        """How many nodes there are."""
        return len(self.sums)


@dataclass(frozen=True, eq=False)
class Traffic:
    """Mean messages that every neuron sends, per image.

    Attributes:
        messages: by name of a sending node, the input among them, (steps, *shape), at the chip
            step in which they are sent: T of them for the input, T + D for a node. Several steps
            or neurons may share memory.
        recorded: whether neurons differ as they did in a run, not spread evenly.
    """

    messages: Mapping[str, Sent]
    recorded: bool = False

    @property
    def sums(self) -> tuple[Mapping[str, Sent], int]:
        """Messages over so many images, and how many: whole numbers where they were recorded."""
        if isinstance(self.messages, Means):
            return self.messages.sums, self.messages.images
        return self.messages, 1

    @classmethod
    def even(cls, graph: FixedGraph, counts: EventCounts) -> "Traffic":
        """Each layer's count in each step, the same for all its neurons."""
        given = counts.input_spikes[: graph.input_steps(counts.num_steps)]
        sent = {graph.input.name: _spread(given / counts.images, graph.input.shape)}
        nodes = {node.name: node for node in graph.nodes}
        for layer in counts.layers:
            node = nodes[layer.name]
            if not isinstance(node, Readout):
                sent[node.name] = _spread(layer.spikes / counts.images, node.shape)
        return cls(sent)

    @classmethod
    def uniform(cls, graph: FixedGraph, rate: float, num_steps: int) -> "Traffic":
        """Every source neuron sends ``rate`` messages in each of its working steps."""
        neurons = int(np.prod(graph.input.shape, dtype=np.int64))
        given = np.full(graph.input_steps(num_steps), rate * neurons)
        sent = {graph.input.name: _spread(given, graph.input.shape)}
        for node in senders(graph):
            each = np.zeros(graph.chip_steps(num_steps))
            each[firing(graph, node.name, num_steps)] = rate
            neurons = int(np.prod(node.shape, dtype=np.int64))
            sent[node.name] = _spread(each * neurons, node.shape)
        return cls(sent)

    def check(self, graph: FixedGraph, num_steps: int) -> None:
        """Refuse traffic that is not of this graph and T.

        Raises:
            CountError: a sender is missing, its array has another shape, or values no counts have.
        """
        shapes = {graph.input.name: (graph.input_steps(num_steps), *graph.input.shape)}
        steps = graph.chip_steps(num_steps)
        shapes |= {node.name: (steps, *node.shape) for node in senders(graph)}
        sums, _ = self.sums
        for name, shape in shapes.items():
            found = sums[name].shape if name in sums else None
            if found != shape:
                raise CountError(
                    f"traffic of node {name!r}: shape {found}, this graph at T={num_steps} needs "
                    f"{shape}; record the run that is estimated"
                )
            values = sums[name]
            # what is spread evenly shares memory: one of those is looked at
            once = values[tuple(slice(None if step else 1) for step in values.strides)]
            if not (once.size and once.min() >= 0 and once.max() < np.inf):
                raise CountError(
                    f"traffic of node {name!r}: no number of messages in each step; give one step "
                    "or more, and counts from 0 on"
                )


class TrafficRecorder:
    """Adds up recordings of any number of batches: a recorder for evaluate_graph.

    Args:
        graph: the graph that is run.
        most_bytes: of memory. Of a run that needs more, only each layer's total in each step is
            kept, and its traffic is spread evenly.
    """

    def __init__(self, graph: FixedGraph, most_bytes: int = MOST_BYTES) -> None:
        self.graph, self.most_bytes = graph, most_bytes
        self.images = 0
        self._sums: dict[str, Sent] = {}

    def __call__(self, recording: Recording) -> None:
        """Add some images' messages.

        Raises:
            CountError: they ran another number of steps than those before.
        """
        by_neuron = self._by_neuron(recording.num_steps)
        count = sending if by_neuron else _in_all
        self._add(self.graph.input.name, count(recording.input))
        nodes = recording.nodes
        for node in senders(self.graph):
            if by_neuron and isinstance(nodes, Activity):
                self._add(node.name, nodes.sending(node.name))
            else:
                self._add(node.name, count(nodes[node.name]))
        self.images += len(recording.input)

    def traffic(self) -> Traffic:
        """The mean over all images so far.

        Raises:
            CountError: there were none.
        """
        if self.images == 0:
            raise CountError("traffic: no images were recorded; run at least one")
        if all(total.ndim > 1 for total in self._sums.values()):
            sums = {name: total.copy() for name, total in self._sums.items()}
            return Traffic(Means(sums, self.images), recorded=True)
        return Traffic(
            {
                name: _spread(total / self.images, self.graph.node(name).shape)
                for name, total in self._sums.items()
            }
        )

    def _by_neuron(self, num_steps: int) -> bool:
        neurons = sum(int(np.prod(node.shape, dtype=np.int64)) for node in senders(self.graph))
        # the sums, and the copy that traffic() gives
        return 2 * 4 * neurons * self.graph.chip_steps(num_steps) <= self.most_bytes

    def _add(self, name: str, messages: Sent) -> None:
        """Add messages (steps, *shape), or (steps,) of all neurons together."""
        if name not in self._sums:
            self._sums[name] = np.zeros_like(messages)
        before = self._sums[name]
        if before.shape != messages.shape:
            raise CountError(
                f"traffic of node {name!r}: {len(messages)} steps after {len(before)}; record "
                "batches of one run only"
            )
        before += messages


def senders(graph: FixedGraph) -> tuple[SpikingNode, ...]:
    """All nodes that send: the neurons."""
    return tuple(node for node in graph.nodes if not isinstance(node, Readout))


def spiking(graph: FixedGraph) -> set[str]:
    """Names of all that a firing rate is of: the neurons, and the input unless it is direct."""
    names = {node.name for node in senders(graph)}
    return names if graph.input.encoding == "direct" else names | {graph.input.name}


def working(graph: FixedGraph, name: str, num_steps: int) -> slice:
    """Chip steps in which a node works: its own T where the graph is gated, else all."""
    first = graph.depths[name] if graph.gated else 0
    return slice(first, first + working_steps(graph, name, num_steps))


def firing(graph: FixedGraph, name: str, num_steps: int) -> slice:
    """Chip steps in which a node may send: those of its window where staged, else as it works."""
    window = graph.windows.get(name)
    if window is None:
        return working(graph, name, num_steps)
    return slice(window.fire_from - 1, window.last)


def _in_all(messages: NDArray[Any]) -> Sent:
    """How many messages (images, steps, ...) are not 0, (steps,)."""
    return count_nonzero(messages).astype(np.float64)


def _spread(totals: NDArray[np.floating], shape: tuple[int, ...]) -> Sent:
    """A layer's messages per step, as (steps, *shape) that takes the memory of one neuron."""
    each = np.asarray(totals / int(np.prod(shape, dtype=np.int64)), dtype=np.float64)
    return np.broadcast_to(each.reshape(-1, *(1,) * len(shape)), (len(totals), *shape))
