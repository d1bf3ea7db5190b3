"""Number formats: the chip's integers, their widths, rounding, saturation and decay.

Pure functions on NumPy integer arrays. The quantizer, the reference interpreter, the simulator and
the Lava Processes take their arithmetic from the rules written down once here. Source of the
rules: lava-nc 0.10.0's fixed-point models, as they run.
"""

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.errors import InputError

Ints = NDArray[np.int64]

STATE_SHIFT = 6  # one weight unit is 64 units of u and v
STATE_BITS = 24
STATE_RAIL = 2 ** (STATE_BITS - 1) - 1  # v saturates at +-STATE_RAIL
DECAY_SHIFT = 12
DECAY_UNITY = 2**DECAY_SHIFT
VTH_MAX = 2**17 - 1
VTH_LIMIT = 2**15  # the quantizer keeps thresholds this far from the rail
BIAS_MANT_MIN, BIAS_MANT_MAX = -(2**12), 2**12 - 1
BIAS_EXP_MAX = 7
INPUT_LIMIT = 2**17 - 1  # |a_in| beyond this leaves 24 bits after the shift
OBSERVED_LIMIT = 2**16  # what an observed (not proved) |a_in| must stay within
READOUT_RAIL = 2**31 - 1
WRAP_LIMIT = 2**30  # currents that wrap stay within this, or Lava's 32 bits would wrap as well
WEIGHT_BITS = 8
ODD_WEIGHT_BITS = 9  # what odd weights of mixed signs take: Lava's Dense keeps them
SYNAPSE_DELAY_MAX = 62  # of a synapse, beyond the delay of its layer
DELAY_MAX = 64  # one step always, and the 63 that 6 bits hold
REFRACTORY_MAX = 63
EXPONENT_MAX = 7  # of sigma-delta messages and state: 3 bits each


def decay(state: Ints, constant: Ints | int) -> Ints:
    """Multiply ``state`` by ``(4096 - constant) / 4096``, rounded toward zero."""
    product = np.asarray(state, dtype=np.int64) * (DECAY_UNITY - np.asarray(constant, np.int64))
    kept: Ints = np.sign(product) * (np.abs(product) >> DECAY_SHIFT)
    return kept


def wrap_current(current: Ints) -> Ints:
    """Wrap a current that left 24 bits as Lava does: once, and to 2**23 where it may be."""
    current = np.asarray(current, dtype=np.int64)
    turn = 2**STATE_BITS
    half = turn // 2
    lowered: Ints = np.where(current > half, current - turn, current)
    return np.asarray(np.where(lowered <= -half, current + turn, lowered))


def wrap_sum(total: Ints) -> Ints:
    """Wrap a sum at 24 bits, as Lava's Conv does."""
    half = 2 ** (STATE_BITS - 1)
    wrapped: Ints = (np.asarray(total, dtype=np.int64) + half) % (2 * half) - half
    return wrapped


def saturate(v: Ints) -> Ints:
    """Clip ``v`` to the rails of the membrane potential, +-(2**23 - 1)."""
    return np.clip(np.asarray(v, dtype=np.int64), -STATE_RAIL, STATE_RAIL)


def shift(total: Ints, exponent: int) -> Ints:
    """Shift a synapse's sum by its weight exponent; a right shift rounds down (floor)."""
    total = np.asarray(total, dtype=np.int64)
    return total << exponent if exponent > 0 else total >> -exponent


def effective_bias(mant: Ints, exp: Ints) -> Ints:
    """Bias in units of v: ``mant << exp`` (``exp`` 0..7)."""
    return np.asarray(mant, dtype=np.int64) << np.asarray(exp, dtype=np.int64)


def encode_bias(bias: Ints) -> tuple[Ints, Ints]:
    """Write a bias in units of v as mantissa and exponent, element by element.

    The exponent is the smallest that lets the mantissa fit its 13 signed bits; the mantissa is
    rounded to nearest, ties to even.

    Raises:
        ValueError: a bias is beyond what 13 bits and exponent 7 can say.
    """
    bias = np.asarray(bias, dtype=np.int64)
    mant, exp = bias.copy(), np.zeros_like(bias)
    for candidate in range(1, BIAS_EXP_MAX + 1):
        wide = (mant < BIAS_MANT_MIN) | (mant > BIAS_MANT_MAX)
        exp = np.where(wide, candidate, exp)
        mant = np.where(wide, np.rint(bias / 2.0**candidate).astype(np.int64), mant)
    if np.any((mant < BIAS_MANT_MIN) | (mant > BIAS_MANT_MAX)):
        worst = int(np.abs(bias).max())
        raise InputError(
            f"bias {worst} needs more than 13 bits and exponent {BIAS_EXP_MAX} "
            f"(at most {BIAS_MANT_MAX << BIAS_EXP_MAX}); use a larger scale"
        )
    return mant, exp


def weight_step(weights: Ints, num_weight_bits: int) -> int:
    """Spacing of the weights a synapse can hold: 2 at 8 bits where signs are mixed, else 1."""
    mixed = bool(np.any(np.asarray(weights) < 0) and np.any(np.asarray(weights) > 0))
    return 1 << max(0, WEIGHT_BITS - num_weight_bits + mixed)


def weight_range(mixed: bool, num_weight_bits: int = WEIGHT_BITS) -> tuple[int, int]:
    """Smallest and largest weight: both signs, or (for one sign) the magnitudes 0..255."""
    if not mixed:
        return -255, 255
    return -256, 255 if num_weight_bits == ODD_WEIGHT_BITS else 254


def fits_weights(weights: Ints, num_weight_bits: int) -> bool:
    """Whether Lava's Dense and Sparse would take these weights as they are."""
    weights = np.asarray(weights)
    if weights.size == 0:
        return True
    low, high = int(weights.min()), int(weights.max())
    mixed = low < 0 < high
    if num_weight_bits == ODD_WEIGHT_BITS and not mixed:
        return False
    bottom, top = weight_range(mixed, num_weight_bits)
    step = weight_step(weights, num_weight_bits)
    return bottom <= low and high <= top and not np.any(weights % step)
