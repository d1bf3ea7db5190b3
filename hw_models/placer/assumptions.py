"""Assumptions: what a placement takes for granted or leaves out, a line each."""

from dataclasses import fields

import numpy as np

from spikeship.hw_models import fixed
from spikeship.hw_models.chips.spec import ChipSpec, Limit
from spikeship.hw_models.events.fanout import fanout
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Readout,
    Sparse,
)
from spikeship.hw_models.placement import demand
from spikeship.hw_models.placement.placement import Rules

EVEN_RATE = 0.1  # messages a step of every source neuron where no traffic is known

_AXONS = {
    "population": (
        "population axons: the neurons of one source core at one position share an axon into a "
        "convolution, all of one source core share one into a dense synapse"
    ),
    "single": "single axons: every source neuron has an axon of its own to each core it reaches",
}


def assumptions(
    graph: FixedGraph, chip: ChipSpec, rules: Rules, recorded: bool, cores: int
) -> tuple[str, ...]:
    """Return the lines.

    Args:
        graph: the network.
        chip: the chip.
        rules: how axons and kernels were counted.
        recorded: whether the traffic was given.
        cores: cores that are used.
    """
    held = [s for s in graph.synapses if not demand.injected(graph, s, chip)]
    return (
        _AXONS[rules.axons],
        *_listed(held, chip, rules),
        *_kernels(held, chip, rules),
        *_state(chip),
        *_readouts(graph, chip),
        "synaptic memory is packed without gaps: weights take their bits, though what a message "
        "reads is counted in whole words of 64",
        "layers share no core; a layer's cores follow each other, along each row of the mesh and "
        "back in the next: an assumed order",
        "the search is greedy: fewer cores, or a faster placement, may exist",
        *_assumed_limits(chip),
        *_traffic(recorded),
        *_input(graph, chip, rules),
        *_chips(chip, cores),
    )


def _listed(held: list[AnySynapse], chip: ChipSpec, rules: Rules) -> list[str]:
    lines = []
    matrices = any(isinstance(synapse, Sparse | Identity) for synapse in held)
    if matrices and rules.axons == "population":
        lines.append("a sparse or one-to-one synapse has one axon a source neuron all the same")
    if matrices or (rules.kernels == "unshared" and _convolved(held)):
        most = chip.compartments_per_core.value
        lines.append(
            f"an index stored beside a weight takes {demand.index_bits(chip)} bits: it names one "
            f"of the {most:,} compartments of a core"
        )
    return lines


def _convolved(held: list[AnySynapse]) -> bool:
    return any(isinstance(synapse, Conv) for synapse in held)


def _kernels(held: list[AnySynapse], chip: ChipSpec, rules: Rules) -> list[str]:
    lines = []
    if _convolved(held) and rules.kernels == "shared":
        lines.append(chip.kernel_rule)
    elif _convolved(held):
        lines.append(
            "a convolution's weights are stored for every neuron, each with an index, as a sparse "
            "matrix's are"
        )
    if any(synapse.pool > 1 for synapse in held):
        lines.append(
            "the neurons of a pool window share one set of weights, stored once; a position in it "
            "has an axon of its own"
        )
    if any(isinstance(synapse, Dense) and synapse.delays is not None for synapse in held):
        lines.append("delays that differ within a synapse are stored beside each weight")
    return lines


def _state(chip: ChipSpec) -> list[str]:
    if chip.core_memory is None:
        return ["a compartment brings its state with it: state has no limit of its own"]
    return [
        "state takes 24 bits a variable (a readout's sum 32) and 6 for a refractory count; "
        "thresholds, biases and neuron programs are not counted"
    ]


def _readouts(graph: FixedGraph, chip: ChipSpec) -> list[str]:
    """Readouts whose sum is not proved to stay within a compartment that has no more bits."""
    lines = []
    for node in graph.nodes:
        if chip.core_memory is not None or not isinstance(node, Readout):
            continue
        steps = graph.num_steps
        if steps is not None and not graph.gated:
            steps = graph.chip_steps(steps)
        each = graph.input_bound(node.name) + int(np.abs(node.bias).max(initial=0))
        if steps is None or steps * each > fixed.STATE_RAIL:
            reach = f"{each:,} in each step"
            if steps is not None:
                reach = f"{steps * each:,} over {steps:,} steps"
            lines.append(
                f"readout {node.name!r} is taken to fit the {fixed.STATE_BITS} bits of a "
                f"compartment, {fixed.STATE_RAIL:,} at most: its weights and bias allow {reach}"
            )
    return lines


def _assumed_limits(chip: ChipSpec) -> list[str]:
    return [
        f"assumed limit: {field.name.replace('_', ' ')} {limit.value:,} {limit.unit} "
        f"({limit.source})"
        for field in fields(chip)
        if isinstance(limit := getattr(chip, field.name), Limit) and limit.kind == "assumed"
    ]


def _traffic(recorded: bool) -> list[str]:
    if recorded:
        return [
            "a layer is split for the mean step of the traffic; spare cores are given by the time "
            "of all its steps, on the stages that were tried"
        ]
    return [
        "the slowest core was found as if every neuron sent equally often, "
        f"{EVEN_RATE:g} messages a step"
    ]


def _input(graph: FixedGraph, chip: ChipSpec, rules: Rules) -> list[str]:
    lines = []
    read = [s for s in graph.synapses if s.source == graph.input.name]
    shared = any(isinstance(s, Conv | Dense) and not demand.injected(graph, s, chip) for s in read)
    if shared and rules.axons == "population":
        lines.append(
            "the input counts as one source core: a core that reads it has one axon for a dense "
            "synapse, one a position for a convolution"
        )
    often = "an inference" if graph.input.encoding == "direct" else "a step"
    for synapse in graph.synapses:
        if synapse.delay > 0 and demand.injected(graph, synapse, chip):
            values = int(np.prod(graph.node(synapse.target).shape))
            macs = int(fanout(graph, synapse)[1].sum())
            lines.append(
                f"{chip.name} has no graded spikes: the host injects the weighted input of "
                f"{synapse.name!r}, {values:,} values a step, made with at most {macs:,} "
                f"multiply-accumulates {often}; it takes no synapses and no axons"
            )
    held = [s for s in graph.synapses if not demand.injected(graph, s, chip)]
    if any(demand.copies(graph, synapse, chip) > 1 for synapse in held):
        lines.append(
            f"{chip.name} has no signed spikes: ON and OFF channels carry the input, so the "
            "synapses that read it are stored twice, on twice the axons"
        )
    return lines


def _chips(chip: ChipSpec, cores: int) -> list[str]:
    chips = -(-cores // chip.cores_per_chip.value)
    if chips == 1:
        return []
    return [
        f"{cores:,} cores take {chips:,} chips of {chip.cores_per_chip.value}, filled in order; "
        "what a message between chips costs is unknown"
    ]
