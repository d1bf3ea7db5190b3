"""What a chip is held against: the GPU's rows, with idle power and without, the quantized ANN's."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from estimate_cases import images, network
from gpu_results import result, row
from spiking import chain
from spiking import images as smooth

from spikeship.deploy.analysis import references
from spikeship.deploy.analysis.references import Reference, gpu_rows, quantized_ann_rows
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import Images
from spikeship.deploy.run.counting import count
from spikeship.hw_models.events.macs import ann_macs
from spikeship.hw_models.graph import FixedGraph, Input, Neuron, Readout, Sparse
from spikeship.hw_models.meters import gpu
from spikeship.hw_models.meters.gpu import GpuError
from spikeship.hw_models.meters.measuring import Measurement

# 64 places x 4 channels x 9 taps, 16 x 4 x 36, and 64 x 10
WITH_PADDING = 64 * 36 + 16 * 144 + 640
WITHOUT = 22 * 22 * 4 + 10 * 10 * 16 + 640


def measured_elsewhere(tmp_path: Path, *rows: dict[str, Any]) -> tuple[Reference, ...]:
    path = result(tmp_path, *rows, network={"ann_macs": WITH_PADDING})
    return gpu_rows(network(), images(), result=path)


def test_a_modelled_gpu_counts_the_anns_macs_on_padding_too() -> None:
    (found,) = gpu_rows(network(), images())
    assert (found.name, found.kind, found.includes_idle) == ("ANN on A100", "modelled", True)
    assert found.energy_j == pytest.approx(2 * WITH_PADDING * 400 / 312e12)
    assert found.low == found.energy_j and found.high is None
    assert any(
        f"{WITH_PADDING:,} mult" in line and "padding too" in line for line in found.assumptions
    )


def test_the_quantized_anns_rows_say_that_they_count_none_on_padding() -> None:
    graph = network()
    assert ann_macs(graph, padding=False) == WITHOUT
    rows = quantized_ann_rows(graph, count(graph, images(2), seed=0).counts)
    assert [row.name for row in rows] == ["quantized ANN by yan", "quantized ANN by horowitz:int8"]
    for found in rows:
        assert not found.includes_idle
        assert any(
            f"{WITHOUT:,} mult" in line and "none on padding" in line for line in found.assumptions
        )
    assert rows[1].energy_j == pytest.approx(WITHOUT * 0.23e-12)


def test_a_network_of_sparse_layers_alone_costs_a_gpu_something() -> None:
    def sparse(name: str, source: str, target: str) -> Sparse:
        return Sparse(
            name=name, source=source, target=target, data=np.full(8, 2), columns=4,
            indices=np.array([0, 1, 1, 2, 2, 3, 3, 0]), indptr=np.arange(0, 9, 2),
        )  # fmt: skip

    graph = FixedGraph(
        Input("input", (4,)),
        (Neuron("one", (4,), vth=np.array(3)), Readout("out", (4,))),
        (sparse("a", "input", "one"), sparse("b", "one", "out")),
        num_steps=2,
    )
    (found,) = gpu_rows(graph, images())
    assert found.energy_j == pytest.approx(2 * 16 * 400 / 312e12)


def test_a_utilisation_raises_the_modelled_row_and_bounds_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (full,) = gpu_rows(network(), images())
    (tenth,) = gpu_rows(network(), images(), utilisation=0.1)
    assert tenth.energy_j == tenth.high == pytest.approx(10 * full.energy_j)
    assert tenth.low == full.energy_j
    # asked for, a GPU is modelled even where one could be measured
    monkeypatch.setattr(references, "gpu_reference", None)
    ann = Ann(chain(), {}, {})
    (of_ann,) = gpu_rows(network(), images(), ann=ann, utilisation=0.1)
    assert of_ann.energy_j == pytest.approx(gpu.model(ann.macs(), "A100", 0.1).energy_j)


@pytest.mark.parametrize("utilisation", [0.0, -1.0, 1.5, float("nan")])
def test_an_impossible_utilisation_is_refused(utilisation: float) -> None:
    with pytest.raises(GpuError, match="utilisation"):
        gpu_rows(network(), images(), utilisation=utilisation)


def test_a_utilisation_beside_a_measurement_is_refused(tmp_path: Path) -> None:
    path = result(tmp_path, row("one"), network={"ann_macs": WITH_PADDING})
    with pytest.raises(GpuError, match="leave one out"):
        gpu_rows(network(), images(), result=path, utilisation=0.5)


def test_both_batches_measured_elsewhere_stand_there_with_idle_power_and_without(
    tmp_path: Path,
) -> None:
    best = row("best", energy_j=1e-4, low=9e-5, high=3e-4)
    found = measured_elsewhere(tmp_path, row("one"), best)
    told = [(row.name, row.energy_j, row.low, row.high, row.includes_idle) for row in found]
    assert told == [
        ("ANN on NVIDIA Test", 2e-3, 1e-3, 4e-3, False),
        ("ANN on NVIDIA Test, with its idle power", 4e-3, 4e-3, 4e-3, True),
        ("ANN on NVIDIA Test, batch 512", 1e-4, 9e-5, 3e-4, False),
        ("ANN on NVIDIA Test, batch 512, with its idle power", 3e-4, 3e-4, 3e-4, True),
    ]  # fmt: skip
    for each in found:
        assert each.kind == "measured" and each.to_json()["includes_idle"] is each.includes_idle
        assert any("idle power too" in line for line in each.assumptions) is each.includes_idle


@pytest.mark.parametrize("others", [(), (row("best", inferences_per_call=1),)])
def test_without_another_best_batch_there_is_one_measurement(
    tmp_path: Path, others: tuple[dict[str, Any], ...]
) -> None:
    found = measured_elsewhere(tmp_path, row("one"), *others)
    assert [each.name for each in found] == [
        "ANN on NVIDIA Test",
        "ANN on NVIDIA Test, with its idle power",
    ]


def test_a_damaged_best_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GpuError, match="damaged"):
        measured_elsewhere(tmp_path, row("one"), row("best", energy_j=None))


def test_what_is_measured_here_stands_there_twice_too(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = Measurement("Test GPU", "a counter", 1, 100, 10.0, 2500.0, 50.0, 60.0, 0.1, {})
    monkeypatch.setattr(references, "gpu_reference", lambda ann, images: gpu.measured(taken))
    given = Images(smooth(2), None, torch.arange(2), {"name": "noise"})
    alone, idle = gpu_rows(network(), given, ann=Ann(chain(), {}, {}))
    assert (alone.energy_j, alone.includes_idle) == (19.5, False)
    assert (idle.energy_j, idle.includes_idle) == (25.0, True)
