"""What fails in the benchmark of conventional hardware costs its own rows alone."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import gpu_reference
import pytest
import torch
from gpu import reference_subjects
from gpu.reference_subjects import Subject
from gpu_bench import Meter, bench, subjects, watched

from spikeship.deploy.errors import DeployError
from spikeship.hw_models.meters.meter import EnergyMeter, MeterError

pytest.importorskip("onnxscript", reason="onnxscript is not installed; make installs it")


def test_a_batch_the_meter_cannot_tell_is_a_note_and_smaller_ones_stay() -> None:
    meter = Meter()
    subject = watched(subjects()[0], meter)

    def classify(given: torch.Tensor) -> torch.Tensor:
        meter.busy_w = 20.0 if len(given) == 4 else 120.0
        return subject.classify(given)

    tested = bench(meter)
    one, best = tested.measured(replace(subject, classify=classify), meter)
    assert (one["inferences_per_call"], best["inferences_per_call"]) == (1, 2)
    assert (one["accuracy"], best["search"]["ended"]) == (1.0, "failed")
    (note,) = tested.notes
    assert note.startswith("ann in float32 by torch on cpu, a batch of 4: A CPU: ")
    assert "not above its idle 20 W" in note and not tested.broken


def test_joules_stay_where_accuracy_does_not_fit_in_memory() -> None:
    meter = Meter()
    subject = watched(subjects()[0], meter)

    def classify(given: torch.Tensor) -> torch.Tensor:
        if len(given) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory\nhints")
        return subject.classify(given)

    tested = bench(meter)
    one, _ = tested.measured(replace(subject, classify=classify), meter)
    assert (one["energy_j"], one["accuracy"]) == (pytest.approx(125.0), None)
    assert tested.notes == ["ann in float32 by torch on cpu, accuracy: CUDA out of memory"]


def with_gpu(monkeypatch: pytest.MonkeyPatch, meter: Meter, *given: Subject) -> None:
    """Let these subjects be the GPU's, on this meter, and the CPU have none."""
    named = [replace(subject, processor="cuda", largest=1) for subject in given]
    monkeypatch.setattr("gpu.reference_rows.cuda_meter", lambda: meter)
    monkeypatch.setattr("gpu.reference_rows.on_cuda", lambda networks, largest: named)
    monkeypatch.setattr("gpu.reference_rows.POWERCAP", Path("none"))


def told(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    keys = ("workload", "precision", "runtime", "processor", "energy_kind")
    return [tuple(row[key] for key in keys) for row in rows]


GPU_ROWS = [("ann", "float32", "torch", "cuda", "measured")] * 2
BOUND = ("ann, operations alone", "int8", None, None, "modelled")


def test_what_cannot_be_quantized_is_a_note_and_every_other_row_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*given: Any) -> Any:
        raise DeployError("int8: the exporter is not installed")

    meter = Meter()
    with_gpu(monkeypatch, meter, watched(subjects()[0], meter))
    monkeypatch.setattr(reference_subjects, "quantize_int8", refuse)
    tested = bench(meter)
    assert told(tested.everything("A CPU", 64, 1)) == [
        *GPU_ROWS,
        ("ann", "float32", "torch", "cpu", None),
        ("ann", "float32", "onnxruntime", "cpu", None),
        ("snn", "float32", "torch", "cpu", None),
        BOUND,
    ]
    reason = "ann in int8 by onnxruntime on cpu: int8: the exporter is not installed"
    assert reason in tested.notes and not tested.broken


def test_a_row_that_breaks_costs_no_other_and_is_not_hidden(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(given: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("a kernel is broken\nhints")

    meter = Meter()
    bad = replace(watched(subjects()[0], meter), precision="tf32", classify=broken)
    with_gpu(monkeypatch, meter, watched(subjects()[0], meter), bad)
    late = replace(subjects()[3], classify=broken)
    monkeypatch.setattr("gpu.reference_rows.on_cpu", lambda *given: [late, subjects()[2]])
    tested = bench(meter)
    rows = tested.everything("A CPU", 64, 1)
    assert told(rows) == [*GPU_ROWS, ("ann", "int8", "onnxruntime", "cpu", None), BOUND]
    assert [note for note in tested.notes if "broken" in note] == [
        "ann in tf32 by torch on cuda: RuntimeError: a kernel is broken",
        "snn in float32 by torch on cpu: RuntimeError: a kernel is broken",
    ]
    assert tested.broken and capsys.readouterr().err.count("Traceback") == 2


def test_what_breaks_before_anything_is_measured_is_raised_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*given: Any) -> Any:
        raise RuntimeError("an exporter is broken")

    meter = Meter()
    with_gpu(monkeypatch, meter, watched(subjects()[0], meter))
    monkeypatch.setattr(reference_subjects, "quantize_int8", broken)
    with pytest.raises(RuntimeError, match="an exporter is broken"):
        bench(meter).everything("A CPU", 64, 1)
    assert meter.now == 0.0


def test_the_cpus_seconds_are_measured_where_its_counter_stands_still(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def still(subject: Subject, meter: EnergyMeter) -> Any:
        raise MeterError("its counter stands still")

    tested = bench(Meter())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("gpu.reference_rows.RaplMeter", lambda *given: Meter())
    monkeypatch.setattr("gpu.reference_rows.on_cpu", lambda *given: [subjects()[0]])
    monkeypatch.setattr(tested, "measured", still)
    rows = tested.everything("A CPU", 64, 1)
    assert told(rows)[1:] == [("ann", "float32", "torch", "cpu", None), BOUND]
    assert rows[1]["latency_s"] > 0
    assert "ann in float32 by torch on cpu: its counter stands still" in tested.notes


def command(monkeypatch: pytest.MonkeyPatch, out: Path, everything: Any) -> int:
    monkeypatch.setattr(gpu_reference.machine, "hold_to", lambda threads: threads)
    monkeypatch.setattr(gpu_reference, "everything", everything)
    monkeypatch.setattr(sys, "argv", ["gpu_reference.py", "--json", str(out)])
    return gpu_reference.main()


@pytest.mark.parametrize("broken", [False, True])
def test_a_result_is_written_even_if_a_row_broke(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, broken: bool
) -> None:
    out = tmp_path / "new" / "out.json"
    status = command(monkeypatch, out, lambda *given: ({"notes": ["one"]}, broken))
    assert (status, json.loads(out.read_text())) == (int(broken), {"notes": ["one"]})


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, tmp_path, lambda *given: pytest.fail("measured")) == 2
    assert "is a folder" in capsys.readouterr().err
