"""The weights a synapse may hold, and how real numbers are rounded to them.

The quantizer rounds NumPy arrays, quantization-aware training tensors; both by these rules, so
that in float64 they give the same integers.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from spikeship.hw_models import fixed

Floats = NDArray[np.float64]
Values = TypeVar("Values", Floats, Tensor)

UNITS = 2**fixed.STATE_SHIFT
BIAS_LIMIT = fixed.BIAS_MANT_MAX << fixed.BIAS_EXP_MAX
# a threshold that is a whole number of weight units must not lose one to the division
SNAP = 1 + 1e-12


@dataclass(frozen=True)
class WeightGrid:
    """Multiples of ``step`` from ``low`` to ``high``, in weight units.

    Without a positive weight among them, weights have one sign and reach to ``one_sign_low`` only.
    """

    step: int
    low: int
    high: int

    @staticmethod
    def of(weight: Floats, bits: int) -> "WeightGrid":
        """Grid of a synapse with these real weights: even, at 8 bits, where signs are mixed."""
        mixed = bool(np.any(weight > 0) and np.any(weight < 0))
        step = 1 << (fixed.WEIGHT_BITS - bits + mixed)
        low, high = fixed.weight_range(mixed)
        top = high // step * step
        return WeightGrid(step, low if mixed else -top, top)

    @property
    def one_sign_low(self) -> int:
        """Least weight where none is positive."""
        return -(255 // self.step) * self.step

    def least_scale(self, weight: Floats) -> Floats:
        """Smallest scale per row that keeps the weights on the grid."""
        rows = weight.reshape(len(weight), -1)
        zero = np.zeros(len(rows))
        if self.high == 0:  # one bit with a sign leaves nothing for positive weights
            return np.full(len(rows), np.inf)
        positive = rows.max(axis=1, initial=0.0) / self.high
        negative = -rows.min(axis=1, initial=0.0) / -self.low if self.low else zero
        least: Floats = np.maximum(positive, negative)
        return least

    def round(self, weight: Values) -> Values:
        """Nearest grid points (ties to even), where at least one is positive."""
        return ((weight / self.step).round() * self.step).clip(self.low, self.high)
