"""The weights that netx's Lava Processes end with.

netx shifts a dense layer's weights left as far as the chip's range allows, keeps the shift as a
negative ``weight_exp``, and counts the bits that are left. Lava's Dense then clips the weights to
the range of their signs and clears the bits below that count. For weights of one sign, negative,
the two disagree where the largest is a power of two: what runs is not what the file says. This
module gives what runs.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.graph import Array

LOWEST, HIGHEST = -256, 254  # what netx lets pass where signs are mixed
MAX_ZEROS = 8  # trailing zero bits beyond which netx does not look


class WeightError(SpikeshipError, ValueError):
    """Weights that netx, or the chip, could not hold; says the reason."""


@dataclass(frozen=True)
class HeldWeights:
    """What a synapse's Process holds: weights, the exponent of their sum, and their width."""

    weight: NDArray[np.int16]
    weight_exp: int
    num_weight_bits: int


def dense_weights(*matrices: Array) -> tuple[HeldWeights, ...]:
    """What netx makes of matrices that share a shift: a layer's own and its recurrent weights.

    Raises:
        WeightError: beyond the chip's range, all zero, or ruined by netx.
    """
    low = min(int(matrix.min()) for matrix in matrices)
    high = max(int(matrix.max()) for matrix in matrices)
    _check_range(low, high)
    shift = _shift(low, high)
    mixed = low < 0 <= high  # as netx sees it; Lava calls 0 no sign
    bits = 8 - shift - (_trailing_zeros(matrices) - mixed)
    return tuple(_held(matrix << shift, -shift, bits) for matrix in matrices)


def conv_weights(weight: Array) -> HeldWeights:
    """What Lava's Conv holds: the weights as they are, whatever their signs.

    Raises:
        WeightError: beyond the chip's range.
    """
    low, high = int(weight.min()), int(weight.max())
    _check_range(low, high, odd=True)
    even = fixed.fits_weights(weight, fixed.WEIGHT_BITS)
    return HeldWeights(
        weight.astype(np.int16), 0, fixed.WEIGHT_BITS if even else fixed.ODD_WEIGHT_BITS
    )


def _check_range(low: int, high: int, *, odd: bool = False) -> None:
    mixed = low < 0 < high
    bottom, top = (LOWEST, HIGHEST + odd) if mixed else (-255 if odd else LOWEST, 255)
    if low < bottom or high > top:
        raise WeightError(
            f"weights {low}..{high} leave the chip's {bottom}..{top}; quantize them to 8 bits "
            "before the export"
        )


def _shift(low: int, high: int) -> int:
    """Bits by which netx shifts weights left; rounding in binary64 as netx does it."""
    if low == high == 0:
        raise WeightError("all weights are 0, which netx cannot run; remove the layer")
    if high < 0:
        return math.floor(math.log2(-256 / low))
    if low >= 0:
        return math.floor(math.log2(255 / high))
    room = -128 / low if high == 0 else min(127 / high, -128 / low)
    return math.floor(math.log2(room)) + 1


def _trailing_zeros(matrices: tuple[Array, ...]) -> int:
    together = int(np.bitwise_or.reduce([np.bitwise_or.reduce(m, axis=None) for m in matrices]))
    return min((together & -together).bit_length() - 1, MAX_ZEROS)


def _held(shifted: Array, weight_exp: int, bits: int) -> HeldWeights:
    """Clip and clear bits as Lava's Dense does when it starts."""
    low, high = int(shifted.min()), int(shifted.max())
    mixed = low < 0 < high
    cleared = fixed.WEIGHT_BITS - bits + mixed
    if cleared < 0 and shifted.any():
        raise WeightError(
            "odd weights of one sign, with a magnitude beyond 127, whose width netx gets wrong; "
            "halve them and the threshold"
        )
    sign = -1 if high <= 0 and low < 0 else 1
    clipped = sign * np.clip(sign * shifted, -256 if mixed else 0, 255)
    weight = sign * ((sign * clipped) >> max(0, cleared) << max(0, cleared))
    if not weight.any() and shifted.any():
        raise WeightError(
            "netx would run them all as 0: negative alone, and the largest a power of two; "
            "make one of them smaller"
        )
    widest = fixed.ODD_WEIGHT_BITS if mixed else fixed.WEIGHT_BITS
    return HeldWeights(weight.astype(np.int16), weight_exp, min(max(1, bits), widest))
