"""The benchmark of conventional hardware: its rows on a made meter, and its command."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gpu import reference_subjects
from gpu.reference_rows import table
from gpu.reference_subjects import Subject
from gpu_bench import Meter, bench, networks, subjects, watched
from gpu_results import row

from spikeship.deploy.analysis.gpu_row import read_gpu_result
from spikeship.deploy.io.classifier import load
from spikeship.hw_models.meters.gpu import GpuError
from spikeship.hw_models.meters.meter import EnergyMeter
from spikeship.training.ann.checkpoint import save_ann
from spikeship.training.ann.zoo import build
from spikeship.training.conversion.convert import convert
from spikeship.training.fit.classifier import evaluate_ann
from spikeship.training.nir_io.to_nir import to_nir, write_nir
from spikeship.training.snn.observe import evaluate

pytest.importorskip("onnxscript", reason="onnxscript is not installed; make installs it")

ROOT = Path(__file__).parents[1]


def test_every_subject_answers_as_the_network_it_is_of() -> None:
    given = networks()
    torch_float, onnx_float, whole, spiking = subjects()
    own = evaluate_ann(given.ann.network, given.images.values).numpy()
    assert np.array_equal(torch_float.predictions(given.images), own)
    assert np.array_equal(onnx_float.predictions(given.images), own)
    assert (whole.predictions(given.images) == own).mean() > 0.8
    assert given.snn is not None
    readout = evaluate(given.snn, given.images.values)
    assert np.array_equal(spiking.predictions(given.images), readout.argmax(1).numpy())
    assert [subject.num_steps for subject in (torch_float, spiking)] == [None, 12]


def test_cuda_runs_the_ann_in_three_precisions_and_the_spiking_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Put on the CPU, which does in float16 what it is told and knows no TensorFloat32."""
    for name in ("_ann", "_snn"):
        make = getattr(reference_subjects, name)

        def here(*given: Any, make: Any = make) -> Subject:
            made: Subject = make(*("cpu" if value == "cuda" else value for value in given))
            return made

        monkeypatch.setattr(reference_subjects, name, here)
    given = networks()
    subjects = reference_subjects.on_cuda(given, 64)
    own = evaluate_ann(given.ann.network, given.images.values).numpy()
    assert given.snn is not None
    spiking = evaluate(given.snn, given.images.values).argmax(1).numpy()
    found = []
    for subject in subjects:
        with subject.setting():
            setting = torch.backends.cudnn.conv.fp32_precision
            found.append((subject.workload, subject.precision, setting))
        expected = spiking if subject.workload == "snn" else own
        assert (subject.predictions(given.images) == expected).mean() > 0.95
        assert subject.largest == 64
    assert found[:2] == [("ann", "float32", "ieee"), ("ann", "tf32", "tf32")]
    assert [one[:2] for one in found[2:]] == [("ann", "float16"), ("snn", "float32")]
    assert found[3][2] == "ieee"
    kinds = [subject.prepare(torch.arange(2)).dtype for subject in subjects]
    assert kinds == [torch.float32, torch.float32, torch.float16, torch.int8]
    assert subjects[2].classify(subjects[2].prepare(torch.arange(2))).dtype == torch.float16


def test_a_batch_is_of_the_size_asked_and_does_not_grow_with_encoding() -> None:
    given = networks()
    seen: list[tuple[int, ...]] = []
    for subject in subjects():
        keep: Callable[[torch.Tensor], Any] = lambda x: seen.append(tuple(x.shape))  # noqa: E731
        replace(subject, classify=keep).work(given.images, 100)()
    assert seen == [(100, 2, 8, 8)] * 3 + [(100, 12, 2, 8, 8)]


def test_rows_on_a_meter_are_one_image_and_the_best_batch() -> None:
    meter = Meter()
    subject = watched(subjects()[0], meter, memory=8)
    one, best = bench(meter).measured(subject, meter)
    # 100 W above idle for 1.25 s; at a batch of 8 for 3 s
    assert one["energy_j"] == pytest.approx(125.0) and one["inferences_per_call"] == 1
    assert best["energy_j"] == pytest.approx(300 / 8) and best["inferences_per_call"] == 8
    assert (one["latency_s"], best["latency_s"]) == (pytest.approx(1.25), pytest.approx(3.0))
    assert one["idle_power_w"] == pytest.approx(20.0)
    assert best["search"]["ended"] == "out of memory"
    assert [tried["inferences_per_call"] for tried in best["search"]["batches"]] == [1, 2, 4, 8]
    assert one["accuracy"] == best["accuracy"] == 1.0
    assert (one["energy_kind"], one["batch"], best["batch"]) == ("measured", "one", "best")
    json.dumps([one, best], allow_nan=False)


def test_memory_that_ends_while_a_batch_is_prepared_ends_the_search_too() -> None:
    meter = Meter()
    subject = subjects()[0]

    def prepare(places: torch.Tensor) -> torch.Tensor:
        if 4 < len(places) < 40:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9")
        return subject.prepare(places)

    _, best = bench(meter).measured(replace(watched(subject, meter), prepare=prepare), meter)
    assert (best["inferences_per_call"], best["search"]["ended"]) == (4, "out of memory")


