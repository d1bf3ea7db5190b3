"""torch's internal operators for quantized networks, as exact products of 8-bit integers.

This file uses torch. oneDNN adds the products of uint8 messages and int8 weights in 32 bits, turns
the sum into float32, multiplies it by one number and adds a bias. The result is exact where neither
a sum nor a bias passes 2**24 and the number is a power of two; callers see to that. Processors
without 8-bit dot products add pairs of products in 16 bits that saturate: ``message_limit`` finds
out, and there no message may pass 127 (2 * 127 * 128 < 2**15). Where the operators are missing, or
give other sums in a trial, it is 0 and nothing here may be used.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pair = tuple[int, int]


class Int8Product:
    """A convolution or a product with a matrix: uint8 messages times int8 weights plus a bias.

    Args:
        weight: int8, (out, in / groups, height, width) or (out, in).
        gain: power of two that multiplies the sums.
        bias: float32 (out,), added to the multiplied sums.
        shape: of one row of messages, channels last, padding not included.
        stride, padding, groups: of a convolution.
    """

    def __init__(
        self,
        weight: NDArray[np.int8],
        gain: float,
        bias: NDArray[np.float32],
        shape: tuple[int, ...],
        stride: Pair = (1, 1),
        padding: Pair = (0, 0),
        groups: int = 1,
    ) -> None:
        self.is_conv = weight.ndim == 4
        self.stride, self.padding, self.groups = list(stride), list(padding), groups
        self.scales = torch.full((len(weight),), gain)
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.bias = torch.from_numpy(bias) if bias.any() else None
        given = torch.from_numpy(weight)
        operators = torch.ops.onednn
        if self.is_conv:
            height, width, channels = shape
            self.packed = operators.qconv_prepack(
                given,
                self.scales,
                1.0,
                0,
                self.stride,
                self.padding,
                [1, 1],
                groups,
                [1, channels, height, width],
            )
        else:
            self.packed = operators.qlinear_prepack(given, [1, weight.shape[1]])

    def __call__(self, messages: Tensor) -> Tensor:
        """Multiply uint8 messages (rows, *shape); float32 (rows, neurons), channels last."""
        head = (1.0, 0, self.packed, self.scales, self.zeros, self.bias)
        tail: tuple[Any, ...] = (1.0, 0, torch.float32, "none", [], "")
        if not self.is_conv:
            rows = messages.reshape(len(messages), -1)
            product: Tensor = torch.ops.onednn.qlinear_pointwise(rows, *head, *tail)
            return product
        image = messages.permute(0, 3, 1, 2)
        geometry = (self.stride, self.padding, [1, 1], self.groups)
        product = torch.ops.onednn.qconv_pointwise(image, *head, *geometry, *tail)
        return product.permute(0, 2, 3, 1).reshape(len(messages), -1)


@cache
def message_limit() -> int:
    """Largest message that the operators multiply exactly: 255, 127, or 0 for none.

    Saturation depends on the processor's instructions, and would show where neighbouring products
    are largest and of one sign, as they are in half of the trial's sums.
    """
    generator = np.random.default_rng(0)
    for limit in (255, 127):
        try:
            if _trial(generator, limit, (64, 24, 3, 3)) and _trial(generator, limit, (64, 70)):
                return limit
        except (RuntimeError, NotImplementedError, AttributeError):
            return 0
    return 0


def _trial(generator: np.random.Generator, limit: int, shape: tuple[int, ...]) -> bool:
    weight = generator.integers(-128, 128, shape).astype(np.int8)
    weight[:16], weight[16:32] = 127, -128
    rows = (5, 4, 4, shape[1]) if len(shape) == 4 else (5, shape[1])
    messages = generator.integers(0, limit + 1, rows).astype(np.uint8)
    messages[0] = limit
    bias = generator.integers(-99, 99, len(weight)).astype(np.float32)
    with torch.inference_mode():
        found = Int8Product(weight, 2.0, bias, rows[1:])(torch.from_numpy(messages)).numpy()
    if len(shape) == 2:
        sums = messages.astype(np.int64) @ weight.astype(np.int64).T
    else:
        windows = np.lib.stride_tricks.sliding_window_view(
            messages.astype(np.int64), (3, 3), (1, 2)
        )
        sums = np.einsum("ryxcij,ocij->ryxo", windows, weight.astype(np.int64))
    return bool(np.array_equal(found, (2 * sums + bias).reshape(found.shape)))
