"""The running mean of weights: what it is, what becomes of it, that a resumed run keeps it."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from training_runs import LABELS, config, loss, model, noisy

from spikeship.training.fit.averaging import WeightAverage
from spikeship.training.fit.config import FitError
from spikeship.training.fit.loop import fit
from spikeship.training.fit.state import load_state


def _weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@settings(deadline=None, max_examples=30)
@given(steps=st.floats(0.2, 50), values=st.lists(st.floats(-4, 4), min_size=1, max_size=40))
def test_the_mean_is_the_weighted_one(steps: float, values: list[float]) -> None:
    network = nn.Linear(1, 1).double()
    average = WeightAverage(network, steps)
    for value in values:
        with torch.no_grad():
            network.weight.fill_(value)
        average.update()
    keep = math.exp(-1 / steps)
    mean = 0.0
    for count, value in enumerate(values, 1):
        # all alike until the oldest of them would weigh less
        new = max(1 - keep, 1 / count)
        mean += new * (value - mean)
    average.give()
    assert network.weight.item() == pytest.approx(mean, abs=1e-9)


def test_running_statistics_are_averaged_and_counts_are_not() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2))
    average = WeightAverage(network, 1e9)
    sums = torch.zeros(2)
    for number in range(4):
        network(torch.randn(8, 2, generator=torch.Generator().manual_seed(number)) + number)
        sums += network.state_dict()["0.running_mean"]
        average.update()
    now = _weights(network)
    with average.applied():
        state = network.state_dict()
        torch.testing.assert_close(state["0.running_mean"], sums / 4)
        assert state["0.num_batches_tracked"] == 4
    assert all(torch.equal(now[name], value) for name, value in network.state_dict().items())


def test_another_networks_mean_is_refused() -> None:
    average = WeightAverage(nn.Linear(2, 2), 3)
    with pytest.raises(RuntimeError, match="another network"):
        average.load_state_dict(WeightAverage(nn.Linear(2, 3), 3).state_dict())


def _run(path: Path | None = None, stop: int | None = None, **changes: Any) -> dict[str, Tensor]:
    """Train with noise and dropout; with ``stop``, fail before so many batches."""
    network, batches = model(), 0

    def images_of(indices: Tensor) -> Tensor:
        nonlocal batches
        batches += len(indices) < 32  # not the images that tell runs apart
        if batches == stop:
            raise KeyboardInterrupt
        return noisy(indices)

    given = {"epochs": 3, "batch_size": 10, "checkpoint_every": 2, "averaging": 0.7} | changes
    fit(network, images_of, LABELS, config(**given), loss, state_path=path, quiet=True)
    return _weights(network)


EVERYTHING: dict[str, Any] = {
    "schedule": "one-cycle",
    "nesterov": True,
    "decoupled": True,
    "norm_rate": 4.0,
}


@pytest.mark.parametrize("changes", [{}, EVERYTHING, {"optimizer": "adam", "decoupled": True}])
@pytest.mark.parametrize("stop", [2, 4, 9, 14])
def test_a_resumed_run_ends_in_the_same_mean(
    tmp_path: Path, stop: int, changes: dict[str, Any]
) -> None:
    whole = _run(**changes)
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        _run(path, stop, **changes)
    assert path.exists() == (stop > 2)
    resumed = _run(path, **changes)
    assert all(torch.equal(whole[name], value) for name, value in resumed.items())
    # the state itself holds what trains, not the mean
    state = load_state(path).model
    assert not any(torch.equal(whole[name], value) for name, value in state.items())


def test_the_mean_is_what_is_validated_and_comes_out() -> None:
    seen: list[dict[str, Tensor]] = []
    networks = [model(dropout=0.0), model(dropout=0.0)]

    def run(network: nn.Module, averaging: float, watch: bool) -> None:
        def validate() -> float:
            seen.append(_weights(network))
            return float(len(seen))

        settings = config(epochs=2, batch_size=50, averaging=averaging)
        fit(
            network,
            noisy,
            LABELS,
            settings,
            loss,
            quiet=True,
            validate=validate if watch else None,
        )

    run(networks[0], 0.0, True)
    plain = list(seen)
    seen.clear()
    # one step an epoch, nearly without forgetting
    run(networks[1], 1e9, True)
    for name, value in seen[1].items():
        torch.testing.assert_close(value, (plain[0][name] + plain[1][name]) / 2)
    assert all(torch.equal(v, networks[1].state_dict()[n]) for n, v in seen[1].items())


def test_a_state_with_another_averaging_is_another_run(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with pytest.raises(KeyboardInterrupt):
        _run(path, 9)
    with pytest.raises(FitError, match="averaging"):
        _run(path, averaging=0.0)
