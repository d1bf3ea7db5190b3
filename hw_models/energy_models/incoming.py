"""What arrives at a node by each of its synapse objects, from a network's counts.

Counts are kept per node. Where one object feeds a node, its operations are the node's. Where
several do, the node's total is shared out in proportion to their sources' messages times their
mean fan-out; the total stays exact.
"""

from dataclasses import dataclass
from math import prod

from spikeship.hw_models.events.counts import CountError, EventCounts, LayerRates
from spikeship.hw_models.events.fanout import fanout
from spikeship.hw_models.events.macs import synapse_macs
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    GradedNode,
    Input,
    Sparse,
)


@dataclass(frozen=True)
class Incoming:
    """Events of one synapse object, per inference.

    Attributes:
        synapse: the object.
        messages: non-zero messages of its source.
        sources: neurons of its source.
        connected: operations at its stored weights.
        macs: multiply-accumulates of one pass of the same layer in an ANN: existing synapses,
            none on padding; an average pool before it and a skip that only adds cost nothing.
        graded: whether its messages are numbers of several bits, not spikes.
    """

    synapse: AnySynapse
    messages: float
    sources: int
    connected: float
    macs: int
    graded: bool


@dataclass(frozen=True)
class Layer:
    """One node's counts per inference, and what arrives at it."""

    rates: LayerRates
    incoming: tuple[Incoming, ...]
    readers: int

    @property
    def name(self) -> str:
        """Name of the node."""
        return self.rates["name"]

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the ANN's same layer."""
        return sum(one.macs for one in self.incoming)


def is_graded(graph: FixedGraph, name: str) -> bool:
    """Whether a node's messages are numbers of several bits: direct input, sigma-delta neurons."""
    node = graph.node(name)
    if isinstance(node, Input):
        return node.encoding == "direct" or node.max_message > 1
    return isinstance(node, GradedNode)


def layers(graph: FixedGraph, counts: EventCounts) -> tuple[Layer, ...]:
    """Every node with what arrives at it, in the graph's order.

    Raises:
        CountError: the counts are of another graph.
    """
    names = [node.name for node in graph.nodes]
    counted = [layer.name for layer in counts.layers]
    if counted != names:
        raise CountError(
            f"counts of layers {counted} are not of this graph, which has {names}; "
            "count the graph that is estimated"
        )
    rates = counts.per_inference()
    sent = {graph.input.name: rates["input_spikes"]}
    sent |= {row["name"]: row["spikes"] for row in rates["layers"]}
    return tuple(
        Layer(
            row,
            _incoming(graph, row, sent),
            len({synapse.target for synapse in graph.synapses if synapse.source == row["name"]}),
        )
        for row in rates["layers"]
    )


def _incoming(graph: FixedGraph, row: LayerRates, sent: dict[str, float]) -> tuple[Incoming, ...]:
    synapses = graph.incoming(row["name"])
    sources = [prod(graph.node(synapse.source).shape) for synapse in synapses]
    reached = [int(fanout(graph, synapse)[1].sum()) for synapse in synapses]
    expected = [
        sent[synapse.source] * synapses_of / size
        for synapse, synapses_of, size in zip(synapses, reached, sources, strict=True)
    ]
    whole = sum(expected)
    return tuple(
        Incoming(
            synapse=synapse,
            messages=sent[synapse.source],
            sources=size,
            connected=row["synops_connected"] * (part / whole if whole else 0.0),
            macs=synapse_macs(graph, synapse, padding=False),
            graded=is_graded(graph, synapse.source),
        )
        for synapse, size, part, synapses_of in zip(
            synapses, sources, expected, reached, strict=True
        )
    )


def connections(graph: FixedGraph, synapse: AnySynapse) -> int:
    """Weights that one pass over the layer uses, taps on padding included: outputs x kernel."""
    if isinstance(synapse, Conv):
        _, *kernel = synapse.weight.shape
        return prod(graph.node(synapse.target).shape) * prod(kernel)
    if isinstance(synapse, Dense):
        return int(synapse.weight.size)
    if isinstance(synapse, Sparse):
        return int(synapse.data.size)
    return prod(graph.node(synapse.target).shape)
