"""NVML's and RAPL's counters, on a module and a folder made for it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spikeship.hw_models.meters.meter import MeterError
from spikeship.hw_models.meters.nvml import NvmlMeter
from spikeship.hw_models.meters.rapl import RaplMeter


class FakeNvmlError(Exception):
    pass


def unsupported(*asked: Any) -> Any:
    raise FakeNvmlError("Not Supported")


def nvml(**answers: Any) -> SimpleNamespace:
    """A stand-in for the pynvml module that knows one device and what it is told to."""

    def by_uuid(uuid: str) -> str:
        if uuid != "GPU-1234":
            raise FakeNvmlError("not found")
        return "handle"

    silent = (
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlSystemGetDriverVersion",
        "nvmlSystemGetCudaDriverVersion_v2",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetMaxClockInfo",
        "nvmlDeviceGetPowerManagementLimit",
        "nvmlDeviceGetPersistenceMode",
        "nvmlDeviceGetTemperature",
        "nvmlDeviceGetComputeRunningProcesses",
    )
    return SimpleNamespace(
        NVMLError=FakeNvmlError,
        NVML_CLOCK_SM=1,
        NVML_CLOCK_MEM=2,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=by_uuid,
        nvmlDeviceGetName=lambda handle: "NVIDIA Test",
        **{**dict.fromkeys(silent, unsupported), **answers},
    )


def nvml_meter(uuid: str = "1234", **answers: Any) -> NvmlMeter:
    return NvmlMeter(nvml(**answers), uuid, lambda: None)


def test_nvml_counts_millijoules_of_the_device_it_was_given() -> None:
    meter = nvml_meter(
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: 2_500 if handle == "handle" else 0
    )
    assert (meter.device, meter.energy_j()) == ("NVIDIA Test", 2.5)


def test_nvml_that_cannot_serve_says_so() -> None:
    with pytest.raises(MeterError, match="'NVIDIA Test' has no energy counter"):
        nvml_meter().energy_j()
    with pytest.raises(MeterError, match="does not open GPU-9"):
        nvml_meter("9")


def test_nvml_tells_the_state_in_units_one_can_read() -> None:
    state = nvml_meter(
        nvmlSystemGetDriverVersion=lambda: "570.86.15",
        nvmlSystemGetCudaDriverVersion_v2=lambda: 12080,
        nvmlDeviceGetClockInfo=lambda handle, clock: {1: 1755, 2: 2619}[clock],
        nvmlDeviceGetMaxClockInfo=lambda handle, clock: {1: 1980, 2: 2620}[clock],
        nvmlDeviceGetPowerManagementLimit=lambda handle: 700_000,
        nvmlDeviceGetPersistenceMode=lambda handle: 1,
        nvmlDeviceGetTemperature=lambda handle, sensor: 41,
        nvmlDeviceGetComputeRunningProcesses=lambda handle: ["ours", "another's"],
    ).state()
    assert state == {
        "driver": "570.86.15",
        "cuda_of_driver": "12.8",
        "sm_clock_mhz": 1755,
        "sm_clock_max_mhz": 1980,
        "memory_clock_mhz": 2619,
        "memory_clock_max_mhz": 2620,
        "power_limit_w": 700.0,
        "persistence": True,
        "temperature_c": 41,
        "processes": 2,
    }


def test_the_stand_in_has_the_names_of_the_real_module() -> None:
    pynvml = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed; make installs it")
    assert [name for name in vars(nvml()) if not hasattr(pynvml, name)] == []


def test_what_nvml_does_not_say_is_null() -> None:
    assert set(nvml_meter().state().values()) == {None}


def domain(powercap: Path, folder: str, name: str, microjoules: int, most: int = 1_000) -> Path:
    place = powercap / folder
    place.mkdir(parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "max_energy_range_uj").write_text(f"{most}\n")
    (place / "energy_uj").write_text(f"{microjoules}\n")
    return place / "energy_uj"


def test_rapl_adds_packages_and_nothing_that_lies_within_or_around_them(tmp_path: Path) -> None:
    first = domain(tmp_path, "intel-rapl:0", "package-0", 100)
    second = domain(tmp_path, "intel-rapl:1", "package-1", 200)
    others = [
        domain(tmp_path, "intel-rapl:0:0", "core", 10),
        domain(tmp_path, "intel-rapl:0:1", "dram", 10),
        domain(tmp_path, "intel-rapl:2", "psys", 10),
        domain(tmp_path, "intel-rapl-mmio:0", "package-0", 10),
    ]
    meter = RaplMeter("A CPU", tmp_path)
    assert meter.energy_j() == 0
    for other in others:
        other.write_text("900\n")
    first.write_text("350\n")
    second.write_text("201\n")
    assert meter.energy_j() == pytest.approx(251e-6)
    assert meter.state() == {"packages": ["package-0", "package-1"]}
    meter.synchronize()


def test_rapl_counters_start_again_past_their_range(tmp_path: Path) -> None:
    counter = domain(tmp_path, "intel-rapl:0", "package-0", 900, most=1_000)
    meter = RaplMeter("A CPU", tmp_path)
    found = []
    for shown in (950, 30, 30, 20):
        counter.write_text(f"{shown}\n")
        found.append(round(meter.energy_j() * 1e6))
    # 50; then 50 to the end and 30; nothing; then 970 to the end and 20
    assert found == [50, 130, 130, 1120]


def test_rapl_that_is_not_there_or_not_ours_to_read_says_so_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(MeterError, match="no package counter under"):
        RaplMeter("A CPU", tmp_path)
    counter = domain(tmp_path, "intel-rapl:0", "package-0", 900)
    counter.unlink()
    counter.mkdir()  # as unreadable to root as a counter of root's is to users
    with pytest.raises(MeterError, match="cannot be read .* chmod a\\+r") as raised:
        RaplMeter("A CPU", tmp_path)
    assert "\n" not in str(raised.value)
    counter.rmdir()
    counter.write_text("plenty\n")
    with pytest.raises(MeterError, match="holds 'plenty'"):
        RaplMeter("A CPU", tmp_path)
