"""The chip's arithmetic, held against plain Python integers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeship.hw_models import fixed

STATE = st.integers(-(2**23 - 1), 2**23 - 1)


@given(STATE, st.integers(0, 4096))
def test_decay_rounds_toward_zero(state: int, constant: int) -> None:
    exact = state * (4096 - constant) / 4096
    assert fixed.decay(np.array(state), constant) == math.trunc(exact)


@given(STATE)
def test_decay_of_nothing_and_of_all(state: int) -> None:
    assert fixed.decay(np.array(state), 0) == state
    assert fixed.decay(np.array(state), 4096) == 0


@given(st.integers(-(2**31), 2**31))
def test_saturate_clips_at_the_rails(v: int) -> None:
    assert fixed.saturate(np.array(v)) == max(-(2**23 - 1), min(2**23 - 1, v))


@given(st.integers(-(10**6), 10**6), st.integers(-8, 7))
def test_shift_rounds_down(total: int, exponent: int) -> None:
    assert fixed.shift(np.array(total), exponent) == math.floor(total * 2.0**exponent)


@given(st.integers(-(4095 << 7), 4095 << 7))
def test_a_bias_survives_its_mantissa_and_exponent(bias: int) -> None:
    mant, exp = fixed.encode_bias(np.array([bias]))
    assert fixed.BIAS_MANT_MIN <= mant[0] <= fixed.BIAS_MANT_MAX
    assert 0 <= exp[0] <= 7
    said = int(fixed.effective_bias(mant, exp)[0])
    assert abs(said - bias) <= (1 << int(exp[0])) // 2
    if -4096 <= bias <= 4095:
        assert said == bias


def test_a_bias_beyond_the_widths_is_refused() -> None:
    with pytest.raises(ValueError, match="13 bits"):
        fixed.encode_bias(np.array([4096 << 7]))


@pytest.mark.parametrize(
    ("weights", "bits", "fits"),
    [
        ([-256, 254], 8, True),
        ([-255, 254], 8, False),  # mixed signs are even at 8 bits
        ([0, 255], 8, True),
        ([-255, 0], 8, True),
        ([-256, 0], 8, False),
        ([-256, 256], 8, False),
        ([-256, 248], 6, True),
        ([-256, 250], 6, False),  # steps of 8
        ([0, 252], 6, True),
        ([-256, 255], 9, True),  # odd weights of mixed signs
        ([-257, 255], 9, False),
        ([0, 255], 9, False),  # one sign has no ninth bit
        ([], 8, True),
    ],
)
def test_what_a_synapse_holds(weights: list[int], bits: int, fits: bool) -> None:
    assert fixed.fits_weights(np.array(weights, dtype=np.int64), bits) is fits
