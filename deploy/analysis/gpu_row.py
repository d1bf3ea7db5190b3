"""The GPU's row of a comparison: measured here, measured elsewhere, or modelled."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch

from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import Images
from spikeship.hw_models.json_text import parse
from spikeship.hw_models.meters import gpu
from spikeship.hw_models.meters.gpu import GpuError, GpuReference
from spikeship.hw_models.meters.measuring import measure
from spikeship.hw_models.meters.meter import MeterError
from spikeship.hw_models.meters.nvml import INSTEAD, NvmlMeter

MODELLED_GPU: gpu.Gpu = "A100"
FORMAT = "spikeship gpu reference 1"

Batch = Literal["one", "best"]


class NoRowError(GpuError):
    """A result holds no such row."""


def gpu_reference(ann: Ann, images: Images) -> GpuReference:
    """The ANN on the GPU, one image at a time: measured where CUDA is there, else modelled.

    It runs in float32, as PyTorch runs a module as it is: a launch for every layer.

    Raises:
        MeterError: the GPU is there and cannot be measured.
    """
    if not torch.cuda.is_available():
        return gpu.model(ann.macs(), MODELLED_GPU)
    network = ann.network.to("cuda")
    one = images.values[:1].to("cuda")

    @torch.inference_mode()
    def run() -> None:
        network(one)

    try:
        with tensor_float(False):
            return gpu.measured(measure(run, 1, cuda_meter()))
    finally:
        ann.network.to("cpu")


def cuda_meter() -> NvmlMeter:
    """The energy counter of torch's current CUDA device.

    Raises:
        MeterError: there is no CUDA device, or NVML does not know it.
    """
    import pynvml

    if not torch.cuda.is_available():
        raise MeterError(f"gpu: no CUDA device here; {INSTEAD}")
    uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    return NvmlMeter(pynvml, uuid, torch.cuda.synchronize)


@contextmanager
def tensor_float(allowed: bool) -> Iterator[None]:
    """Let CUDA multiply float32 with the 10 bits of TensorFloat32's mantissa, or with all 23."""
    # torch puts an object in the place of its module, which mypy does not see
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    before = [place.fp32_precision for place in places]
    try:
        for place in places:
            place.fp32_precision = "tf32" if allowed else "ieee"
        yield
    finally:
        for place, precision in zip(places, before, strict=True):
            place.fp32_precision = precision


def read_gpu_result(path: Path, *, macs: int | None = None, batch: Batch = "one") -> GpuReference:
    """What benchmarks/gpu_reference.py measured of an ANN on a GPU, maybe on another machine.

    Args:
        path: its JSON.
        macs: multiply-accumulates of the ANN that it is set beside; None for whatever it holds.
        batch: one image at a time, or the batch of fewest joules an image.

    Raises:
        GpuError: no such file, not its JSON, nothing measured on a GPU, or another ANN.
    """
    found = _read(path, macs, {"precision": "float32", "processor": "cuda", "batch": batch})
    if found is None:
        raise NoRowError(f"{path}: holds no ANN in float32 measured on a GPU; measure it on one")
    return found


def read_int8_result(
    path: Path, *, macs: int | None = None, batch: Batch = "one"
) -> GpuReference | None:
    """The ANN in 8-bit integers on the CPU, from the same file; None where no joules were counted.

    Args:
        path: its JSON.
        macs: multiply-accumulates of the ANN that it is set beside; None for whatever it holds.
        batch: one image at a time, or the batch of fewest joules an image.

    Raises:
        GpuError: no such file, not its JSON, or another ANN.
    """
    counted = {"precision": "int8", "processor": "cpu", "energy_kind": "measured"}
    return _read(path, macs, {**counted, "batch": batch})


def _read(path: Path, macs: int | None, wanted: Mapping[str, str]) -> GpuReference | None:
    """The first row of an ANN that has what is wanted."""
    found = _object(path)
    network = found.get("network")
    if found.get("format") != FORMAT or not isinstance(network, dict):
        raise GpuError(f"{path}: not a result of benchmarks/gpu_reference.py; give its --json")
    if macs is not None and network.get("ann_macs") != macs:
        raise GpuError(
            f"{path}: measured on an ANN of {network.get('ann_macs')} MACs, this one has {macs}; "
            "measure this one with benchmarks/gpu_reference.py --ann"
        )
    wanted = {"workload": "ann", **wanted}
    rows = found.get("rows")
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict) and all(row.get(key) == value for key, value in wanted.items()):
            return _reference(path, row)
    return None


def _object(path: Path) -> Mapping[str, Any]:
    try:
        found = parse(path.read_bytes())
    except OSError as error:
        raise GpuError(f"{path}: cannot be read ({error.strerror}); name a file") from error
    except ValueError as error:
        raise GpuError(f"{path}: damaged, not JSON ({error}); measure it again") from error
    return found if isinstance(found, dict) else {}


def _reference(path: Path, row: Mapping[str, Any]) -> GpuReference:
    numbers = {}
    for key in ("energy_j", "latency_s", "low", "high", "idle_power_w"):
        value = row.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e9:
            raise GpuError(f"{path}: damaged, {key} is {value!r}; measure it again")
        numbers[key] = float(value)
    count, device, said = (row.get(key) for key in ("inferences_per_call", "device", "assumptions"))
    if row.get("energy_kind") != "measured" or not isinstance(device, str) or not device:
        raise GpuError(f"{path}: damaged, its row names no measured device; measure it again")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise GpuError(f"{path}: damaged, inferences_per_call is {count!r}; measure it again")
    if not numbers["low"] <= numbers["energy_j"] <= numbers["high"]:
        raise GpuError(f"{path}: damaged, energy_j is not within low..high; measure it again")
    lines = said if isinstance(said, list) else []
    return GpuReference(
        kind="measured",
        device=device,
        inferences_per_call=count,
        assumptions=(
            f"measured elsewhere, on {device}, and read from {path.name}",
            *(line for line in lines if isinstance(line, str)),
        ),
        **numbers,
    )
