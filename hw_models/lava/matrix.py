"""A synapse as one explicit matrix: what Lava needs for delayed or exponent-scaled branches."""

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Shape,
    pooled_shape,
)

Array = NDArray[np.int64]


def synapse_matrix(graph: FixedGraph, synapse: AnySynapse) -> csr_matrix:
    """Return the synapse as a matrix (target neurons, source neurons), its pool expanded.

    Both ends are flattened in torch's order. Zero weights are not stored; the exponent, the
    delay and the weights' own delays are not applied.
    """
    source = graph.node(synapse.source).shape
    pooled = pooled_shape(source, synapse.pool, synapse.name)
    if isinstance(synapse, Conv):
        matrix = _conv_matrix(synapse, pooled)
    elif isinstance(synapse, Dense):
        matrix = csr_matrix(synapse.weight.astype(np.int64))
    elif isinstance(synapse, Identity):
        size = int(np.prod(source))
        matrix = csr_matrix((np.ones(size, np.int64), np.arange(size), np.arange(size + 1)))
    else:
        shape = (synapse.rows, synapse.columns)
        rows = (synapse.data.astype(np.int64), synapse.indices, synapse.indptr)
        matrix = csr_matrix(rows, shape=shape, copy=True)
    if synapse.pool > 1:
        matrix = matrix @ _pool_matrix(source, synapse.pool)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    return csr_matrix(matrix, dtype=np.int64)


def _conv_matrix(synapse: Conv, pooled: Shape) -> csr_matrix:
    out, height, width = synapse.output_shape(pooled)
    _, per_group, kernel_h, kernel_w = synapse.weight.shape
    position = np.arange(int(np.prod(pooled))).reshape(pooled)
    ys, xs = np.arange(height), np.arange(width)
    rows, columns, values = [], [], []
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            in_y = ys * synapse.stride[0] - synapse.padding[0] + ky * synapse.dilation[0]
            in_x = xs * synapse.stride[1] - synapse.padding[1] + kx * synapse.dilation[1]
            y_ok = (in_y >= 0) & (in_y < pooled[1])
            x_ok = (in_x >= 0) & (in_x < pooled[2])
            out_y, out_x = np.meshgrid(ys[y_ok], xs[x_ok], indexing="ij")
            src_y, src_x = np.meshgrid(in_y[y_ok], in_x[x_ok], indexing="ij")
            for channel in range(out):
                first = channel // (out // synapse.groups) * per_group
                for i in range(per_group):
                    value = synapse.weight[channel, i, ky, kx]
                    if value:
                        rows.append(((channel * height + out_y) * width + out_x).ravel())
                        columns.append(position[first + i, src_y, src_x].ravel())
                        values.append(np.full(out_y.size, value, np.int64))
    shape = (out * height * width, position.size)
    if not rows:
        return csr_matrix(shape, dtype=np.int64)
    data = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return csr_matrix(data, shape=shape)


def _pool_matrix(source: Shape, pool: int) -> csr_matrix:
    channels, height, width = source
    c, y, x = np.meshgrid(*(np.arange(n) for n in source), indexing="ij")
    target = (c * (height // pool) + y // pool) * (width // pool) + x // pool
    size = channels * height * width
    data = (np.ones(size, np.int64), (target.ravel(), np.arange(size)))
    return csr_matrix(data, shape=(size // pool**2, size))