def test_errors_that_are_not_of_memory_are_not_hidden() -> None:
    meter = Meter()

    def broken(given: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a kernel is broken")

    with pytest.raises(RuntimeError, match="a kernel is broken"):
        bench(meter).measured(replace(subjects()[0], classify=broken), meter)


def test_measured_and_modelled_stand_in_tables_of_their_own() -> None:
    rows = [
        row("one", runtime="torch", energy_j=2.5e-3, latency_kind="measured", accuracy=0.5),
        row("one", processor=None, energy_kind="modelled", energy_j=7e-6, latency_kind="modelled"),
        row("one", energy_kind="modelled", energy_j=9e-6, latency_kind="measured", latency_s=0.75),
        row("one", energy_kind=None, energy_j=None, latency_kind="measured", latency_s=0.25),
    ]
    lines = table([{"runtime": None, **each} for each in rows])
    assert [line for line in lines if line.endswith(":")] == ["measured:", "modelled:"]
    apart = lines.index("modelled:")
    measured, modelled = ("\n".join(part) for part in (lines[:apart], lines[apart:]))
    for figure in ("0.0025", "50.00%", "0.75", "0.25"):
        assert figure in measured and figure not in modelled
    for figure in ("7e-06", "9e-06"):
        assert figure in modelled and figure not in measured
    assert measured.count("joules an inference") == modelled.count("joules an inference") == 1
    assert table([]) == []


def test_without_counters_everything_is_timed_and_the_rest_modelled(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("gpu.reference_rows.POWERCAP", tmp_path)
    tested = bench(Meter())
    rows = tested.everything("A CPU", 64, 1)
    assert [(row["workload"], row["precision"], row["energy_kind"]) for row in rows] == [
        ("ann", "float16", "modelled"),
        ("ann", "float32", None),
        ("ann", "float32", None),
        ("ann", "int8", None),
        ("snn", "float32", None),
        ("ann, operations alone", "int8", "modelled"),
    ]
    assert all(row["latency_s"] > 0 for row in rows if row["latency_kind"] == "measured")
    macs = tested.networks.ann.macs(padding=False)
    assert macs < tested.networks.ann.macs(padding=True)
    assert rows[-1]["energy_j"] == pytest.approx(macs * 0.23e-12)
    assert ["no CUDA device" in tested.notes[0], "RAPL" in tested.notes[1]] == [True, True]
    lines = table(rows)
    heads = [place for place, line in enumerate(lines) if line.endswith("right")]
    assert [lines[place - 1] for place in heads] == ["measured:", "modelled:"]
    assert heads == [2, 9] and len(lines) == 12
    assert "100.00%" in lines[3] and "A100" in lines[10] and "operations alone" in lines[11]
    json.dumps(rows, allow_nan=False)


def test_readable_packages_are_the_cpus_meter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("gpu.reference_rows.POWERCAP", tmp_path)
    package = tmp_path / "intel-rapl:0"
    package.mkdir()
    for name, text in (("name", "package-0"), ("max_energy_range_uj", "1"), ("energy_uj", "0")):
        (package / name).write_text(text)
    tested = bench(Meter())
    monkeypatch.setattr("gpu.reference_rows.on_cpu", lambda networks, threads, note: subjects())
    asked: list[str] = []

    def measured(subject: Subject, meter: EnergyMeter) -> list[Any]:
        asked.append(meter.counter)
        return []

    monkeypatch.setattr(tested, "measured", measured)
    tested.everything("A CPU", 64, 1)
    assert asked == ["RAPL's package counters"] * 4


def run(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_reference.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_the_command_measures_a_users_own_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build("vgg5", (1, 8, 8), 10, width=0.1).eval()
    ann, snn, out = (tmp_path / name for name in ("ann.safetensors", "snn.nir", "out.json"))
    save_ann(
        ann,
        model,
        arch="vgg5",
        input_shape=(1, 8, 8),
        classes=10,
        data={"name": "digits"},
        provenance={},
        width=0.1,
    )
    write_nir(snn, to_nir(convert(load(ann).network, torch.randn(16, 1, 8, 8), num_steps=4)))
    quick = ("--data", "digits", "--images", 20, "--seconds-without", 0.05, "--threads", 1)
    done = run("--ann", ann, "--snn", snn, *quick, "--json", out)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["network"]["name"] == "ann.safetensors" and found["network"]["num_steps"] == 4
    assert found["machine"]["threads"] == 1
    assert any(row["precision"] == "int8" and row["images"] == 20 for row in found["rows"])
    if not torch.cuda.is_available():
        assert "no CUDA device" in done.stdout and "modelled" in done.stdout
        with pytest.raises(GpuError, match="holds no ANN in float32 measured on a GPU"):
            read_gpu_result(out)
