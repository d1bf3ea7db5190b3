"""NVML's total energy counter of one NVIDIA GPU (Volta and later)."""

from collections.abc import Callable
from typing import Any

from spikeship.hw_models.meters.meter import MeterError

INSTEAD = "use the modelled reference instead"


class NvmlMeter:
    """A GPU read through NVML.

    Args:
        nvml: the ``pynvml`` module.
        uuid: of the GPU, without ``GPU-``. By UUID, since CUDA_VISIBLE_DEVICES renumbers CUDA's
            devices and not NVML's.
        synchronize: waits until the GPU has done all it was given.

    Raises:
        MeterError: NVML does not know the GPU.
    """

    counter = "NVML's energy counter"

    def __init__(self, nvml: Any, uuid: str, synchronize: Callable[[], None]) -> None:
        self._nvml = nvml
        self.synchronize = synchronize
        try:
            nvml.nvmlInit()
            self._handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            self.device = str(nvml.nvmlDeviceGetName(self._handle))
        except nvml.NVMLError as error:
            raise MeterError(f"gpu: NVML does not open GPU-{uuid} ({error}); {INSTEAD}") from error

    def energy_j(self) -> float:
        """Joules drawn since the driver was loaded."""
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) / 1e3
        except self._nvml.NVMLError as error:
            raise MeterError(
                f"gpu {self.device!r} has no energy counter ({error}); it takes Volta or later, "
                f"{INSTEAD}"
            ) from error

    def state(self) -> dict[str, Any]:
        """Driver, clocks (MHz), power limit (W), temperature (degrees C); null where unsaid."""
        nvml, handle = self._nvml, self._handle
        sm, memory = nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM
        limit_mw = self._asked(lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle))
        cuda = self._asked(nvml.nvmlSystemGetCudaDriverVersion_v2)
        persistent = self._asked(lambda: nvml.nvmlDeviceGetPersistenceMode(handle))
        running = self._asked(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
        return {
            "driver": self._asked(nvml.nvmlSystemGetDriverVersion),
            "cuda_of_driver": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
            "sm_clock_mhz": self._asked(lambda: nvml.nvmlDeviceGetClockInfo(handle, sm)),
            "sm_clock_max_mhz": self._asked(lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, sm)),
            "memory_clock_mhz": self._asked(lambda: nvml.nvmlDeviceGetClockInfo(handle, memory)),
            "memory_clock_max_mhz": self._asked(
                lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, memory)
            ),
            "power_limit_w": None if limit_mw is None else limit_mw / 1e3,
            "persistence": None if persistent is None else bool(persistent),
            "temperature_c": self._asked(
                lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
            ),
            "processes": None if running is None else len(running),
        }

    def _asked(self, question: Callable[[], Any]) -> Any:
        """The answer, or None where this GPU or driver gives none."""
        try:
            return question()
        except self._nvml.NVMLError:
            return None
