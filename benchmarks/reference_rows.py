"""Rows of the reference on conventional hardware: joules, seconds and accuracy of each subject."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from reference_subjects import Networks, Subject, on_cpu, on_cuda

from spikeship.deploy.gpu_row import MODELLED_GPU, cuda_meter
from spikeship.hw_models import gpu
from spikeship.hw_models.energy_models.horowitz import FORMATS
from spikeship.hw_models.meters.measuring import Measurement, Timing, best_batch, timed
from spikeship.hw_models.meters.meter import EnergyMeter, MeterError
from spikeship.hw_models.meters.rapl import POWERCAP, RaplMeter

Row = dict[str, Any]
HEADINGS = (
    *("network", "in", "by", "on", "batch"),
    *("joules an inference", "seconds a call", "accuracy"),
)


class OutOfMemoryError(Exception):
    """A batch does not fit, whoever says so."""


@dataclass
class Bench:
    """Measures subjects, and keeps what it has to say.

    Attributes:
        networks: what to measure.
        timing: how long, on a meter. seconds_without: how long where none counts.
        say: is told what is under way.
        notes: what could not be measured, and why.
    """

    networks: Networks
    timing: Timing
    seconds_without: float
    say: Callable[[str], None]
    notes: list[str] = field(default_factory=list)

    def everything(self, processor: str, largest: int, threads: int) -> list[Row]:
        """All rows: CUDA's or the model's, the CPU's, and the bound of int8's operations.

        Args:
            processor: name of the CPU.
            largest: batch not to go beyond on CUDA.
            threads: of the CPU.

        Raises:
            DeployError: the ANN cannot be exported or quantized.
        """
        macs = self.networks.ann.macs()
        rows: list[Row] = []
        meter = self._meter(cuda_meter)
        if meter is not None:
            for subject in on_cuda(self.networks, largest):
                rows += self.measured(subject, meter)
        if not any(row["processor"] == "cuda" for row in rows):
            rows.append(_modelled(gpu.model(macs, MODELLED_GPU)))
        meter = self._meter(partial(RaplMeter, processor, POWERCAP))
        for subject in on_cpu(self.networks, threads):
            if meter is None:
                rows.append(self.timed(subject, processor))
            else:
                rows += self.measured(subject, meter)
        return [*rows, _bound(macs)]

    def measured(self, subject: Subject, meter: EnergyMeter) -> list[Row]:
        """Rows at batch 1 and at the best batch; none where the meter cannot tell."""
        self.say(f"{_name(subject)}: {meter.counter}, batches of 1, 2, 4, …")
        images = self.networks.images
        try:
            with subject.setting():
                found = best_batch(
                    lambda batch: _saying_so(partial(subject.work, images), batch),
                    meter,
                    self.timing,
                    largest=subject.largest,
                    out_of_memory=OutOfMemoryError,
                )
        except MeterError as error:
            self._note(str(error))
            return []
        scored = self._scored(subject)
        tried = [
            {"inferences_per_call": one.inferences_per_call, "energy_j": one.energy_j}
            for one in found.measurements
        ]
        return [
            {**_head(subject, "one"), **_figures(found.measurements[0]), **scored},
            {
                **_head(subject, "best"),
                **_figures(found.best),
                **scored,
                "search": {"batches": tried, "ended": found.ended},
            },
        ]

    def timed(self, subject: Subject, device: str) -> Row:
        """A row at batch 1 whose joules nobody counted."""
        self.say(f"{_name(subject)}: seconds alone")
        with subject.setting():
            latency = timed(subject.work(self.networks.images, 1), self.seconds_without)
        return {
            **_head(subject, "one"),
            "device": device,
            "inferences_per_call": 1,
            "energy_kind": None,
            "energy_j": None,
            "latency_kind": "measured",
            "latency_s": latency,
            "assumptions": ["joules are not counted on this machine"],
            **self._scored(subject),
        }

    def _scored(self, subject: Subject) -> Row:
        images = self.networks.images
        correct = images.correct(subject.predictions(images))
        return {
            "correct": correct,
            "images": len(images.values),
            "accuracy": None if correct is None else correct / len(images.values),
        }

    def _meter(self, make: Callable[[], EnergyMeter]) -> EnergyMeter | None:
        try:
            return make()
        except MeterError as error:
            self._note(str(error))
            return None

    def _note(self, line: str) -> None:
        self.say(line)
        self.notes.append(line)


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as lines of text."""
    cells = [
        ("network", "in", "by", "on", "batch", "joules an inference", "seconds a call", "right")
    ]
    for row in rows:
        accuracy = row.get("accuracy")
        cells.append(
            (
                row["workload"],
                row["precision"],
                row["runtime"] or "-",
                row["processor"] or row["device"] or "-",
                str(row["inferences_per_call"] or "-"),
                _told(row["energy_j"], row["energy_kind"]),
                _told(row["latency_s"], row["latency_kind"]),
                "-" if accuracy is None else f"{accuracy:.2%}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]


def _told(value: float | None, kind: str | None) -> str:
    return "-" if value is None else f"{value:.4g} {kind}"


def _name(subject: Subject) -> str:
    return f"{subject.workload} in {subject.precision} by {subject.runtime} on {subject.processor}"


def _head(subject: Subject, batch: str) -> Row:
    return {
        "workload": subject.workload,
        "precision": subject.precision,
        "runtime": subject.runtime,
        "processor": subject.processor,
        "batch": batch,
        "num_steps": subject.num_steps,
    }


def _figures(found: Measurement) -> Row:
    return {
        "device": found.device,
        "inferences_per_call": found.inferences_per_call,
        "energy_kind": "measured",
        "energy_j": found.energy_j,
        "low": found.low,
        "high": found.high,
        "latency_kind": "measured",
        "latency_s": found.latency_s,
        "idle_power_w": found.idle_power_w,
        "idle_before_w": found.idle_before_w,
        "idle_after_w": found.idle_after_w,
        "calls": found.calls,
        "elapsed_s": found.elapsed_s,
        "drawn_j": found.drawn_j,
        "counter": found.counter,
        "counter_interval_s": found.interval_s,
        "state": dict(found.state),
        "assumptions": list(found.assumptions),
    }


def _modelled(found: gpu.GpuReference) -> Row:
    told = found.to_json()
    kind = told.pop("kind")
    return {
        "workload": "ann",
        "precision": "float16",
        "runtime": None,
        "processor": None,
        "batch": "one",
        "num_steps": None,
        "energy_kind": kind,
        "latency_kind": kind,
        **told,
    }


def _bound(macs: int) -> Row:
    """Joules of int8's multiply-accumulates alone: less than any processor takes."""
    mac = FORMATS["int8"]["MAC"]
    return {
        "workload": "ann, operations alone",
        "precision": "int8",
        "runtime": None,
        "processor": None,
        "batch": None,
        "num_steps": None,
        "device": None,
        "inferences_per_call": None,
        "energy_kind": "modelled",
        "energy_j": macs * mac.value,
        "low": macs * mac.value,
        "high": None,
        "latency_kind": None,
        "latency_s": None,
        "assumptions": [
            f"modelled, not measured: {macs} MACs, those on padding too, at "
            f"{mac.value * 1e12:.2g} pJ ({mac.source})",
            "operations alone, a bound: memory, control, leakage and the host are left out, which "
            "in processors take far more",
        ],
    }


def _saying_so(make: Callable[[int], Callable[[], None]], batch: int) -> Callable[[], None]:
    """Work of a batch that ends in OutOfMemoryError where memory does."""
    run = _in_memory(partial(make, batch))

    def checked() -> None:
        _in_memory(run)

    return checked


def _in_memory(act: Callable[[], Any]) -> Any:
    try:
        return act()
    except (MemoryError, torch.OutOfMemoryError) as error:
        torch.cuda.empty_cache()
        raise OutOfMemoryError from error
    except RuntimeError as error:  # torch's allocator for CPUs has no kind of its own
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise OutOfMemoryError from error
        raise
