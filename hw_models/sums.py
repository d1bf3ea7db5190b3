"""Weighted sums of many messages at once, in float32 or float64 where that is exact.

This file uses torch (its convolutions and matrix products on several cores). A sum of integers is
exact in float32 while no partial sum can pass 2**24, which the weights' own bound proves;
beyond it float64 is taken.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.nn import functional

from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Sparse, weight_sums

EXACT_FLOAT32 = 2**24
MESSAGE_CHUNK = 4096


@contextmanager
def _exact() -> Iterator[None]:
    """Keep torch from trading exactness for speed: Winograd (NNPACK) and bf16 products round."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.nnpack.flags(enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


class Sums:
    """One synapse, ready to turn messages into sums.

    Args:
        graph: the graph. synapse: one of its synapses.
    """

    def __init__(self, graph: FixedGraph, synapse: Conv | Dense | Sparse) -> None:
        self.synapse = synapse
        self.target = graph.node(synapse.target).shape
        positive, negative = weight_sums(synapse)
        bound = int((positive + negative).max(initial=0)) * graph.max_message(synapse)
        self.dtype = torch.float32 if bound < EXACT_FLOAT32 else torch.float64
        self._matrix: csr_matrix | None = None
        self._weight: Tensor | None = None
        if isinstance(synapse, Sparse):
            rows = (synapse.data.astype(np.int64), synapse.indices, synapse.indptr)
            self._matrix = csr_matrix(rows, shape=(synapse.rows, synapse.columns))
        else:
            self._weight = torch.from_numpy(np.array(synapse.weight)).to(self.dtype)
            if isinstance(synapse, Conv):
                self._weight = self._weight.contiguous(memory_format=torch.channels_last)

    def add_to(self, messages: NDArray[Any], total: NDArray[np.int32]) -> None:
        """Add the sums that messages cause, exponent applied, to ``total``.

        Args:
            messages: (count, *source shape), any integer type.
            total: (count, target neurons), int32, changed in place.
        """
        for begin in range(0, len(messages), MESSAGE_CHUNK):
            part = slice(begin, begin + MESSAGE_CHUNK)
            total[part] += self._sums(messages[part])

    def _sums(self, messages: NDArray[Any]) -> NDArray[np.int32]:
        synapse = self.synapse
        if isinstance(synapse, Sparse):
            pooled = self._pooled(torch.from_numpy(messages).to(torch.float64))
            flat = pooled.reshape(len(messages), -1).numpy().astype(np.int64)
            assert self._matrix is not None  # set for sparse synapses
            sums = np.asarray((self._matrix @ flat.T).T)
        else:
            pooled = self._pooled(torch.from_numpy(messages).to(self.dtype))
            with torch.inference_mode(), _exact():
                result = self._dense_sums(pooled)
            if not torch.equal(result, result.round()):
                raise ArithmeticError(
                    f"synapse {synapse.name!r}: torch's sums of integers are not integers on this "
                    "machine; use the reference, and report the torch build"
                )
            sums = result.reshape(len(messages), -1).to(torch.int32).numpy()
        exponent = synapse.weight_exp
        shifted = sums << exponent if exponent > 0 else sums >> -exponent
        return np.asarray(shifted, dtype=np.int32)

    def _pooled(self, messages: Tensor) -> Tensor:
        side = self.synapse.pool
        if side == 1:
            return messages
        # average times side**2 would round; divisor 1 is the sum itself
        return functional.avg_pool2d(messages, side, divisor_override=1)

    def _dense_sums(self, pooled: Tensor) -> Tensor:
        synapse, weight = self.synapse, self._weight
        assert weight is not None  # set for every kind that comes here
        if isinstance(synapse, Conv):
            return functional.conv2d(
                pooled.contiguous(memory_format=torch.channels_last),
                weight,
                stride=synapse.stride,
                padding=synapse.padding,
                dilation=synapse.dilation,
                groups=synapse.groups,
            )
        return functional.linear(pooled.reshape(len(pooled), -1), weight)
