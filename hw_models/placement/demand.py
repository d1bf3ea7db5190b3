"""Demand: what a node's neurons ask of a core's memory, and which synapses a chip holds."""

import numpy as np

from spikeship.hw_models import fixed
from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Input,
    Neuron,
    Node,
    Readout,
    SigmaDelta,
    Sparse,
)
from spikeship.hw_models.placement.placement import Kernels
from spikeship.hw_models.placement.splits import Cells, Floats, Ints
from spikeship.hw_models.placement.wires import conv_taps

_READOUT_BITS = int(fixed.READOUT_RAIL).bit_length() + 1
_REFRACTORY_BITS = fixed.REFRACTORY_MAX.bit_length()


def injected(graph: FixedGraph, synapse: AnySynapse, chip: ChipSpec) -> bool:
    """Whether the host injects a synapse's weighted messages, so that no core holds it.

    Messages without delay pass no synapse; graded input needs one where a chip has no graded
    spikes.
    """
    source = graph.node(synapse.source)
    direct = isinstance(source, Input) and source.max_message > 1 and not chip.graded
    return synapse.delay == 0 or direct


def copies(graph: FixedGraph, synapse: AnySynapse, chip: ChipSpec) -> int:
    """2 where signed spikes have to arrive over an ON and an OFF channel, else 1."""
    source = graph.node(synapse.source)
    spikes = isinstance(source, Input) and source.max_message == 1
    return 2 if spikes and graph.signed(synapse) and not chip.graded else 1


def state_bits(node: Node) -> int:
    """Bits in which one neuron keeps its state from step to step.

    24 for each variable (a readout's sum: 32), and a refractory neuron's count.
    """
    if isinstance(node, Readout):
        return _READOUT_BITS
    if isinstance(node, Neuron):
        variables = 1 if node.du == fixed.DECAY_UNITY - 1 else 2
        return variables * fixed.STATE_BITS + (_REFRACTORY_BITS if node.refractory else 0)
    variables = 2 + node.cum_error + isinstance(node, SigmaDelta)
    return variables * fixed.STATE_BITS


def weight_bits(synapse: AnySynapse) -> int:
    """Bits in which a chip stores a weight: odd ones of a convolution doubled, and the sum halved.

    Lava's Conv, which knows no exponent, takes them as they are.
    """
    bits = synapse.num_weight_bits
    if isinstance(synapse, Conv) and bits == fixed.ODD_WEIGHT_BITS:
        doubled = 2 * synapse.weight.astype(np.int64)
        return fixed.WEIGHT_BITS if fixed.fits_weights(doubled, fixed.WEIGHT_BITS) else bits
    return bits


def synapse_bits(synapse: AnySynapse, chip: ChipSpec, kernels: Kernels, bits: int) -> int:
    """Bits of one stored synapse: its weight, its index where it has one, its own delay.

    Args:
        synapse: the synapse.
        chip: for the width of an index.
        kernels: unshared ones are stored as a matrix is, with an index.
        bits: of a weight.
    """
    if isinstance(synapse, Dense):
        return bits + _delay_bits(synapse)
    if isinstance(synapse, Conv) and kernels == "shared":
        return bits
    return bits + index_bits(chip)


def index_bits(chip: ChipSpec) -> int:
    """Bits of an index stored beside a weight: which compartment of the core it leads to."""
    return (chip.compartments_per_core.value - 1).bit_length()


def _delay_bits(synapse: Dense) -> int:
    """Bits of a weight's own delay; one that all have is stored once, for nothing."""
    delays = synapse.delays
    if delays is None or delays.size == 0 or int(delays.min()) == int(delays.max()):
        return 0
    return int(delays.max()).bit_length()


def stored_once(synapse: AnySynapse, kernels: Kernels) -> int:
    """Synapses that a core stores once for every channel it holds: those of shared kernels."""
    if isinstance(synapse, Conv) and kernels == "shared":
        return int(synapse.weight[0].size)
    return 0


def stored_each(synapse: AnySynapse, kernels: Kernels, source: Cells, target: Cells) -> Ints:
    """Synapses stored for every neuron; an axis of length 1 stands for the same all along it."""
    if isinstance(synapse, Conv):
        if kernels == "shared":
            return np.zeros((1, 1, 1), np.int64)
        rows, columns = (
            conv_taps(synapse, i, source[1 + i], target[1 + i])[:, :: synapse.pool].sum(axis=1)
            for i in range(2)
        )
        return np.asarray(synapse.weight.shape[1] * np.outer(rows, columns)[None])
    if isinstance(synapse, Sparse):
        return np.diff(synapse.indptr).reshape(target)
    each = synapse.weight.shape[1] if isinstance(synapse, Dense) else 1
    return np.full((1, 1, 1), each, np.int64)


def operations(synapse: AnySynapse, rates: Floats, source: Cells, target: Cells) -> Floats:
    """Connected synaptic operations of every neuron in a mean step.

    Args:
        synapse: the synapse.
        rates: messages that each source neuron sends in a step; like the result, an axis of length
            1 stands for the same all along it.
        source: shape of its source.
        target: shape of its target.
    """
    if isinstance(synapse, Conv):
        return _conv_operations(synapse, rates, source, target)
    if isinstance(synapse, Dense):
        share = np.prod(source) / rates.size
        return np.full((1, 1, 1), float(rates.sum() * share))
    every = np.broadcast_to(rates, source)
    if synapse.pool > 1:
        channels, rows, columns = source
        side = synapse.pool
        windows = every.reshape(channels, rows // side, side, columns // side, side)
        every = windows.sum(axis=(2, 4))
    flat = every.ravel()
    if isinstance(synapse, Identity):
        return flat.reshape(target)
    sums = np.concatenate([[0.0], np.cumsum(flat[synapse.indices])])
    return np.asarray(np.diff(sums[synapse.indptr])).reshape(target)


def _conv_operations(synapse: Conv, rates: Floats, source: Cells, target: Cells) -> Floats:
    out, per_group = synapse.weight.shape[:2]
    rows, columns = (conv_taps(synapse, i, source[1 + i], target[1 + i]) for i in range(2))
    if rates.size == 1:
        each = per_group * rates.item() * np.outer(rows.sum(axis=1), columns.sum(axis=1))
        return np.asarray(each[None])
    sent = np.broadcast_to(rates, source).reshape(synapse.groups, per_group, *source[1:])
    arriving: Floats = rows @ sent.sum(axis=1) @ columns.T
    return arriving if synapse.groups == 1 else arriving.repeat(out // synapse.groups, axis=0)
