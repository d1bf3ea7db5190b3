"""Placement: how many cores each layer of a graph takes, and what does not fit.

A first count, by neurons and synaptic memory; axons and routing are not placed. A layer's neurons
are cut into groups of channels and tiles of positions; a core holds one group of one tile.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from spikeship.hw_models import fixed
from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    GradedNode,
    Identity,
    Node,
)

Decided = Literal["none", "neurons", "synaptic memory"]


@dataclass(frozen=True)
class LayerPlacement:
    """The cores of one layer.

    Attributes:
        name: name of the node.
        cores: cores it takes, ``channel_groups * tiles``.
        channel_groups: pieces its channels (or features) are cut into; every message of a tile
            goes to each of them.
        tiles: pieces its positions are cut into.
        neurons: its neurons.
        compartments: compartments that one of its neurons takes.
        synapse_bits: bits of synaptic memory on all its cores together.
        limit: which limit of a core decided; ``none`` where one core is enough.
    """

    name: str
    cores: int
    channel_groups: int
    tiles: int
    neurons: int
    compartments: int
    synapse_bits: int
    limit: Decided


@dataclass(frozen=True)
class Placement:
    """The cores of a whole graph.

    Attributes:
        chip: name of the chip.
        layers: one row a node, in the graph's order.
        cores: cores of all layers; layers share none.
        chips: chips that hold them.
        fits: whether every layer keeps every limit that is checked.
        reasons: what does not fit: layer, limit, need.
        assumptions: what the count takes for granted or leaves out.
    """

    chip: str
    layers: tuple[LayerPlacement, ...]
    cores: int
    chips: int
    fits: bool
    reasons: tuple[str, ...]
    assumptions: tuple[str, ...]


@dataclass(frozen=True)
class _Demand:
    """What a layer asks of a core's memory, in bits."""

    channel: int  # stored once a core for every channel it holds: shared kernels
    neuron: int  # stored for every single neuron


