"""Multiply-accumulates of the ANN that has a network's layers: one pass, and one rule for all.

A convolution also reaches taps on padding. Dense kernels, such as a GPU's, multiply there too; a
bound on what must be done leaves them out. So whoever counts says which.

What only adds counts nothing: an identity, and a sparse matrix with one weight for each input and
output, which is how a residual block's skip is stored. Of any other sparse matrix every stored
weight counts. An average pool costs nothing.
"""

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Shape,
    Sparse,
    pooled_shape,
)


def ann_macs(graph: FixedGraph, *, padding: bool) -> int:
    """Multiply-accumulates of one inference of the ANN with these layers.

    Args:
        graph: the network.
        padding: whether taps on padding count.
    """
    return sum(synapse_macs(graph, synapse, padding=padding) for synapse in graph.synapses)


def synapse_macs(graph: FixedGraph, synapse: AnySynapse, *, padding: bool) -> int:
    """The same of one synapse object."""
    source = graph.node(synapse.source).shape
    count = _MACS_OF[type(synapse)]
    return count(synapse, pooled_shape(source, synapse.pool, synapse.name), padding)


def conv_macs(
    weights: Sequence[int],
    inputs: Sequence[int],
    *,
    stride: Sequence[int],
    pads: Sequence[int],
    dilation: Sequence[int],
    padding: bool,
) -> int:
    """Multiply-accumulates of one pass of a convolution.

    Args:
        weights: shape of its weights, (out, in / groups, height, width).
        inputs: height and width of what it reads.
        stride: along height and width.
        pads: zeros before and after each of them.
        dilation: of the kernel along each.
        padding: whether taps on padding count.
    """
    out, per_group, *kernel = weights
    axes = zip(inputs, kernel, stride, pads, dilation, strict=True)
    return out * per_group * prod(_taps(*axis, padding=padding) for axis in axes)


def _taps(size: int, kernel: int, stride: int, pad: int, dilation: int, *, padding: bool) -> int:
    """Pairs of an output position and a kernel tap along one axis."""
    outputs = (size + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
    if padding:
        return outputs * kernel
    at = stride * np.arange(outputs)[:, None] - pad + dilation * np.arange(kernel)
    return int(np.count_nonzero((at >= 0) & (at < size)))


def _conv(synapse: Any, pooled: Shape, padding: bool) -> int:
    return conv_macs(
        synapse.weight.shape,
        pooled[1:],
        stride=synapse.stride,
        pads=synapse.padding,
        dilation=synapse.dilation,
        padding=padding,
    )


def _dense(synapse: Any, pooled: Shape, padding: bool) -> int:
    return int(synapse.weight.size)


def _sparse(synapse: Any, pooled: Shape, padding: bool) -> int:
    each_row, each_column = (
        np.diff(synapse.indptr),
        np.bincount(synapse.indices, minlength=synapse.columns),
    )
    one_to_one = bool(np.all(each_row == 1) and np.all(each_column == 1))
    return 0 if one_to_one else int(synapse.data.size)


def _identity(synapse: Any, pooled: Shape, padding: bool) -> int:
    return 0


_MACS_OF = {Conv: _conv, Dense: _dense, Sparse: _sparse, Identity: _identity}
