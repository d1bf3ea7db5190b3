"""Layer: a node to be placed: what its blocks ask of a core, given its neighbours' splits."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.chips.spec import STORED_AS, ChipSpec, Limit
from spikeship.hw_models.graph import AnySynapse, FixedGraph, Node
from spikeship.hw_models.placement import demand
from spikeship.hw_models.placement.placement import LimitName, Rules
from spikeship.hw_models.placement.splits import (
    Cells,
    Field,
    Floats,
    Ints,
    Split,
    cells,
    outer,
    sizes,
)
from spikeship.hw_models.placement.wires import Wire, wire

Splits = Mapping[str, Split]
Loads = dict[LimitName, Ints]
INPUT = Split()  # the input is one source core


def core_limits(chip: ChipSpec) -> dict[LimitName, Limit]:
    """What one core holds, by the name of the limit."""
    limits: dict[LimitName, Limit] = {
        "neurons": chip.compartments_per_core,
        "synaptic memory": chip.synaptic_memory,
        "input axons": chip.input_axons,
        "output axons": chip.output_axons,
    }
    if chip.core_memory is not None:
        limits["state memory"] = chip.core_memory
    return limits


@dataclass(frozen=True, eq=False)
class Link:
    """A synapse that a chip holds, between two layers.

    Attributes:
        synapse: the synapse.
        axons: its axons.
        messages: the same with an axon a source neuron, as messages go.
        rate: messages that a mean source neuron sends in a mean step.
    """

    synapse: AnySynapse
    axons: Wire
    messages: Wire
    rate: float

    @property
    def loop(self) -> bool:
        """Whether it leads from a layer to itself, whose one split is then both its ends."""
        return self.synapse.source == self.synapse.target


@dataclass(frozen=True, eq=False)
class Layer:
    """A node with its demand.

    Attributes:
        name: of the node.
        shape: its shape.
        compartments: of one neuron.
        state_bits: of one neuron.
        channel_bits: synaptic memory that a core takes once for every channel it holds.
        neuron_bits: synaptic memory that it takes for every neuron.
        seconds: time of every neuron's operations, updates and spikes in a mean step.
        incoming, outgoing: its synapses, but for those that the host injects.
        receive_s, send_s: time of receiving and of sending a message.
    """

    name: str
    shape: Cells
    compartments: int
    state_bits: int
    channel_bits: int
    neuron_bits: Field
    seconds: Field
    incoming: tuple[Link, ...]
    outgoing: tuple[Link, ...]
    receive_s: float
    send_s: float

    @property
    def finest(self) -> Split:
        """One neuron a core."""
        return Split(*self.shape)

    def loads(self, split: Split, splits: Splits) -> Loads:
        """What each core of a split takes of every limit, (groups, row tiles, column tiles)."""
        return {**self.memory(split), **self.axons(split, splits)}

    def memory(self, split: Split) -> Loads:
        """Compartments and bits of each core, which do not depend on neighbours."""
        neurons = outer([sizes(n, p) for n, p in zip(self.shape, split.pieces, strict=True)])
        held = sizes(self.shape[0], split.groups)[:, None, None]
        bits = np.asarray(held * self.channel_bits + self.neuron_bits.blocks(split))
        return {
            "neurons": neurons * self.compartments,
            "synaptic memory": bits,
            "state memory": bits + neurons * self.state_bits,
        }

    def axons(self, split: Split, splits: Splits) -> Loads:
        """Axons into and out of each core."""
        entering = leaving = np.zeros(split.pieces, np.int64)
        for link in self.incoming:
            entering = entering + link.axons.inputs(split, _source(link, split, splits))
        for link in self.outgoing:
            leaving = leaving + link.axons.outputs(split, _target(link, split, splits))
        return {"input axons": entering, "output axons": leaving}

    def busiest(self, split: Split, splits: Splits) -> float:
        """Seconds of the slowest core in a mean step, rounded so that equal ones compare equal."""
        times = self.seconds.blocks(split)
        for link in self.incoming:
            received = link.messages.inputs(split, _source(link, split, splits))
            times = times + received * (link.rate * self.receive_s)
        for link in self.outgoing:
            sent = link.messages.outputs(split, _target(link, split, splits))
            times = times + sent * (link.rate * self.send_s)
        return float(f"{times.max():.10g}")

    def messages(self, split: Split, splits: Splits) -> int:
        """Pairs of a source neuron and a core that it reaches, over all synapses."""
        return sum(
            int(link.messages.inputs(split, _source(link, split, splits)).sum())
            for link in self.incoming
        )


def _source(link: Link, split: Split, splits: Splits) -> Split:
    return split if link.loop else splits.get(link.synapse.source, INPUT)


def _target(link: Link, split: Split, splits: Splits) -> Split:
    return split if link.loop else splits[link.synapse.target]


def layers(
    graph: FixedGraph,
    chip: ChipSpec,
    rules: Rules,
    rates: Mapping[str, Floats],
) -> tuple[Layer, ...]:
    """Return every node with its demand.

    Args:
        graph: the network.
        chip: where it goes.
        rules: how to count.
        rates: messages a step of every sending node's neurons.
    """
    links = tuple(
        Link(
            synapse,
            wire(graph, synapse, rules.axons, demand.copies(graph, synapse, chip)),
            wire(graph, synapse, "single", 1),
            float(rates[synapse.source].mean()),
        )
        for synapse in graph.synapses
        if not demand.injected(graph, synapse, chip)
    )
    return tuple(_layer(node, chip, rules, rates, links) for node in graph.nodes)


def _layer(
    node: Node,
    chip: ChipSpec,
    rules: Rules,
    rates: Mapping[str, Floats],
    links: tuple[Link, ...],
) -> Layer:
    shape = cells(node.shape)
    compartments = chip.compartments(node)
    incoming = tuple(link for link in links if link.synapse.target == node.name)
    once = 0
    each: NDArray[np.int64] = np.zeros((1, 1, 1), np.int64)
    time = chip.time
    seconds = rates.get(node.name, np.zeros((1, 1, 1))) * time.spike_out.value
    seconds = seconds + compartments * time.neuron_update.value
    for link in incoming:
        synapse, ends = link.synapse, (link.axons.source, shape)
        width = demand.weight_bits(synapse)
        bits = link.axons.copies * demand.synapse_bits(synapse, chip, rules.kernels, width)
        once += bits * demand.stored_once(synapse, rules.kernels)
        each = each + bits * demand.stored_each(synapse, rules.kernels, *ends)
        done = demand.operations(synapse, rates[synapse.source], *ends)
        seconds = seconds + done * time.synop(STORED_AS[type(synapse)]).value
    return Layer(
        name=node.name,
        shape=shape,
        compartments=compartments,
        state_bits=demand.state_bits(node),
        channel_bits=once,
        neuron_bits=Field(each, shape),
        seconds=Field(seconds, shape),
        incoming=incoming,
        outgoing=tuple(link for link in links if link.synapse.source == node.name),
        receive_s=time.message_in.value,
        send_s=time.message_out.value,
    )