def place(graph: FixedGraph, chip: ChipSpec) -> Placement:
    """Count the cores that each layer needs on ``chip``."""
    layers: list[LayerPlacement] = []
    reasons: list[str] = []
    for node in graph.nodes:
        layer, reason = _place_layer(graph, node, chip)
        layers.append(layer)
        reasons += [reason] if reason else []
    for synapse in graph.synapses:
        reasons += _broken_limits(graph, synapse, chip)
    cores = sum(layer.cores for layer in layers)
    chips = -(-cores // chip.cores_per_chip.value)
    return Placement(
        chip=chip.name,
        layers=tuple(layers),
        cores=cores,
        chips=chips,
        fits=not reasons,
        reasons=tuple(reasons),
        assumptions=_assumptions(graph, chip, cores, chips),
    )


def _place_layer(
    graph: FixedGraph, node: Node, chip: ChipSpec
) -> tuple[LayerPlacement, str | None]:
    demand = _demand(graph, node, chip)
    compartments = chip.compartments(node)
    room = chip.compartments_per_core.value // compartments
    memory = chip.synaptic_memory.value
    channels = node.shape[0]
    positions = int(np.prod(node.shape[1:], dtype=np.int64))
    bits = demand.neuron * channels * positions
    split = _split(channels, positions, room, memory, demand)
    limit: Decided = "none"
    reason = None
    if split is None:
        need = demand.channel + demand.neuron
        reason = (
            f"layer {node.name!r} does not fit {chip.name}: the synapses of one neuron take "
            f"{need:,} bits where a core holds {memory:,}; use fewer inputs or fewer weight bits"
        )
        limit = "synaptic memory"
        # what it would take if one neuron's synapses could lie on several cores
        split = (-(-(bits + demand.channel * channels) // memory), 1)
    elif split != (1, 1):
        by_neurons = _split(channels, positions, room, memory, _Demand(0, 0))
        fewer = by_neurons is not None and by_neurons[0] * by_neurons[1] < split[0] * split[1]
        limit = "synaptic memory" if fewer else "neurons"
    groups, tiles = split
    return (
        LayerPlacement(
            name=node.name,
            cores=groups * tiles,
            channel_groups=groups,
            tiles=tiles,
            neurons=channels * positions,
            compartments=compartments,
            synapse_bits=bits + demand.channel * channels * tiles,
            limit=limit,
        ),
        reason,
    )


def _split(
    channels: int, positions: int, room: int, memory: int, demand: _Demand
) -> tuple[int, int] | None:
    """Fewest cores as (channel groups, tiles); None where not even one neuron fits a core."""
    best: tuple[int, int] | None = None
    for held in range(min(channels, room), 0, -1):
        spare = memory - held * demand.channel
        tile = min(positions, room // held)
        if demand.neuron:
            tile = min(tile, spare // (held * demand.neuron))
        if spare < 0 or tile < 1:
            continue
        split = (-(-channels // held), -(-positions // tile))
        if best is None or split[0] * split[1] < best[0] * best[1]:
            best = split
    return best


def _demand(graph: FixedGraph, node: Node, chip: ChipSpec) -> _Demand:
    channel = neuron = 0
    for synapse in graph.incoming(node.name):
        copies = 2 if _on_off(graph, synapse, chip) else 1
        bits = copies * _stored_bits(synapse)
        if isinstance(synapse, Conv):
            channel += synapse.weight[0].size * bits
        elif isinstance(synapse, Dense):
            neuron += synapse.weight.shape[1] * bits
        elif synapse.delay > 0:  # messages without delay are injected, they pass no synapse
            index = copies * (chip.compartments_per_core.value - 1).bit_length()
            most = 1 if isinstance(synapse, Identity) else np.diff(synapse.indptr).max(initial=0)
            neuron += int(most) * (bits + index)
    return _Demand(channel, neuron)


def _on_off(graph: FixedGraph, synapse: AnySynapse, chip: ChipSpec) -> bool:
    """Whether signed spikes have to arrive over two channels of unsigned ones."""
    return not chip.graded and graph.signed(synapse) and graph.input.max_message == 1


def _stored_bits(synapse: AnySynapse) -> int:
    """Bits in which a chip stores a weight: odd ones of a convolution doubled, and the sum halved.

    Lava's Conv, which knows no exponent, takes them as they are.
    """
    bits = synapse.num_weight_bits
    if isinstance(synapse, Conv) and bits == fixed.ODD_WEIGHT_BITS:
        doubled = 2 * synapse.weight.astype(np.int64)
        return fixed.WEIGHT_BITS if fixed.fits_weights(doubled, fixed.WEIGHT_BITS) else bits
    return bits


def _broken_limits(graph: FixedGraph, synapse: AnySynapse, chip: ChipSpec) -> list[str]:
    found = []
    extra = synapse.longest - 1  # the chip's delay 0 arrives in the next step
    if extra > chip.max_delay.value:
        found.append(
            f"synapse {synapse.name!r} does not fit {chip.name}: it delays by {extra} steps where "
            f"at most {chip.max_delay.value} are possible; relay it through neurons"
        )
    if not chip.graded and isinstance(graph.node(synapse.source), GradedNode):
        found.append(
            f"synapse {synapse.name!r} does not fit {chip.name}: {synapse.source!r} sends graded "
            "messages, which this chip does not have; use loihi2"
        )
    if _stored_bits(synapse) > chip.weight_bits.value:
        found.append(
            f"synapse {synapse.name!r} does not fit {chip.name}: weights of "
            f"{synapse.num_weight_bits} bits where {chip.weight_bits.value} are possible; "
            "quantize it with fewer bits"
        )
    return found


def _assumptions(graph: FixedGraph, chip: ChipSpec, cores: int, chips: int) -> tuple[str, ...]:
    lines = [
        "cores by neurons and synaptic memory only: input and output axons "
        f"({chip.input_axons.value:,} and {chip.output_axons.value:,} a core; "
        f"{chip.input_axons.source}) and routing are not counted",
        "a layer takes the fewest cores that hold it, though more would be faster, and shares none",
        chip.kernel_rule + "; copies for the kernel's edges are not counted",
    ]
    if any(synapse.pool > 1 for synapse in graph.synapses):
        lines.append("the neurons of a pool window share one set of weights, stored once")
    if chips > 1:
        lines.append(
            f"{cores} cores take {chips} chips of {chip.cores_per_chip.value}; traffic between "
            "chips costs nothing here"
        )
    if not chip.graded and graph.input.max_message > 1:
        lines.append(
            f"{chip.name} has no graded spikes: the host injects the direct input, whose first "
            "synapses are counted here as if the chip held them"
        )
    elif any(_on_off(graph, synapse, chip) for synapse in graph.synapses):
        lines.append(
            f"{chip.name} has no signed spikes: ON and OFF channels carry the input, so the "
            "weights that read it are stored twice"
        )
    return tuple(lines)
