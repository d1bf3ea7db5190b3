"""Weighted sums on a torch device, exact by construction.

This file uses torch. A convolution is written as patches times a matrix (``products.py``), so
that no library can choose a transform of its own that rounds, as Winograd and FFT do. Sparse
synapses gather, multiply and add integers, which is exact in any order. Messages have their
channels last.
"""

from typing import Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

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
    weight_sums,
)
from spikeship.hw_models.graph.layout import last_shape, permutation, to_last
from spikeship.hw_models.simulator.torch_device.checks import magnitude
from spikeship.hw_models.simulator.torch_device.products import (
    Ints,
    integer_type,
    product,
    sum_type,
)


class Kernel(Protocol):
    """Turns pooled messages into sums without exponent."""

    def row_bytes(self, target: int) -> int:
        """Bytes that one row of messages takes on its way to ``target`` neurons."""
        ...

    def __call__(self, messages: Tensor) -> Tensor:
        """(rows, *pooled shape, channels last) -> integers (rows, target neurons)."""
        ...


class DeviceSums:
    """One synapse on a device, ready to turn messages into sums.

    Args:
        graph: the graph.
        synapse: one of its synapses, or a part of one with delays.
        device: where to compute.

    Attributes:
        bound: largest magnitude that a sum can have, exponent applied.
    """

    def __init__(self, graph: FixedGraph, synapse: AnySynapse, device: torch.device) -> None:
        source = graph.node(synapse.source).shape
        largest = graph.max_message(synapse)
        self.synapse = synapse
        self.target = int(np.prod(graph.node(synapse.target).shape))
        self.pooled = last_shape(pooled_shape(source, synapse.pool, synapse.name))
        self.message = integer_type(largest)
        bound = int(np.add(*weight_sums(synapse)).max(initial=0)) * largest
        exponent = synapse.weight_exp
        # a right shift rounds down: a negative sum may end one unit further out
        self.bound = bound << exponent if exponent >= 0 else (bound >> -exponent) + 1
        self.type = sum_type(self.bound)
        self._kernel = _kernel(graph, synapse, bound, largest, device)

    def add_to(
        self, total: Tensor, messages: Tensor, workspace: int, worst: Tensor | None = None
    ) -> None:
        """Add the sums that messages cause to ``total``, in place.

        Args:
            total: (rows, target neurons), int32 or int64.
            messages: (rows, source neurons), channels last, an integer type.
            workspace: bytes that intermediate results may take.
            worst: where to write the largest magnitude of each row's sums, int64 (rows,).
        """
        exponent = self.synapse.weight_exp
        size = max(1, workspace // self.row_bytes)
        for begin in range(0, len(messages), size):
            part = slice(begin, begin + size)
            sums = self._kernel(self.pool(messages[part]))
            if exponent > 0:
                sums = sums.to(self.type) * 2**exponent
            elif exponent < 0:
                sums = sums >> -exponent
            if worst is not None:
                worst[part] = magnitude(sums)
            total[part] += sums

    @property
    def row_bytes(self) -> int:
        """Bytes that intermediate results of one row of messages take."""
        pooled = int(np.prod(self.pooled)) * 8 if self.synapse.pool > 1 else 0
        return self._kernel.row_bytes(self.target) + pooled + self.target * self.type.itemsize

    def pool(self, messages: Tensor) -> Tensor:
        """Messages (rows, source neurons) as (rows, *shape after the pool, channels last)."""
        side = self.synapse.pool
        if side == 1:
            return messages.view(len(messages), *self.pooled)
        height, width, channels = self.pooled
        full = messages.view(len(messages), height * side, width * side, channels)
        return sum_pool(full, side, self.message)


def sum_pool(messages: Tensor, side: int, kind: torch.dtype) -> Tensor:
    """Sums of ``side`` x ``side`` messages (rows, height, width, channels), of a given type."""
    # one corner of all windows after the other: faster than a reduction over two short axes
    corners = [messages[:, y::side, x::side] for y in range(side) for x in range(side)]
    total = corners[0].to(kind, copy=True)
    for corner in corners[1:]:
        total += corner
    return total


def _kernel(
    graph: FixedGraph, synapse: AnySynapse, bound: int, largest: int, device: torch.device
) -> Kernel:
    source, target = (graph.node(end).shape for end in (synapse.source, synapse.target))
    pooled = pooled_shape(source, synapse.pool, synapse.name)
    match synapse:
        case Conv():
            return _ConvKernel(synapse, bound, largest, device)
        case Dense():
            by_place = to_last(synapse.weight.reshape(-1, *pooled), pooled)
            weight = by_place.reshape(synapse.weight.shape)
            if len(target) == 3:
                weight = weight[permutation(target)]
            return _DenseKernel(weight, bound, largest, device)
        case Sparse():
            return _SparseKernel(synapse, pooled, target, bound, device)
        case Identity():
            return _IdentityKernel(pooled, target, device)


class _ConvKernel:
    def __init__(self, synapse: Conv, bound: int, largest: int, device: torch.device) -> None:
        self.synapse = synapse
        groups, (out, _, *self.kernel) = synapse.groups, synapse.weight.shape
        # (out, in, h, w) -> (groups, out, h * w * in): patches hold their channels last
        weight = synapse.weight.transpose(0, 2, 3, 1).reshape(groups, out // groups, -1)
        self.product = product(weight, bound, largest, device)
        self.inputs = groups * weight.shape[2]

    def row_bytes(self, target: int) -> int:
        places = target // len(self.synapse.weight)
        return self.product.row_bytes(places * self.inputs, target)

    def __call__(self, messages: Tensor) -> Tensor:
        patches = self._patches(messages.to(self.product.type))
        rows = patches.shape[1:4].numel()
        by_group = patches.reshape(self.synapse.groups, rows, -1)
        return self.product(by_group).permute(1, 0, 2).reshape(len(messages), -1)

    def _patches(self, messages: Tensor) -> Tensor:
        """What each output sees, a view (group, row, height, width, kernel h, w, channel)."""
        (pad_y, pad_x), synapse = self.synapse.padding, self.synapse
        view = functional.pad(messages, (0, 0, pad_x, pad_x, pad_y, pad_y))
        view = view.reshape(*view.shape[:3], synapse.groups, -1)
        for axis in (0, 1):
            dilation = synapse.dilation[axis]
            span = dilation * (self.kernel[axis] - 1) + 1
            view = view.unfold(1 + axis, span, synapse.stride[axis])[..., ::dilation]
        return view.permute(3, 0, 1, 2, 5, 6, 4)


class _DenseKernel:
    def __init__(self, weight: Ints, bound: int, largest: int, device: torch.device) -> None:
        self.product = product(weight[None], bound, largest, device)
        self.inputs = weight.shape[1]

    def row_bytes(self, target: int) -> int:
        return self.product.row_bytes(self.inputs, target)

    def __call__(self, messages: Tensor) -> Tensor:
        flat = messages.reshape(1, len(messages), -1)
        return self.product(flat.to(self.product.type))[0]


class _SparseKernel:
    """Gathers the message of each weight, multiplies, and adds up by target, all in integers."""

    def __init__(
        self, synapse: Sparse, pooled: Shape, target: Shape, bound: int, device: torch.device
    ) -> None:
        rows = np.repeat(np.arange(synapse.rows), np.diff(synapse.indptr))
        self.type, self.targets = sum_type(bound), synapse.rows
        self.rows = torch.from_numpy(_inverse(target)[rows]).to(device)
        self.columns = torch.from_numpy(_inverse(pooled)[synapse.indices]).to(device)
        self.data = torch.tensor(synapse.data, dtype=self.type, device=device)

    def row_bytes(self, target: int) -> int:
        return (2 * len(self.data) + target) * self.type.itemsize

    def __call__(self, messages: Tensor) -> Tensor:
        flat = messages.reshape(len(messages), -1)
        terms = flat.index_select(1, self.columns).to(self.type).mul_(self.data)
        total = torch.zeros(len(flat), self.targets, dtype=self.type, device=flat.device)
        return total.index_add_(1, self.rows, terms)


class _IdentityKernel:
    def __init__(self, source: Shape, target: Shape, device: torch.device) -> None:
        moved = _inverse(source)[permutation(target)]
        self.moved = None if source == target else torch.from_numpy(moved).to(device)

    def row_bytes(self, target: int) -> int:
        return 4 * target

    def __call__(self, messages: Tensor) -> Tensor:
        flat = messages.reshape(len(messages), -1)
        return flat if self.moved is None else flat.index_select(1, self.moved)


def _inverse(shape: Shape) -> Array:
    """For every flat position in torch's order, the flat position with channels last."""
    return np.argsort(permutation(shape))
