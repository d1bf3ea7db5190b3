"""Sums message by message, for the little activity that spiking networks are made for.

Why they are exact: sums are added up in units of the weights' common factor, in integers that wrap
around, so only the final sum must fit; ``WeightBounds`` says the width that always does. A
convolution's row goes into 16 bits where that, or what the row really holds, proves they suffice.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.graph import Conv, Dense, Shape, Sparse
from spikeship.hw_models.graph.layout import permutation
from spikeship.hw_models.simulator.sums import event_kernels as kernels
from spikeship.hw_models.simulator.sums.float_sums import EXACT_FLOAT32
from spikeship.hw_models.simulator.sums.weight_bounds import WeightBounds
from spikeship.hw_models.simulator.sums.weight_order import in_order

LIMIT_16, LIMIT_32 = 2**15 - 1, 2**31 - 1
CACHE_LINE = 64  # bytes; vectors that straddle two of them take twice as long
Sums = NDArray[Any]


def aligned(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """Return an array that starts with a cache line."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    room = np.empty(size + CACHE_LINE, np.uint8)
    begin = -room.ctypes.data % CACHE_LINE
    result: NDArray[Any] = room[begin : begin + size].view(dtype).reshape(shape)
    return result


class Events:
    """The non-zero messages of some rows, in order.

    Attributes:
        index: int32, flat position in the row.
        value: int32.
        start: int64 (rows + 1,), where each row's events start; all three as the kernels want them.
    """

    def __init__(self, messages: NDArray[Any]) -> None:
        rows = messages.reshape(len(messages), -1)
        count = int(np.count_nonzero(rows))
        self.index = np.empty(count + kernels.WORD, np.int32)
        self.value = np.empty(count + kernels.WORD, np.int32)
        self.start = np.empty(len(rows) + 1, np.int64)
        whole = rows.itemsize == 1 and rows.shape[1] % kernels.WORD == 0
        words = rows.view(np.uint64) if whole else np.empty((len(rows), 0), np.uint64)
        kernels.list_events(rows, words, self.index, self.value, self.start)

    @property
    def lists(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Index, value and start."""
        return self.index, self.value, self.start


class EventSums:
    """Sums of a synapse over the messages that are not zero.

    Args:
        synapse: with weights.
        source: shape of its pooled messages.
        target: of its target.
        bounds: of its weights.
        signed: whether messages may be negative.
    """

    def __init__(
        self,
        synapse: Conv | Dense | Sparse,
        source: Shape,
        target: Shape,
        bounds: WeightBounds,
        signed: bool,
    ) -> None:
        self.synapse, self.source, self.target, self.bounds = synapse, source, target, bounds
        self.signed = signed
        self.neurons = int(np.prod(target, dtype=np.int64))
        self.weights: NDArray[Any] | None = None

    def proves(self, message: int) -> bool:
        """Whether sums of messages up to this magnitude are exact: always, in at most 64 bits."""
        return self.bounds.sums(message, self.signed) < 2**53 * self.bounds.step

    def prepare(self) -> bool:
        """Make the weights ready."""
        if self.weights is None:
            self.weights = self._ordered()
        return True

    @property
    def _kind(self) -> Any:
        """8 bits where they hold the weights in units of their common factor, else 16."""
        return np.int8 if self.bounds.fit_8_bits else np.int16

    def _ordered(self) -> NDArray[Any]:
        synapse = self.synapse
        if isinstance(synapse, Dense):
            return in_order(
                synapse.weight, self.source, self.target, self.bounds.units, self._kind, turned=True
            )
        if isinstance(synapse, Sparse):
            return self._columns(synapse)
        out, in_group, *kernel = synapse.weight.shape
        (channels, *sides), groups = self.source, synapse.groups
        axes = zip(
            sides,
            self.target[1:],
            kernel,
            synapse.stride,
            synapse.padding,
            synapse.dilation,
            (1, kernel[1]),
            strict=True,
        )
        self.rows, self.columns = (kernels.axis(*values) for values in axes)
        self.geometry = kernels.Geometry(
            channels, sides[1], in_group, out // groups, out, self.target[2], kernel[1]
        )
        grouped = self.bounds.units(synapse.weight)[:, :, ::-1, ::-1]
        grouped = grouped.reshape(groups, out // groups, in_group, *kernel)
        ordered = grouped.transpose(0, 2, 3, 4, 1).reshape(channels, -1)
        weights = aligned(ordered.shape, self._kind)
        weights[:] = ordered
        return weights

    def _columns(self, synapse: Sparse) -> NDArray[Any]:
        """Turn compressed rows in torch's order into compressed columns in the engine's."""
        place = np.empty(self.neurons, np.int64)
        place[permutation(self.target)] = np.arange(self.neurons)
        column = np.empty(synapse.columns, np.int64)
        column[permutation(self.source)] = np.arange(synapse.columns)
        targets = place[np.repeat(np.arange(synapse.rows), np.diff(synapse.indptr))]
        sources = column[synapse.indices]
        order = np.argsort(sources, kind="stable")
        self.targets = targets[order].astype(np.int32)
        counts = np.bincount(sources, minlength=synapse.columns)
        self.first = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return self.bounds.units(synapse.data)[order].astype(self._kind)

    def __call__(self, messages: NDArray[Any], message: int) -> Sums:
        """Sums of messages.

        Args:
            messages: (rows, *source), channels last.
            message: largest magnitude among them.

        Returns:
            (rows, target neurons), channels last: float32 where that holds every sum in units of
            the weights' common factor, else float64.
        """
        assert self.weights is not None  # prepared
        units = self.bounds.sums(message, self.signed) // self.bounds.step
        floats: Any = np.float32 if units < EXACT_FLOAT32 else np.float64
        out = np.empty((len(messages), self.neurons), floats)
        events = Events(messages).lists
        wide = aligned((self.neurons,), np.int32 if units <= LIMIT_32 else np.int64)
        exponent = self.synapse.weight_exp
        store = (floats(self.bounds.step * 2.0**exponent), exponent < 0, out)
        if isinstance(self.synapse, Dense):
            kernels.multiply(*events, self.weights, wide, *store)
        elif isinstance(self.synapse, Sparse):
            matrix = (self.weights, self.targets, self.first)
            kernels.multiply_sparse(*events, *matrix, wide, *store)
        else:
            narrow_limit = -1 if units <= LIMIT_16 else LIMIT_16 // self.bounds.largest
            narrow = aligned((self.neurons,), np.int16)
            shape = (self.geometry, self.rows, self.columns)
            kernels.convolve(*events, self.weights, *shape, narrow_limit, narrow, wide, *store)
        return out
