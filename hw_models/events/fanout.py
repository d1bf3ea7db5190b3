"""Fan-out: how many synapses one spike of each neuron reaches, without expanding a matrix."""

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from spikeship.hw_models.graph import (
    AnySynapse,
    Array,
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Shape,
    Sparse,
    pooled_shape,
)

# a batch after batch asks for the same arrays, and a large dense layer takes long to scan
_KNOWN: WeakKeyDictionary[AnySynapse, dict[Shape, tuple[Array, Array]]] = WeakKeyDictionary()


def fanout(graph: FixedGraph, synapse: AnySynapse) -> tuple[Array, Array]:
    """Synapses that one spike of each source neuron reaches: of non-zero weight, and existing.

    Padding taps do not exist: with a 3x3 kernel, padding 1 and stride 1 an interior spike reaches
    9 * C_out synapses, a corner one 4 * C_out. Before a pool every neuron stands for its window.

    Returns:
        ``(effective, connected)``, read-only int64 arrays of the source node's shape; remembered
        as long as the synapse lives.
    """
    shape = graph.node(synapse.source).shape
    known = _KNOWN.setdefault(synapse, {})
    if shape not in known:
        pooled = pooled_shape(shape, synapse.pool, synapse.name)
        effective, connected = (
            _unpool(np.asarray(part, dtype=np.int64).reshape(pooled), synapse.pool)
            for part in _FANOUT_OF[type(synapse)](synapse, pooled)
        )
        known[shape] = (effective, connected)
    return known[shape]


def _unpool(values: Array, pool: int) -> Array:
    if pool > 1:
        values = values.repeat(pool, axis=-2).repeat(pool, axis=-1)
    values.setflags(write=False)
    return values


def _axis_taps(size: int, out: int, kernel: int, stride: int, pad: int, dilation: int) -> Array:
    """1 where input position x (column) meets kernel tap k (row) for some output position."""
    reach = np.arange(size)[None, :] + pad - dilation * np.arange(kernel)[:, None]
    meets = (reach % stride == 0) & (reach >= 0) & (reach < out * stride)
    return np.asarray(meets, dtype=np.int64)


def _conv_fanout(synapse: Any, pooled: Shape) -> tuple[Array, Array]:
    out, per_group, height, width = synapse.weight.shape
    _, *sides = synapse.output_shape(pooled)
    rows, columns = (
        _axis_taps(pooled[1 + i], sides[i], kernel, stride, pad, dilation)
        for i, (kernel, stride, pad, dilation) in enumerate(
            zip((height, width), synapse.stride, synapse.padding, synapse.dilation, strict=True)
        )
    )
    share = out // synapse.groups
    by_group = synapse.weight.reshape(synapse.groups, share, per_group, height, width)
    nonzero = np.count_nonzero(by_group, axis=1).reshape(pooled[0], height, width)
    effective = np.einsum("ckl,ky,lx->cyx", nonzero, rows, columns, optimize=True)
    connected = share * np.outer(rows.sum(axis=0), columns.sum(axis=0))
    return effective, np.broadcast_to(connected, pooled).copy()


def _dense_fanout(synapse: Any, pooled: Shape) -> tuple[Array, Array]:
    out, columns = synapse.weight.shape
    return np.count_nonzero(synapse.weight, axis=0), np.full(columns, out, dtype=np.int64)


def _sparse_fanout(synapse: Any, pooled: Shape) -> tuple[Array, Array]:
    stored, nonzero = synapse.indices, synapse.indices[synapse.data != 0]
    return (
        np.bincount(nonzero, minlength=synapse.columns),
        np.bincount(stored, minlength=synapse.columns),
    )


def _identity_fanout(synapse: Any, pooled: Shape) -> tuple[Array, Array]:
    return np.ones(pooled, np.int64), np.ones(pooled, np.int64)


_FANOUT_OF = {
    Conv: _conv_fanout,
    Dense: _dense_fanout,
    Sparse: _sparse_fanout,
    Identity: _identity_fanout,
}
