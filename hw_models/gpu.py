"""The GPU reference: joules measured with NVML, or a stated model; the two are never mixed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from spikeship.hw_models.chips.spec import Constant

MIN_SECONDS = 10.0  # shorter runs see too little of the counter to be trusted
FLOPS_PER_MAC = 2


class GpuError(ValueError):
    """Nothing could be measured or modelled; the message says what is missing."""


@dataclass(frozen=True)
class GpuReference:
    """What the same work costs on a GPU.

    Attributes:
        kind: ``measured`` or ``modelled``.
        device: name of the GPU.
        energy_j: joules per inference.
        latency_s: seconds until a call's results are there (a whole batch's).
        inferences_per_call: batch size.
        low, high: bounds of ``energy_j``; None where nothing bounds it.
        idle_power_w: power of the idle GPU; None where it is not known.
        assumptions: what the numbers rest on.
    """

    kind: Literal["measured", "modelled"]
    device: str
    energy_j: float
    latency_s: float
    inferences_per_call: int
    low: float
    high: float | None
    idle_power_w: float | None
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the ``gpu`` object of the command line's JSON."""
        return {
            "kind": self.kind,
            "device": self.device,
            "energy_j": self.energy_j,
            "latency_s": self.latency_s,
            "inferences_per_call": self.inferences_per_call,
            "low": self.low,
            "high": self.high,
            "idle_power_w": self.idle_power_w,
            "assumptions": list(self.assumptions),
        }


class EnergyMeter(Protocol):
    """A GPU whose energy can be read."""

    @property
    def device(self) -> str:
        """Name of the GPU."""
        ...

    def energy_j(self) -> float:
        """Joules drawn since some fixed moment."""
        ...

    def synchronize(self) -> None:
        """Wait until the GPU has done all it was given."""
        ...


