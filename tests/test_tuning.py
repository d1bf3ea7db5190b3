"""Options of fine-tuning: what they mean, and which are refused."""

import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeship.training.finetuning.tuning import Tuning
from spikeship.training.fit.config import FitError


def test_t_goes_down_evenly_and_stays_for_the_last_third() -> None:
    def steps(epochs: int) -> list[int]:
        return [Tuning(start_steps=20).steps(epoch, epochs, 8) for epoch in range(epochs)]

    assert steps(9) == [20, 18, 16, 14, 12, 10, 8, 8, 8]
    assert steps(3) == [20, 14, 8]
    assert steps(2) == [20, 8]
    assert [Tuning().steps(epoch, 3, 8) for epoch in range(3)] == [8, 8, 8]


@given(start=st.integers(2, 100), drop=st.integers(1, 99), epochs=st.integers(2, 60))
def test_t_never_rises(start: int, drop: int, epochs: int) -> None:
    last = max(1, start - drop)
    steps = [Tuning(start_steps=start).steps(epoch, epochs, last) for epoch in range(epochs)]
    assert steps[0] == start
    assert steps == sorted(steps, reverse=True)
    assert set(steps[epochs - -(-epochs // 3) :]) == {last}
    assert len({a - b for a, b in zip(steps, steps[1:], strict=False)} - {0}) <= 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"loss": "mse"}, "loss 'mse' is not known; use 'ce' or 'tet'"),
        ({"loss": "tet", "tet_weight": 1.5}, "tet_weight must lie in 0..1, got 1.5"),
        ({"loss": "tet", "tet_target": float("nan")}, "tet_target must be finite"),
        ({"tet_weight": 0.1}, "tet_weight has no meaning without loss 'tet'"),
        ({"tet_target": 2.0}, "tet_target has no meaning without loss 'tet'"),
        ({"distill": -0.1}, "distill must lie in 0..1"),
        ({"distill": 0.5, "temperature": 0.0}, "temperature must be positive and finite"),
        ({"temperature": 3.0}, "temperature has no meaning without distill"),
        ({"learn_leak": True, "learn_per": "pixel"}, "learn_per 'pixel' is not known"),
        ({"learn_per": "channel"}, "learn_per has no meaning without learn_threshold"),
        ({"learn_factor": 2.0}, "learn_factor has no meaning without learn_threshold"),
        ({"learn_leak": True, "learn_factor": 0.0}, "learn_factor must be positive"),
        ({"synop_weight": -1.0}, "synop_weight must be finite and >= 0"),
        ({"synop_weight": float("inf")}, "synop_weight must be finite and >= 0"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(FitError) as error:
        Tuning(**options)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_annealing_must_be_able_to_go_down() -> None:
    tuning = Tuning(start_steps=12)
    tuning.check_annealing(2, 11, "direct")
    for epochs, last, encoding in [(2, 12, "direct"), (1, 4, "poisson"), (5, 4, "spikes")]:
        with pytest.raises(FitError, match="start_steps"):
            tuning.check_annealing(epochs, last, encoding)
    Tuning().check_annealing(1, 12, "spikes")


def test_options_are_json() -> None:
    tuning = Tuning("tet", distill=0.5, start_steps=9, learn_leak=True, learn_per="channel")
    assert Tuning(**json.loads(json.dumps(asdict(tuning)))) == tuning
