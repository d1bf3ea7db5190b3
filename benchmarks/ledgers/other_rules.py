"""The rules of sinabs and keras-spiking, from their documented definitions.

Both in exact fractions over all images, for one synapse object.
"""

from fractions import Fraction
from math import prod

import torch
from torch.nn import functional

from ledgers.events import Events
from spikeship.hw_models.graph import Conv, Dense, Input

KERAS_DT = Fraction(1, 1000)  # seconds a step, keras-spiking's default


def sinabs(one: Events) -> Fraction:
    """SNNAnalyzer: the values that arrive times the connections of the neuron they come from.

    A convolution's connections are found by sending ones back through it; a linear layer's are
    its outputs. Values are added as they are, so a negative message lowers the sum. What an
    average pool divides by is multiplied back. Layers other than these two count nothing.
    """
    values = torch.as_tensor(one.pooled.sum(axis=0), dtype=torch.float64)
    if isinstance(one.synapse, Conv):
        return Fraction(int((values * _connection_map(one, one.synapse)).sum()))
    if isinstance(one.synapse, Dense):
        return Fraction(int(values.sum()) * len(one.synapse.weight))
    return Fraction(0)


def _connection_map(one: Events, synapse: Conv) -> torch.Tensor:
    out, per_group, *kernel = synapse.weight.shape
    outputs = one.graph.node(synapse.target).shape[1:]
    sizes = one.pooled.shape[2:]
    steps = zip(
        sizes, outputs, kernel, synapse.stride, synapse.padding, synapse.dilation, strict=True
    )
    rest = [n - ((o - 1) * s - 2 * p + d * (k - 1) + 1) for n, o, k, s, p, d in steps]
    return functional.conv_transpose2d(
        torch.ones(1, out, *outputs, dtype=torch.float64),
        torch.ones(out, per_group, *kernel, dtype=torch.float64),
        stride=synapse.stride,
        padding=synapse.padding,
        output_padding=rest,
        groups=synapse.groups,
        dilation=synapse.dilation,
    )[0]


def keras_spiking(one: Events) -> Fraction:
    """ModelEnergy: a layer's connections times the mean size of its input, in every step.

    Connections are outputs times kernel, on padding too. An average pool is a layer of its own
    without connections, and its output the input. An analog input's value is a rate in hertz.
    Additions count nothing.
    """
    mean = Fraction(int(abs(one.pooled).sum()), one.synapse.pool**2 * one.pooled.size)
    return _keras_connections(one) * mean * _keras_unit(one) * one.steps


def _keras_connections(one: Events) -> int:
    """Connections of a layer; an addition has none."""
    if isinstance(one.synapse, Conv):
        _, *kernel = one.synapse.weight.shape
        return int(prod(one.graph.node(one.synapse.target).shape) * prod(kernel))
    return int(one.synapse.weight.size) if isinstance(one.synapse, Dense) else 0


def _keras_unit(one: Events) -> Fraction:
    """Events of a message of size 1: one, or for direct input its real value times dt."""
    source = one.graph.node(one.synapse.source)
    if isinstance(source, Input) and source.encoding == "direct":
        return Fraction(source.scale) * KERAS_DT
    return Fraction(1)
