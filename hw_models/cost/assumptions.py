"""What an estimate rests on and what it leaves out, in sentences that go with its numbers."""

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement import demand
from spikeship.hw_models.placement.placement import Placement


def assumptions(
    graph: FixedGraph, chip: ChipSpec, placement: Placement, traffic: Traffic, tiles: int
) -> tuple[str, ...]:
    """All of them: the estimate's own, the chip's, the placement's, and what does not fit.

    Args:
        graph: the network.
        chip: the chip it was placed on.
        placement: its cores.
        traffic: what its neurons send.
        tiles: that have a core, over all chips.
    """
    lines = [
        f"estimated: counted events times published constants of {chip.name}; nothing was measured "
        "on a chip",
        *chip.notes,
        "energy and time use connected synaptic operations: a stored zero weight is read like any "
        "other; the low end uses effective ones, as if storage skipped zeros, the same share on "
        "all cores of a layer",
        "an operation costs the same at any weight width: fewer bits change the words read, so the "
        "cycles, and the placement, nothing else",
        "low and high take every constant at the low and the high end of its published range, for "
        "energy and for the time that static power runs",
        _spreading(traffic),
        "a step takes as long as the core or link that is busiest in the mean over the images, and "
        "the barrier; the mean of each image's own busiest core is longer",
        "a core's events follow one another, a link's messages too; waiting in queues, blocked "
        "links and how a spike's burst is spread over a step are left out",
        "a spike is one message to each core in which it meets a synapse; it goes along x, then "
        "along y; the input's messages come from outside and take no hops",
        *_barrier(chip, placement.chips, tiles),
        "one sample at a time: latency and static energy cover all its chip steps; static power "
        "is that of whole chips, however few of their cores are used",
        _pipelining(graph),
        "cycles are serial slots of the busiest core: words of 64 bits read + compartments "
        "computed + spikes",
        "chip cores only: host, embedded x86 and input stand in the host's row",
        "spikes are the neurons' own; input messages are counted in the operations they cause",
    ]
    if placement.chips > 1:
        lines.append(
            "messages from chip to chip are counted; what they cost is not public, so they cost "
            "what sending and receiving cost, and no hops"
        )
    if any(layer.compartments > 1 for layer in placement.layers):
        lines.append(
            f"soft reset takes {chip.soft_reset_compartments.value} compartments a neuron, each "
            f"updated every step ({chip.soft_reset_compartments.source})"
        )
    if any(demand.injected(graph, synapse, chip) for synapse in graph.synapses):
        lines.append(
            "the counts hold the operations of injected input; they are the host's, so no core's "
            "time and energy has them, and they stand as synops_injected"
        )
    return (*lines, *placement.assumptions, *placement.reasons)


def _barrier(chip: ChipSpec, chips: int, tiles: int) -> list[str]:
    if len(chip.barriers) == 1:
        lines = [
            f"one barrier is taken however many tiles {chip.name} uses: none is public by size"
        ]
    else:
        lines = [
            "the barrier grows with the tiles in use; between two published sizes the larger is "
            "taken"
        ]
        most = chip.barriers[-1][0]
        if tiles > most:
            lines.append(
                f"the largest published barrier is over {most} tiles; the {tiles:,} here take no "
                "less, so steps may well be longer"
            )
    if chips > 1:
        lines.append(
            f"a barrier across chips is not public: that of one chip is taken for all {chips:,}"
        )
    return lines


def _spreading(traffic: Traffic) -> str:
    if traffic.recorded:
        return (
            "every core's work is that of its own neurons' messages, recorded, mean over the images"
        )
    return (
        "a layer's messages are counted and taken to be spread evenly over its neurons, so a real "
        "busiest core is slower"
    )


def _pipelining(graph: FixedGraph) -> str:
    if graph.gated:
        return (
            "throughput is that of the cores where images follow every T steps, each node being "
            "reset at its own first step: a node works for T steps of an image, and the next "
            "image's first layers run while the last layers finish; the host may well be slower"
        )
    if graph.interval is not None:
        return (
            f"throughput is that of the cores where images follow every {graph.interval} steps: "
            "then no population holds two at once, and each is put back to its start between its "
            "last step and the next image's first; the host may well be slower"
        )
    return (
        "throughput is one over the latency: the network has no gates, so the next image waits for "
        "all chip steps; the host may well be slower"
    )
