"""Sums by torch's float convolutions and products, where no rounding can happen.

This file uses torch. A float of 24 (53) bits holds every part of a sum of integers that cannot
pass 2**24 (2**53) in units of the weights' common factor; nothing is rounded then, in whatever
order torch adds. Ways to multiply that round all the same are kept off while sums are under way:
NNPACK's Winograd transforms, and products in bf16 or TF32.
"""

import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from spikeship.hw_models.graph import Conv, Dense, Shape
from spikeship.hw_models.simulator.sums.weight_bounds import WeightBounds
from spikeship.hw_models.simulator.sums.weight_order import in_order

EXACT_FLOAT32 = 2**24
EXACT = {torch.float32: EXACT_FLOAT32, torch.float64: 2**53}


class _ExactProducts:
    """Keeps torch from trading exactness for speed; its settings are the whole process's.

    The first thread that enters saves them, the last one that leaves puts them back.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.saved = ("highest", True)

    def __enter__(self) -> None:
        with self.lock:
            if self.inside == 0:
                self.saved = (torch.get_float32_matmul_precision(), _use_nnpack(False))
                torch.set_float32_matmul_precision("highest")
            self.inside += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.inside -= 1
            if self.inside == 0:
                torch.set_float32_matmul_precision(self.saved[0])
                _use_nnpack(self.saved[1])


def _use_nnpack(enabled: bool) -> bool:
    """Whether it was used so far."""
    (before,) = torch.backends.nnpack.set_flags(enabled)  # type: ignore[no-untyped-call]
    return bool(before)


EXACT_PRODUCTS = _ExactProducts()


def convolved(synapse: Conv, messages: Tensor, weight: Tensor) -> Tensor:
    """Convolve (rows, height, width, channels) of the weight's dtype; (rows, neurons) likewise."""
    rows, height, width, channels = messages.shape
    if channels == 1:
        # with strides that say channels last, oneDNN (torch 2.13) reads memory that nobody wrote
        # where one channel is convolved with a stride to a single column
        images = messages.reshape(rows, 1, height, width)
    else:
        images = messages.permute(0, 3, 1, 2)
    sums = functional.conv2d(
        images,
        weight,
        stride=synapse.stride,
        padding=synapse.padding,
        dilation=synapse.dilation,
        groups=synapse.groups,
    )
    return sums.permute(0, 2, 3, 1).reshape(rows, -1)


class FloatSums:
    """Sums of a synapse in float32 or float64.

    Args:
        synapse: convolution or dense.
        source: shape of its pooled messages.
        target: of its target.
        bounds: of its weights.
        signed: whether messages may be negative.
        dtype: torch.float32 or torch.float64.
    """

    def __init__(
        self,
        synapse: Conv | Dense,
        source: Shape,
        target: Shape,
        bounds: WeightBounds,
        signed: bool,
        dtype: torch.dtype,
    ) -> None:
        self.synapse, self.source, self.target, self.bounds = synapse, source, target, bounds
        self.signed, self.dtype = signed, dtype
        self.weight: Tensor | None = None

    def proves(self, message: int) -> bool:
        """Whether sums of messages up to this magnitude are exact."""
        limit = EXACT[self.dtype] * self.bounds.step
        return self.bounds.sums(message, self.signed) < limit

    def prepare(self) -> bool:
        """Make the weights ready."""
        if self.weight is None:
            self.weight = self._ordered()
        return True

    def _ordered(self) -> Tensor:
        synapse = self.synapse
        if isinstance(synapse, Conv):
            kernel = torch.from_numpy(np.array(synapse.weight)).to(self.dtype)
            return kernel.contiguous(memory_format=torch.channels_last)
        kind = np.float32 if self.dtype == torch.float32 else np.float64
        matrix = in_order(synapse.weight, self.source, self.target, lambda part: part, kind)
        return torch.from_numpy(matrix)

    def __call__(self, messages: NDArray[Any]) -> NDArray[Any]:
        """Sums (rows, target neurons), float, of messages (rows, *source), both channels last.

        Raises:
            ArithmeticError: torch rounds all the same.
        """
        assert self.weight is not None  # prepared
        given = messages if messages.flags.writeable else messages.copy()
        with torch.inference_mode(), EXACT_PRODUCTS:
            rows = torch.from_numpy(given).to(self.dtype)
            if isinstance(self.synapse, Conv):
                sums = convolved(self.synapse, rows, self.weight)
            else:
                sums = functional.linear(rows.reshape(len(rows), -1), self.weight)
            if not torch.equal(sums[:1], sums[:1].round()):
                raise ArithmeticError(
                    f"synapse {self.synapse.name!r}: torch's sums of integers are not integers on "
                    "this machine; use the reference, and report the torch build"
                )
            exponent = self.synapse.weight_exp
            if exponent:
                sums *= 2.0**exponent
            if exponent < 0:
                sums.floor_()
            return np.asarray(sums.numpy())
