"""What a synapse's weights prove about its sums: their largest magnitude and what divides them."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.graph import AnySynapse, Identity, Sparse, weight_sums


@dataclass(frozen=True)
class WeightBounds:
    """Bounds of a synapse's weights, largest over its target neurons.

    Attributes:
        positive: sum of the positive weights into a neuron.
        negative: of the negative ones, as a magnitude.
        both: sum of all magnitudes.
        low: smallest weight, or 0.
        high: largest weight, or 0.
        step: largest power of two that divides every weight, and so every sum.
    """

    positive: int
    negative: int
    both: int
    low: int
    high: int
    step: int

    @staticmethod
    def of(synapse: AnySynapse) -> "WeightBounds":
        """Bounds of this synapse."""
        positive, negative = weight_sums(synapse)
        if isinstance(synapse, Identity):
            weights = np.ones(1, np.int16)
        else:
            weights = synapse.data if isinstance(synapse, Sparse) else synapse.weight
        bits = int(np.bitwise_or.reduce(weights, axis=None)) if weights.size else 0
        return WeightBounds(
            positive=int(positive.max(initial=0)),
            negative=int(negative.max(initial=0)),
            both=int((positive + negative).max(initial=0)),
            low=int(weights.min(initial=0)),
            high=int(weights.max(initial=0)),
            step=bits & -bits or 1,
        )

    @property
    def largest(self) -> int:
        """Magnitude of the largest weight, in units of ``step``."""
        return max(self.high, -self.low) // self.step

    @property
    def fit_8_bits(self) -> bool:
        """Whether the weights, in units of ``step``, are what 8 bits and no more hold."""
        return self.low >= -128 * self.step and self.high <= 127 * self.step

    def units(self, weight: NDArray[np.int16]) -> NDArray[np.int16]:
        """Weights of the synapse in units of ``step``."""
        return np.asarray(weight >> (self.step.bit_length() - 1))

    def sums(self, message: int, signed: bool) -> int:
        """Largest magnitude of any sum, and of any part of one, before the exponent.

        Unsigned messages up to ``m`` give at most ``m`` times the positive weights and no less
        than ``-m`` times the negative ones, whatever terms are left out; signed ones at most
        ``m`` times all magnitudes.
        """
        return message * (self.both if signed else max(self.positive, self.negative))
