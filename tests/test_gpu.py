"""The GPU reference: the model's arithmetic, a measurement as a reference."""

import json
from typing import Any

import pytest

from spikeship.hw_models.meters.gpu import Gpu, GpuError, measured, model
from spikeship.hw_models.meters.measuring import Measurement


def test_a_measurement_is_a_reference_with_idle_power_subtracted() -> None:
    found = measured(
        Measurement("Test GPU", "a counter", 4, 200, 10.0, 2500.0, 50.0, 60.0, 0.1, {})
    )
    # 2,500 J of 10 s, of which 55, 60 or 0 W are idle, for 800 inferences
    assert (found.energy_j, found.low, found.high) == (1950 / 800, 1900 / 800, 2500 / 800)
    assert (found.latency_s, found.idle_power_w, found.inferences_per_call) == (0.05, 55.0, 4)
    told = found.to_json()
    assert (told["kind"], told["device"]) == ("measured", "Test GPU")
    assert {"energy_j", "latency_s", "low", "high", "assumptions"} <= set(told)
    assert "modelled" not in json.dumps(told)


@pytest.mark.parametrize(("gpu", "pj"), [("V100", 2.4), ("A100", 1.28), ("H100", 0.71)])
def test_model_is_a_lower_bound_from_stated_power_and_peak(gpu: Gpu, pj: float) -> None:
    found = model(10**9, gpu)
    assert found.energy_j == pytest.approx(2e9 * pj * 1e-12, rel=0.005)
    assert (found.kind, found.low, found.high) == ("modelled", found.energy_j, None)
    assert any("lower bound" in line for line in found.assumptions)
    assert found.to_json()["idle_power_w"] is None


def test_model_with_a_utilisation() -> None:
    full, half = model(10**9, "V100"), model(10**9, "V100", utilisation=0.5)
    assert full.latency_s == pytest.approx(2e9 / 125e12)
    assert half.energy_j == pytest.approx(2 * full.energy_j)
    assert half.latency_s == pytest.approx(2 * full.latency_s)
    assert half.low == full.energy_j and half.high == half.energy_j


@pytest.mark.parametrize(
    ("macs", "gpu", "utilisation"),
    [(1, "K4000", None), (1, "A100", 0.0), (1, "A100", 1.1), (-1, "A100", None)],
)
def test_model_refuses_what_it_does_not_know(
    macs: int, gpu: Any, utilisation: float | None
) -> None:
    with pytest.raises(GpuError, match="gpu "):
        model(macs, gpu, utilisation)
