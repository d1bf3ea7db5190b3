"""The GPU reference on an injected meter and clock, and the model's arithmetic."""

import json
from types import SimpleNamespace
from typing import Any

import pytest

from spikeship.hw_models.gpu import Gpu, GpuError, NvmlMeter, measure, model


class Bench:
    """A GPU that idles at 50 W and draws 250 W while it computes, and the time it lives in."""

    device = "Test GPU"

    def __init__(self, busy_w: float = 250.0, call_s: float = 0.5) -> None:
        self.busy_w, self.call_s = busy_w, call_s
        self.now, self.joules, self.pending, self.calls = 100.0, 7.0, 0, 0

    def energy_j(self) -> float:
        assert self.pending == 0, "read while work was still under way"
        return self.joules

    def synchronize(self) -> None:
        self.now += self.pending * self.call_s
        self.joules += self.pending * self.call_s * self.busy_w
        self.pending = 0

    def run(self) -> None:
        self.pending += 1
        self.calls += 1

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.joules += seconds * 50.0

    def measure(self, batch: int, **options: float) -> Any:
        return measure(self.run, batch, meter=self, clock=self.clock, sleep=self.sleep, **options)


def test_idle_power_is_subtracted_and_reported() -> None:
    bench = Bench()
    found = bench.measure(4)
    assert bench.calls == 1 + 20  # a warm-up, then 10 s of half a second each
    assert found.idle_power_w == pytest.approx(50.0)
    assert found.energy_j == pytest.approx((250 - 50) * 0.5 / 4)
    assert (found.low, found.high) == (found.energy_j, pytest.approx(250 * 0.5 / 4))
    assert found.latency_s == pytest.approx(0.5)
    told = found.to_json()
    assert (told["kind"], told["device"]) == ("measured", "Test GPU")
    assert {"energy_j", "latency_s", "low", "high", "assumptions"} <= set(told)
    assert "modelled" not in json.dumps(told)


def test_work_goes_on_for_the_time_asked() -> None:
    bench = Bench(call_s=3.0)
    found = bench.measure(1, seconds=20.0)
    assert bench.calls == 1 + 7
    assert found.latency_s == pytest.approx(3.0)


def test_short_runs_are_refused() -> None:
    with pytest.raises(GpuError, match="at least 10 s"):
        Bench().measure(1, seconds=2.0)
    with pytest.raises(GpuError, match="one inference a call"):
        Bench().measure(0)


def test_work_that_draws_no_more_than_idle_is_refused() -> None:
    with pytest.raises(GpuError, match="'Test GPU': .* is not above its idle 50 W"):
        Bench(busy_w=50.0).measure(1)


class FakeNvmlError(Exception):
    pass


def nvml(reading: Any) -> SimpleNamespace:
    """A stand-in for the pynvml module that knows one device."""

    def by_uuid(uuid: str) -> str:
        if uuid != "GPU-1234":
            raise FakeNvmlError("not found")
        return "handle"

    return SimpleNamespace(
        NVMLError=FakeNvmlError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetName=lambda handle: "NVIDIA Test",
        nvmlDeviceGetTotalEnergyConsumption=reading,
    )


def cuda(uuid: str = "1234", available: bool = True) -> SimpleNamespace:
    return SimpleNamespace(
        is_available=lambda: available,
        current_device=lambda: 0,
        get_device_properties=lambda index: SimpleNamespace(uuid=uuid),
        synchronize=lambda: None,
    )


def test_nvml_counts_millijoules_of_torchs_device() -> None:
    meter = NvmlMeter(nvml(lambda handle: 2_500 if handle == "handle" else 0), cuda())
    assert (meter.device, meter.energy_j()) == ("NVIDIA Test", 2.5)


def test_nvml_that_cannot_serve_says_so() -> None:
    def none(handle: str) -> int:
        raise FakeNvmlError("Not Supported")

    with pytest.raises(GpuError, match="'NVIDIA Test' has no energy counter"):
        NvmlMeter(nvml(none), cuda()).energy_j()
    with pytest.raises(GpuError, match="does not open GPU-9"):
        NvmlMeter(nvml(none), cuda("9"))
    with pytest.raises(GpuError, match="no CUDA device"):
        NvmlMeter(nvml(none), cuda(available=False))


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
