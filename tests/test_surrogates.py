"""Surrogate slopes against the formulas they stand for."""

import math

import pytest
import torch

from spikeship.training.snn.surrogates import (
    NEVER,
    SURROGATES,
    PotentialSurrogate,
    TimingSurrogate,
    surrogate,
)


def test_stdb_is_an_exponential_of_the_steps_since_the_last_spike() -> None:
    slope = surrogate("stdb")
    assert isinstance(slope, TimingSurrogate)
    table = slope.table(300, torch.zeros((), dtype=torch.float64))
    expected = [0.3 * math.exp(-0.01 * dt) for dt in range(NEVER + 300)]
    assert table.tolist() == pytest.approx(expected, rel=1e-14)


def test_stdb_does_not_underflow_in_float32() -> None:
    slope = surrogate("stdb")
    assert isinstance(slope, TimingSurrogate)
    # exp(-dt) ** 0.01 is 0 from dt = 104 on
    table = slope.table(2500, torch.zeros(()))
    assert table.dtype == torch.float32
    assert table.min() > 0
    assert table[1000].item() == pytest.approx(0.3 * math.exp(-10), rel=1e-6)


def test_linear_is_a_triangle() -> None:
    slope = surrogate("linear")
    assert isinstance(slope, PotentialSurrogate)
    z = torch.tensor([-2.0, -1.0, -0.5, 0.0, 0.25, 1.0, 3.0])
    expected = torch.tensor([0.0, 0.0, 0.15, 0.3, 0.225, 0.0, 0.0])
    assert torch.allclose(slope.slope(z), expected, rtol=0, atol=1e-7)


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'tanh' is not known; use one of atan, linear, sig"):
        surrogate("tanh")
    assert set(SURROGATES) == {"linear", "stdb", "atan", "triangle", "sigmoid"}
