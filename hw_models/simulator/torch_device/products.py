"""Products of integer matrices on a torch device, exact by construction.

This file uses torch. There are three kinds:

* ``int8``: 8-bit messages times 8-bit weights into 32-bit integers, on tensor cores where there
  are any. Integers throughout, so nothing can round. Weights of 9 bits are split in two.
* ``float32``, with TF32 and bfloat16 off: products and sums of integers are exact while no partial
  sum can pass 2**24, which the weights' own bound proves, in whatever order a library adds them.
* ``float64`` beyond that bound, exact up to 2**53.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from spikeship.hw_models.errors import InputError

EXACT_FLOAT32 = 2**24
EXACT_FLOAT64 = 2**53
INT32 = 2**31
TILE = 16  # int8 products want both sides of the matrix in multiples of this
LEAST_ROWS = 32  # ... and at least so many rows of messages

PROBED = 256  # outputs of a matrix that are compared beforehand, at most

Ints = NDArray[np.int16]


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """Keep torch from trading exactness for speed: no TF32, no bfloat16, no autocast.

    Only the switches of each library are read and written: the older global one refuses to be
    read where a program has used both.
    """
    cpu = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    switches = (torch.backends.cuda.matmul, cpu)
    before = [switch.fp32_precision for switch in switches]
    for switch in switches:
        switch.fp32_precision = "ieee"
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        for switch, precision in zip(switches, before, strict=True):
            switch.fp32_precision = precision


def integer_type(largest: int) -> torch.dtype:
    """Narrowest signed type that holds this magnitude."""
    for kind in (torch.int8, torch.int16, torch.int32):
        if largest <= torch.iinfo(kind).max:
            return kind
    return torch.int64


def sum_type(bound: int) -> torch.dtype:
    """Type of sums of at most this magnitude: 32 bits where they suffice."""
    return torch.int32 if bound < INT32 else torch.int64


class FloatProduct:
    """Rows times a matrix, or several of each, in float32 or float64.

    Args:
        weight: (groups, outputs, inputs).
        bound: largest magnitude of a sum.
        device: where to compute.

    Raises:
        ValueError: the bound passes 2**53.
    """

    def __init__(self, weight: Ints, bound: int, device: torch.device) -> None:
        if bound >= EXACT_FLOAT64:
            raise InputError(
                f"sums reach {bound}, beyond the 53 bits of float64; use the reference"
            )
        self.type = torch.float32 if bound < EXACT_FLOAT32 else torch.float64
        self.result = sum_type(bound)
        self.weight = torch.tensor(weight.swapaxes(1, 2), dtype=self.type, device=device)

    def row_bytes(self, inputs: int, outputs: int) -> int:
        """Bytes of a row of so many inputs, as it came and as it is multiplied, and its sums."""
        return self.type.itemsize * (inputs + outputs) + self.result.itemsize * outputs

    def __call__(self, rows: Tensor) -> Tensor:
        """Multiply (groups, rows, inputs), of ``self.type``, to (groups, rows, outputs)."""
        with exact_products(self.weight.device):
            return torch.bmm(rows, self.weight).to(self.result)


class Int8Product:
    """Rows times one matrix in 8-bit integers with 32-bit sums.

    A weight w of 9 bits is 2 * (w >> 1) + (w & 1); even weights need the first part only. The
    matrix is padded with zeros to the tiles that cuBLAS asks for and lies transposed, the layout
    that all its versions take.

    Args:
        weight: (1, outputs, inputs).
        device: where to compute.
    """

    type = torch.int8

    def __init__(self, weight: Ints, device: torch.device) -> None:
        matrix = weight[0]
        self.outputs, self.inputs = matrix.shape
        narrow = np.iinfo(np.int8)
        parts = [(1, matrix)]
        if matrix.min() < narrow.min or matrix.max() > narrow.max:
            parts = [(2, matrix >> 1), (1, matrix & 1)]
            parts = parts if np.any(parts[1][1]) else parts[:1]
        margins = [(0, -side % TILE) for side in matrix.shape]
        self.parts = [
            (factor, torch.tensor(np.pad(part, margins), dtype=torch.int8, device=device).t())
            for factor, part in parts
        ]

    @classmethod
    def made(
        cls, weight: Ints, bound: int, message: int, device: torch.device
    ) -> "Int8Product | None":
        """Make the product, or return None where it would not be exact.

        That is where messages are wider than 8 bits or sums may be wider than 32, or where the
        device has no such product: what it gives for random messages is compared with the host's
        arithmetic for some of the outputs, and a library that raises or is wrong is not used.
        """
        narrow = integer_type(message) == torch.int8
        if not narrow or len(weight) != 1 or 2 * bound >= INT32 or weight.size == 0:
            return None
        made = cls(weight, device)
        rng, few = np.random.default_rng(0), slice(None, None, -(-made.outputs // PROBED))
        rows = rng.integers(-message, message + 1, (4 * LEAST_ROWS, made.inputs))
        try:
            found = made(torch.tensor(rows[None], dtype=torch.int8, device=device))
        except RuntimeError:
            return None
        expected = rows.astype(np.float64) @ weight[0, few].T.astype(np.float64)
        return made if np.array_equal(found[0].cpu().numpy()[:, few], expected) else None

    def row_bytes(self, inputs: int, outputs: int) -> int:
        """Bytes of a row of so many inputs, as it came and padded, and its sums."""
        return 2 * inputs + 4 * (outputs + TILE) * len(self.parts)

    def __call__(self, rows: Tensor) -> Tensor:
        """Multiply (1, rows, inputs), int8, to int32 (1, rows, outputs)."""
        count = rows.shape[1]
        margin = (0, -self.inputs % TILE, 0, max(0, LEAST_ROWS - count))
        padded = functional.pad(rows[0], margin) if any(margin) else rows[0]
        (factor, first), *rest = self.parts
        total = torch._int_mm(padded, first)
        if factor > 1:
            total *= factor
        for _, part in rest:
            total += torch._int_mm(padded, part)
        return total[None, :count, : self.outputs]


Product = FloatProduct | Int8Product


def product(weight: Ints, bound: int, message: int, device: torch.device) -> Product:
    """Return the fastest exact product for a matrix.

    Args:
        weight: (groups, outputs, inputs).
        bound: largest magnitude of a sum.
        message: largest magnitude of a message.
        device: where to compute.
    """
    narrow = Int8Product.made(weight, bound, message, device)
    return FloatProduct(weight, bound, device) if narrow is None else narrow
