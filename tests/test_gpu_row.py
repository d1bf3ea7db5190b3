"""The GPU's row: modelled without CUDA, or read from what was measured elsewhere."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gpu_results import result, row
from spiking import chain, images

import cases
from spikeship.deploy.analysis import gpu_row
from spikeship.deploy.analysis.gpu_row import gpu_reference, read_gpu_result, read_int8_result
from spikeship.deploy.analysis.references import gpu_rows
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import Images
from spikeship.hw_models.events.macs import ann_macs
from spikeship.hw_models.meters import gpu
from spikeship.hw_models.meters.gpu import GpuError
from spikeship.hw_models.meters.measuring import Measurement
from spikeship.hw_models.meters.meter import MeterError

ANN = Ann(chain(), {}, {})
IMAGES = Images(images(4), None, torch.arange(4), {"name": "noise"})


def test_without_cuda_the_row_is_modelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_reference(ANN, IMAGES) == gpu.model(ANN.macs(), "A100")
    with pytest.raises(MeterError, match="no CUDA device"):
        gpu_row.cuda_meter()


class Elsewhere:
    """Images, and a network, that note where they are put and stay where they are."""

    def __init__(self, held: Any) -> None:
        self.held, self.places = held, []

    def __getitem__(self, part: slice) -> "Elsewhere":
        return self

    def __call__(self, given: "Elsewhere") -> None:
        assert not torch.is_grad_enabled()
        self.held(given.held)

    def to(self, place: str) -> "Elsewhere":
        self.places.append(place)
        return self


def test_with_cuda_one_image_is_measured_in_float32_and_the_network_brought_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, held = Elsewhere(ANN.network), Elsewhere(images(1))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu_row, "cuda_meter", lambda: "the meter")

    def measure(run: Any, batch: int, meter: Any) -> Measurement:
        run()
        assert (network.places, held.places) == (["cuda"], ["cuda"])
        assert (batch, meter) == (1, "the meter")
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
        return Measurement("Test GPU", "a counter", 1, 100, 10.0, 2500.0, 50.0, 60.0, 0.1, {})

    monkeypatch.setattr(gpu_row, "measure", measure)
    found = gpu_reference(Ann(network, {}, {}), replace(IMAGES, values=held))
    assert (found.kind, found.device, found.energy_j) == ("measured", "Test GPU", 19.5)
    assert network.places == ["cuda", "cpu"]

    def refuse(*given: Any) -> None:
        raise MeterError("no counter")

    monkeypatch.setattr(gpu_row, "measure", refuse)
    with pytest.raises(MeterError, match="no counter"):
        gpu_reference(Ann(network, {}, {}), replace(IMAGES, values=held))
    assert network.places == ["cuda", "cpu"] * 2


def test_tensor_float_is_set_within_and_as_before_after() -> None:
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)
    before = [place.fp32_precision for place in places]
    with gpu_row.tensor_float(False):
        assert [place.fp32_precision for place in places] == ["ieee", "ieee"]
        with gpu_row.tensor_float(True):
            assert [place.fp32_precision for place in places] == ["tf32", "tf32"]
        assert [place.fp32_precision for place in places] == ["ieee", "ieee"]
    assert [place.fp32_precision for place in places] == before


def test_a_result_is_read_as_measured_elsewhere_with_its_device_named(tmp_path: Path) -> None:
    others = [
        row("one", precision="float16", device="wrong"),
        row("one", workload="snn", device="wrong"),
        row("one", processor="cpu", device="wrong"),
    ]
    path = result(tmp_path, *others, row("one"), row("best", energy_j=1e-3))
    found = read_gpu_result(path, macs=1000)
    assert (found.kind, found.device) == ("measured", "NVIDIA Test")
    assert (found.energy_j, found.low, found.high, found.latency_s) == (2e-3, 1e-3, 4e-3, 5e-4)
    assert found.assumptions == (
        "measured elsewhere, on NVIDIA Test, and read from h200.json",
        "idle power is subtracted",
    )
    best = read_gpu_result(path, batch="best")
    assert (best.energy_j, best.inferences_per_call) == (1e-3, 512)


def int8(batch: str, **changes: Any) -> dict[str, Any]:
    return row(batch, **{"precision": "int8", "processor": "cpu", "device": "A CPU", **changes})


def test_the_int8_row_of_the_same_file_is_read_where_joules_were_counted(tmp_path: Path) -> None:
    bound = int8("one", workload="ann, operations alone", processor=None, energy_kind="modelled")
    timed = int8("one", energy_kind=None, energy_j=None)
    path = result(tmp_path, row("one"), bound, timed)
    assert read_int8_result(path, macs=1000) is None
    path = result(tmp_path, bound, int8("best", energy_j=1.5e-3), int8("one"))
    found = read_int8_result(path, macs=1000)
    assert found is not None
    assert (found.kind, found.device, found.energy_j) == ("measured", "A CPU", 2e-3)
    best = read_int8_result(path, batch="best")
    assert best is not None
    assert (best.energy_j, best.inferences_per_call) == (1.5e-3, 512)
    with pytest.raises(GpuError, match="holds no ANN in float32 measured on a GPU"):
        read_gpu_result(path)
    with pytest.raises(GpuError, match="this one has 2000"):
        read_int8_result(path, macs=2000)
    with pytest.raises(GpuError, match="h200.json: damaged, energy_j is None"):
        read_int8_result(result(tmp_path, int8("one", energy_j=None)))


def test_the_int8_row_is_a_reference_of_what_if(tmp_path: Path) -> None:
    graph = cases.graph("dense")
    network = {"ann_macs": ann_macs(graph, padding=True)}

    def names(*rows: dict[str, Any]) -> dict[str, float]:
        found = gpu_rows(graph, IMAGES, result=result(tmp_path, *rows, network=network))
        assert {one.kind for one in found} == {"measured"}
        return {one.name: one.energy_j for one in found}

    gpu = {"ANN on NVIDIA Test": 2e-3, "ANN on NVIDIA Test, with its idle power": 4e-3}
    assert names(row("one")) == gpu
    assert names(row("one"), int8("one", energy_kind=None, energy_j=None)) == gpu
    whole = {"int8 ANN on A CPU": 3e-3, "int8 ANN on A CPU, with its idle power": 4e-3}
    assert names(row("one"), int8("one", energy_j=3e-3)) == gpu | whole
    assert names(row("one"), int8("one", energy_j=3e-3), int8("best", inferences_per_call=1)) == (
        gpu | whole
    )
    more = names(row("one"), int8("one", energy_j=3e-3), int8("best"))
    assert set(more) - set(gpu | whole) == {
        "int8 ANN on A CPU, batch 512",
        "int8 ANN on A CPU, batch 512, with its idle power",
    }


def test_a_result_of_another_network_or_without_a_gpu_is_refused(tmp_path: Path) -> None:
    path = result(tmp_path, row("one"))
    with pytest.raises(GpuError, match="ANN of 1000 MACs, this one has 2000"):
        read_gpu_result(path, macs=2000)
    with pytest.raises(GpuError, match="holds no ANN in float32 measured on a GPU"):
        read_gpu_result(path, batch="best")
    with pytest.raises(GpuError, match="cannot be read"):
        read_gpu_result(tmp_path / "none.json")


@pytest.mark.parametrize(
    "changes",
    [
        {"energy_j": None},
        {"energy_j": True},
        {"energy_j": -1.0},
        {"energy_j": float("nan")},
        {"energy_j": 5e-3},
        {"latency_s": "soon"},
        {"low": 3e-3},
        {"idle_power_w": float("inf")},
        {"inferences_per_call": 0},
        {"inferences_per_call": 1.5},
        {"device": ""},
        {"device": None},
        {"energy_kind": "modelled"},
    ],
)
def test_damaged_rows_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(GpuError, match="h200.json: damaged"):
        read_gpu_result(result(tmp_path, row("one", **changes)))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "null", '{"format": 1}', "[" * 100_000, "\ud800"]
)
def test_what_is_no_result_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "some.json"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(GpuError) as raised:
        read_gpu_result(path)
    assert "\n" not in str(raised.value)


def test_no_damage_ends_in_anything_but_a_line_or_a_reference(tmp_path: Path) -> None:
    whole = result(tmp_path, row("one"), row("best")).read_bytes()
    draw = random.Random(0)
    path = tmp_path / "damaged.json"
    refused = 0
    for _ in range(400):
        cut = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            cut[draw.randrange(len(cut))] = draw.randrange(256)
        path.write_bytes(cut[: draw.choice([len(cut), draw.randrange(len(cut))])])
        try:
            read_gpu_result(path)
        except GpuError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 200 < refused < 400
