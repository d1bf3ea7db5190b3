"""The torch layers of a FixedGraph's synapses, with the integer weights, pools folded or apart."""

from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Identity, Sparse

ROWS_AT_ONCE = 2**24  # weights of one nn.Linear; a larger matrix becomes several, row by row
DTYPE = torch.float64  # integers up to 2**53 are exact


class SynapseLayers(nn.Module):
    """One synapse object as ``nn.Conv2d``, or as one or more ``nn.Linear`` of some rows each.

    Args:
        graph: its network.
        synapse: the object.
        fold: put its pool into the weights, so that the layer reads spikes; else an
            ``nn.AvgPool2d`` stands before it.
    """

    def __init__(
        self, graph: FixedGraph, synapse: Conv | Dense | Sparse | Identity, *, fold: bool
    ) -> None:
        super().__init__()
        self.side = synapse.pool
        self.pool: nn.Module = nn.Identity()
        if not fold and self.side > 1:
            self.pool = nn.AvgPool2d(self.side)
        side = self.side if fold else 1
        self.flat = not isinstance(synapse, Conv)
        if isinstance(synapse, Conv):
            channels = synapse.weight.shape[1] * synapse.groups
            self.parts = nn.ModuleList([_conv(synapse, channels, side)])
        else:
            shape = graph.node(synapse.source).shape
            matrix = _matrix(synapse, prod(shape) // synapse.pool**2)
            self.parts = nn.ModuleList(_linears(_spread(matrix, shape, synapse.pool, side)))

    def forward(self, messages: Tensor) -> Tensor:
        """Weighted sums of messages (rows, *source shape)."""
        x = self.pool(messages)
        x = x.flatten(1) if self.flat else x
        return torch.cat([part(x) for part in self.parts], dim=1)


class Network(nn.Module):
    """All synapse objects of a graph, each fed what it was sent."""

    def __init__(self, graph: FixedGraph, *, fold: bool) -> None:
        super().__init__()
        self.synapses = nn.ModuleList(
            SynapseLayers(graph, synapse, fold=fold) for synapse in graph.synapses
        )

    def forward(self, messages: list[Tensor]) -> list[Tensor]:
        """Weighted sums of every object's messages (rows, *source shape)."""
        return [layers(x) for layers, x in zip(self.synapses, messages, strict=True)]


def _conv(synapse: Conv, channels: int, side: int) -> nn.Conv2d:
    weight = torch.as_tensor(np.array(synapse.weight), dtype=DTYPE)
    out, _, *kernel = weight.shape
    dilation = synapse.dilation
    if side > 1:
        weight, dilation = _folded_kernel(weight, dilation, side), (1, 1)
        kernel = list(weight.shape[2:])
    layer = nn.Conv2d(
        channels,
        out,
        (kernel[0], kernel[1]),
        stride=(synapse.stride[0] * side, synapse.stride[1] * side),
        padding=(synapse.padding[0] * side, synapse.padding[1] * side),
        dilation=dilation,
        groups=synapse.groups,
        bias=False,
        dtype=DTYPE,
    )
    layer.weight.data.copy_(weight)
    return layer


def _folded_kernel(weight: Tensor, dilation: tuple[int, int], side: int) -> Tensor:
    """The kernel over unpooled messages: each tap a side x side block, zeros between."""
    *_, height, width = weight.shape
    reach = [(n - 1) * d * side + side for n, d in zip((height, width), dilation, strict=True)]
    kernel = weight.new_zeros(*weight.shape[:2], *reach)
    for y in range(height):
        for x in range(width):
            top, left = y * dilation[0] * side, x * dilation[1] * side
            kernel[..., top : top + side, left : left + side] = weight[..., y, x, None, None]
    return kernel


def _matrix(synapse: Dense | Sparse | Identity, columns: int) -> NDArray[np.int16]:
    if isinstance(synapse, Dense):
        return synapse.weight
    if isinstance(synapse, Identity):
        return np.eye(columns, dtype=np.int16)
    matrix = np.zeros((synapse.rows, columns), np.int16)
    rows = np.repeat(np.arange(synapse.rows), np.diff(synapse.indptr))
    np.add.at(matrix, (rows, synapse.indices), synapse.data)
    return matrix


def _spread(
    matrix: NDArray[np.int16], shape: tuple[int, ...], pool: int, side: int
) -> NDArray[np.int16]:
    """The matrix over unpooled messages: each column stands side x side times."""
    if side == 1:
        return matrix
    channels, height, width = shape
    image = matrix.reshape(-1, channels, height // pool, width // pool)
    return image.repeat(side, axis=2).repeat(side, axis=3).reshape(len(matrix), -1)


def _linears(matrix: NDArray[np.int16]) -> list[nn.Linear]:
    rows = max(1, ROWS_AT_ONCE // matrix.shape[1])
    layers = []
    for begin in range(0, len(matrix), rows):
        part = matrix[begin : begin + rows]
        layer = nn.Linear(part.shape[1], len(part), bias=False, dtype=DTYPE)
        layer.weight.data.copy_(torch.from_numpy(part.astype(np.float64)))
        layers.append(layer)
    return layers