class NvmlMeter:
    """The total energy counter of torch's current CUDA device (Volta and later).

    Args:
        nvml: the ``pynvml`` module.
        cuda: the ``torch.cuda`` module.

    Raises:
        GpuError: there is no CUDA device, or NVML does not know it.
    """

    def __init__(self, nvml: Any, cuda: Any) -> None:
        if not cuda.is_available():
            raise GpuError("gpu: no CUDA device here; use the modelled reference instead")
        self._nvml, self._cuda = nvml, cuda
        uuid = str(cuda.get_device_properties(cuda.current_device()).uuid)
        try:
            nvml.nvmlInit()
            # by UUID, since CUDA_VISIBLE_DEVICES renumbers torch's devices and not NVML's
            self._handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            self.device = str(nvml.nvmlDeviceGetName(self._handle))
        except nvml.NVMLError as error:
            raise GpuError(
                f"gpu: NVML does not open GPU-{uuid} ({error}); use the modelled reference instead"
            ) from error

    def energy_j(self) -> float:
        """Joules drawn since the driver was loaded."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError as error:
            raise GpuError(
                f"gpu {self.device!r} has no energy counter ({error}); it takes Volta or later, "
                "use the modelled reference instead"
            ) from error

    def synchronize(self) -> None:
        """Wait until the GPU has done all it was given."""
        self._cuda.synchronize()


def _open_meter() -> EnergyMeter:
    import pynvml
    import torch

    return NvmlMeter(pynvml, torch.cuda)


def measure(
    run: Callable[[], None],
    inferences_per_call: int,
    seconds: float = MIN_SECONDS,
    *,
    idle_seconds: float = 5.0,
    meter: EnergyMeter | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> GpuReference:
    """Measure joules and seconds of ``run`` on the GPU, idle power subtracted.

    ``run`` is called once to warm up, then the idle GPU is read for ``idle_seconds``, then ``run``
    is called, each time to its end, until ``seconds`` have passed.

    Args:
        run: does ``inferences_per_call`` inferences on the GPU.
        inferences_per_call: its batch size.
        seconds: least duration of the work, at least 10.
        idle_seconds: duration of the idle reading.
        meter: what reads the GPU; torch's current CUDA device if None.
        clock: seconds since some moment.
        sleep: waits so many seconds.

    Raises:
        GpuError: no CUDA device or counter here, too short a run, or work that draws no more than
            idling does.
    """
    if seconds < MIN_SECONDS or idle_seconds <= 0 or inferences_per_call < 1:
        raise GpuError(
            f"gpu: {seconds} s of work, {idle_seconds} s idle, {inferences_per_call} inferences a "
            f"call; measure at least {MIN_SECONDS:g} s, some idle time and one inference a call"
        )
    meter = meter or _open_meter()
    run()
    meter.synchronize()

    before, start = meter.energy_j(), clock()
    sleep(idle_seconds)
    idle_power = (meter.energy_j() - before) / (clock() - start)

    calls = 0
    before, start = meter.energy_j(), clock()
    while (elapsed := clock() - start) < seconds:
        run()
        meter.synchronize()
        calls += 1
    drawn = meter.energy_j() - before
    inferences = calls * inferences_per_call
    above_idle = drawn - idle_power * elapsed
    if above_idle <= 0:
        raise GpuError(
            f"gpu {meter.device!r}: {drawn:.3g} J in {elapsed:.3g} s is not above its idle "
            f"{idle_power:.3g} W; stop what else runs there, or measure a larger batch"
        )
    return GpuReference(
        kind="measured",
        device=meter.device,
        energy_j=above_idle / inferences,
        latency_s=elapsed / calls,
        inferences_per_call=inferences_per_call,
        low=above_idle / inferences,
        high=drawn / inferences,
        idle_power_w=idle_power,
        assumptions=(
            f"measured with NVML's energy counter: {calls} calls of {inferences_per_call} "
            f"inferences in {elapsed:.3g} s",
            f"idle power of {idle_power:.3g} W, read for {idle_seconds:g} s after a warm-up, is "
            "subtracted; high holds it",
            "latency is a whole call's; the host's energy is not in it",
        ),
    )


Gpu = Literal["V100", "A100", "H100"]


@dataclass(frozen=True)
class _DataSheet:
    power: Constant
    peak: Constant


def _data_sheet(gpu: str, watts: float, teraflops: float) -> _DataSheet:
    source = f"NVIDIA {gpu} data sheet"
    return _DataSheet(
        Constant(watts, watts, watts, "W", f"{source}: thermal design power", "stated"),
        Constant(
            teraflops * 1e12,
            teraflops * 1e12,
            teraflops * 1e12,
            "FLOP/s",
            f"{source}: dense FP16 on tensor cores",
            "stated",
        ),
    )


_DATA_SHEETS: dict[str, _DataSheet] = {
    "V100": _data_sheet("V100 SXM2", 300.0, 125.0),
    "A100": _data_sheet("A100 SXM4", 400.0, 312.0),
    "H100": _data_sheet("H100 SXM5", 700.0, 989.0),
}


def model(
    macs_per_inference: int, gpu: Gpu = "A100", utilisation: float | None = None
) -> GpuReference:
    """Model a GPU's joules and seconds from its stated power and peak rate.

    ``energy = 2 * macs * (TDP / peak) / utilisation``. Without a utilisation this is the lower
    bound of full load, which small networks do not come near.

    Args:
        macs_per_inference: multiply-accumulates of one inference.
        gpu: V100, A100 or H100.
        utilisation: share of the peak rate reached, above 0 and at most 1.

    Raises:
        GpuError: unknown GPU, or a utilisation or MAC count out of range.
    """
    if gpu not in _DATA_SHEETS:
        raise GpuError(f"gpu {gpu!r} is unknown; choose one of {', '.join(_DATA_SHEETS)}")
    if utilisation is not None and not 0 < utilisation <= 1:
        raise GpuError(f"gpu {gpu!r}: utilisation {utilisation} must lie above 0 and at most at 1")
    if macs_per_inference < 0:
        raise GpuError(f"gpu {gpu!r}: {macs_per_inference} MACs; give a count of 0 or more")
    sheet = _DATA_SHEETS[gpu]
    flops = FLOPS_PER_MAC * macs_per_inference
    full_load_j = flops * sheet.power.value / sheet.peak.value
    reached = 1.0 if utilisation is None else utilisation
    said = (
        "no utilisation is known: a lower bound, at 100 % of the peak rate"
        if utilisation is None
        else f"at {utilisation:.3g} of the peak rate, as given; low is the bound at 100 %"
    )
    return GpuReference(
        kind="modelled",
        device=gpu,
        energy_j=full_load_j / reached,
        latency_s=flops / (sheet.peak.value * reached),
        inferences_per_call=1,
        low=full_load_j,
        high=None if utilisation is None else full_load_j / reached,
        idle_power_w=None,
        assumptions=(
            f"modelled, not measured: {FLOPS_PER_MAC} FLOPs a MAC at "
            f"{sheet.power.value / sheet.peak.value * 1e12:.3g} pJ a FLOP "
            f"({sheet.power.source}, {sheet.power.value:g} W; {sheet.peak.source}, "
            f"{sheet.peak.value / 1e12:g} TFLOP/s)",
            said,
            "full power is drawn all the time, idle power included; launches, memory and the host "
            "are left out",
        ),
    )
