"""The GPU reference: joules that were measured, or a stated model; the two are never mixed."""

from dataclasses import dataclass
from typing import Any, Literal

from spikeship.hw_models.chips.spec import Constant
from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.meters.measuring import Measurement

FLOPS_PER_MAC = 2


class GpuError(SpikeshipError, ValueError):
    """Nothing can be modelled or read; the message says what is missing."""


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


def measured(measurement: Measurement) -> GpuReference:
    """The reference that a measurement is."""
    return GpuReference(
        kind="measured",
        device=measurement.device,
        energy_j=measurement.energy_j,
        latency_s=measurement.latency_s,
        inferences_per_call=measurement.inferences_per_call,
        low=measurement.low,
        high=measurement.high,
        idle_power_w=measurement.idle_power_w,
        assumptions=measurement.assumptions,
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
