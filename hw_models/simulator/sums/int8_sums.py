"""Exact sums of 8-bit messages and weights. This file uses torch.

Why they are exact: ``Int8Sums.proves`` admits only messages for which no sum of ``Int8Product`` and
no bias passes 2**24, and every factor is a power of two.

Weights of up to 9 bits and a sign are divided by the power of two they have in common; where that
leaves more than 8 bits, they are taken apart as ``2 * (w >> 1) + (w & 1)``. Signed messages are
shifted to 0 and above, padding included, and the bias takes the shift back. Every synapse is tried
once in its own geometry, because oneDNN is wrong in some (``_sound`` leaves out those known).
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from spikeship.hw_models.graph import Conv, Dense, Shape
from spikeship.hw_models.graph.layout import last_shape, permutation
from spikeship.hw_models.simulator.sums.float_sums import EXACT_FLOAT32, EXACT_PRODUCTS, convolved
from spikeship.hw_models.simulator.sums.int8_product import Int8Product, message_limit
from spikeship.hw_models.simulator.sums.weight_bounds import WeightBounds
from spikeship.hw_models.simulator.sums.weight_order import in_order

TRIAL_ROWS = 3
TRIAL_OUTPUTS = 64


class Int8Sums:
    """Sums of a synapse by 8-bit products.

    Args:
        synapse: convolution or dense.
        source: shape of its pooled messages.
        target: of its target.
        bounds: of its weights.
        message: largest magnitude of a message that will come.
        signed: whether it may be negative.
    """

    def __init__(
        self,
        synapse: Conv | Dense,
        source: Shape,
        target: Shape,
        bounds: WeightBounds,
        message: int,
        signed: bool,
    ) -> None:
        self.synapse, self.source, self.target, self.bounds = synapse, source, target, bounds
        self.limit = message_limit() if _sound(synapse, target) else 0
        self.shift = min(message, self.limit // 2) if signed else 0
        self.products: list[Int8Product] = []

    def proves(self, message: int) -> bool:
        """Whether sums of messages up to this magnitude are exact."""
        top = message + self.shift
        step = self.bounds.step if self.bounds.fit_8_bits else 1
        return (
            self.limit > 0
            and message <= (self.shift or message)
            and top <= self.limit
            and top * self.bounds.both < EXACT_FLOAT32 * step
        )

    def prepare(self) -> bool:
        """Pack the weights; False where the operators fail the trial of this synapse."""
        if not self.products:
            products = self._pack()
            if not self._exact(products):
                self.limit = 0
                return False
            self.products = products
        return True

    def _pack(self) -> list[Int8Product]:
        if self.bounds.fit_8_bits:
            return [self._product(self.bounds.units, self.bounds.step)]
        return [
            self._product(lambda weight: weight >> 1, 2),
            self._product(lambda weight: weight & 1, 1),
        ]

    def _product(
        self, convert: Callable[[NDArray[np.int16]], NDArray[np.int16]], step: int
    ) -> Int8Product:
        synapse, source = self.synapse, last_shape(self.source)
        gain = step * 2.0**synapse.weight_exp
        if isinstance(synapse, Dense):
            part = in_order(synapse.weight, self.source, self.target, convert, np.int8)
            return Int8Product(part, gain, self._bias(part, gain), source)
        part = convert(synapse.weight).astype(np.int8)
        padding = synapse.padding
        if self.shift:
            height, width, channels = source
            source = (height + 2 * padding[0], width + 2 * padding[1], channels)
            padding = (0, 0)
        bias = self._bias(part, gain)
        return Int8Product(part, gain, bias, source, synapse.stride, padding, synapse.groups)

    def _bias(self, part: NDArray[np.int8], gain: float) -> NDArray[np.float32]:
        total = part.reshape(len(part), -1).sum(axis=1, dtype=np.int64)
        bias: NDArray[np.float32] = (-self.shift * gain * total).astype(np.float32)
        return bias

    def _exact(self, products: list[Int8Product]) -> bool:
        """Try three rows of messages against float sums, exact as well by ``proves``.

        Messages are as large as they may be; of a dense synapse only some outputs are tried.
        """
        largest = self.shift or self.limit
        while not self.proves(largest):
            largest //= 2
        generator = np.random.default_rng(0)
        shape = (TRIAL_ROWS, *last_shape(self.source))
        low = -largest if self.shift else 0
        messages = generator.integers(low, largest + 1, shape, np.int16)
        found = self._sums(messages, products)
        with torch.inference_mode(), EXACT_PRODUCTS:
            rows = torch.from_numpy(messages).to(torch.float32)
            if isinstance(self.synapse, Conv):
                weight = torch.from_numpy(self.synapse.weight.astype(np.float32))
                sums = convolved(self.synapse, rows, weight).numpy()
            else:
                outputs = permutation(self.target)[:TRIAL_OUTPUTS, None]
                some = self.synapse.weight[outputs, permutation(self.source)].astype(np.float32)
                found = found[:, :TRIAL_OUTPUTS]
                sums = functional.linear(
                    rows.reshape(TRIAL_ROWS, -1), torch.from_numpy(some)
                ).numpy()
        return bool(np.array_equal(found, np.floor(sums * 2.0**self.synapse.weight_exp)))

    def __call__(self, messages: NDArray[Any]) -> NDArray[np.float32]:
        """Sums (rows, target neurons) of messages (rows, *source), both channels last."""
        return self._sums(messages, self.products)

    def _sums(self, messages: NDArray[Any], products: list[Int8Product]) -> NDArray[np.float32]:
        with torch.inference_mode():
            rows = torch.from_numpy(self._unsigned(messages))
            total = products[0](rows)
            for product in products[1:]:
                total += product(rows)
            if self.synapse.weight_exp < 0:
                total.floor_()
            sums: NDArray[np.float32] = total.numpy()
            return sums

    def _unsigned(self, messages: NDArray[Any]) -> NDArray[np.uint8]:
        if not self.shift:
            if messages.dtype == np.uint8 and messages.flags.writeable:
                return messages
            return messages.astype(np.uint8)
        if not isinstance(self.synapse, Conv):
            flat: NDArray[np.uint8] = (messages + messages.dtype.type(self.shift)).astype(np.uint8)
            return flat
        rows, height, width, channels = messages.shape
        down, right = self.synapse.padding
        shifted = np.empty((rows, height + 2 * down, width + 2 * right, channels), np.uint8)
        _shift(messages, self.shift, down, right, shifted)
        return shifted


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _shift(messages: Any, shift: int, down: int, right: int, shifted: Any) -> None:
    rows, height, width, channels = messages.shape
    for row in range(rows):
        shifted[row] = shift
        for y in range(height):
            for x in range(width):
                for c in range(channels):
                    shifted[row, y + down, x + right, c] = messages[row, y, x, c] + shift


def _sound(synapse: Conv | Dense, target: Shape) -> bool:
    """Whether oneDNN is right in this geometry.

    As torch 2.13 ships it, it crashes on some dilated convolutions and where padding is as wide as
    the kernel, and is wrong where a stride leaves a single column.
    """
    if isinstance(synapse, Dense):
        return True
    kernel = synapse.weight.shape[2:]
    return (
        synapse.dilation == (1, 1)
        and all(pad < side for pad, side in zip(synapse.padding, kernel, strict=True))
        and (target[2] > 1 or synapse.stride[1] == 1)
    )
