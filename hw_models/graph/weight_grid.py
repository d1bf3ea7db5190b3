"""The weights a synapse may hold, and how real numbers are rounded to them.

The quantizer rounds NumPy arrays, quantization-aware training tensors; both by these rules, so
that in float64 they give the same integers.
"""

from dataclasses import dataclass, replace
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
    """Multiples of ``step`` from ``low`` to ``high``, in weight units."""

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
    def mixed(self) -> bool:
        """Whether both signs are held, which takes a bit: one sign alone is held more finely."""
        return self.low < fixed.weight_range(mixed=False)[0]

    def settled(self, negative: bool, positive: bool) -> "WeightGrid":
        """Grid of the signs that rounding has left: where one is lost, the other's own.

        Args:
            negative: whether a weight rounded to this grid is negative.
            positive: whether one is positive.
        """
        if not self.mixed or negative == positive:
            return self
        step = self.step // 2
        top = fixed.weight_range(mixed=False)[1] // step * step
        return WeightGrid(step, -top, 0) if negative else WeightGrid(step, 0, top)

    def reaching_as_one_sign(self) -> "WeightGrid":
        """This grid, its least weight raised to where it still is held should no other sign be."""
        return replace(self, low=max(self.low, self.settled(True, False).low))

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
        """Nearest points of this grid (ties to even)."""
        return ((weight / self.step).round() * self.step).clip(self.low, self.high)

    def hold(self, weight: Floats) -> Floats:
        """What a synapse with these weights, in weight units, holds: a lost sign frees its bit."""
        held = self.round(weight)
        settled = self.settled(bool(np.any(held < 0)), bool(np.any(held > 0)))
        return held if settled is self else settled.round(weight)
