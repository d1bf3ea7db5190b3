"""Rows of the reference on conventional hardware: joules, seconds and accuracy of each subject."""

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import torch

from gpu.reference_subjects import Networks, Subject, on_cpu, on_cuda
from spikeship.deploy.analysis.gpu_row import MODELLED_GPU, cuda_meter
from spikeship.hw_models.energy_models.horowitz import FORMATS
from spikeship.hw_models.errors import first_line
from spikeship.hw_models.meters import gpu
from spikeship.hw_models.meters.measuring import Measurement, Timing, best_batch, timed
from spikeship.hw_models.meters.meter import EnergyMeter, MeterError
from spikeship.hw_models.meters.rapl import POWERCAP, RaplMeter

Row = dict[str, Any]
Found = TypeVar("Found")
KINDS = ("measured", "modelled")  # a table each
HEADINGS = (
    *("network", "in", "by", "on", "batch"),
    *("joules an inference", "seconds a call", "right"),
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
        broken: whether some of it was stopped by an error that nobody foresaw.
    """

    networks: Networks
    timing: Timing
    seconds_without: float
    say: Callable[[str], None]
    notes: list[str] = field(default_factory=list)
    broken: bool = False

    def everything(self, processor: str, largest: int, threads: int) -> list[Row]:
        """All rows: CUDA's or the model's, the CPU's, and the bound of int8's operations.

        Everything is made before anything is measured, and what fails then costs its own rows
        alone: a note says which and why.

        Args:
            processor: name of the CPU.
            largest: batch not to go beyond on CUDA.
            threads: of the CPU.
        """
        macs = self.networks.ann.macs()
        cuda = self._meter(cuda_meter)
        rapl = self._meter(partial(RaplMeter, processor, POWERCAP))
        on_this = on_cpu(self.networks, threads, self._note)
        on_gpu = [] if cuda is None else on_cuda(self.networks, largest)
        rows: list[Row] = []
        for subject in on_gpu:
            rows += self._measured(subject, cuda)
        if not rows:
            rows.append(_modelled(gpu.model(macs, MODELLED_GPU)))
        for subject in on_this:
            counted = self._measured(subject, rapl)
            rows += counted or self._kept(
                _name(subject), partial(self.timed, subject, processor), []
            )
        return [*rows, _bound(self.networks.ann.macs(padding=False))]

    def _measured(self, subject: Subject, meter: EnergyMeter | None) -> list[Row]:
        """Rows of ``measured``; none where nothing counts."""
        if meter is None:
            return []
        return self._kept(_name(subject), partial(self.measured, subject, meter), [])

    def measured(self, subject: Subject, meter: EnergyMeter) -> list[Row]:
        """Rows at batch 1 and at the best batch.

        Raises:
            MeterError: the meter cannot tell, or not even one image fits in memory.
            Exception: whatever else one image ends with.
        """
        self.say(f"{_name(subject)}: {meter.counter}, batches of 1, 2, 4, …")
        images = self.networks.images
        with subject.setting():
            found = best_batch(
                lambda batch: _saying_so(partial(subject.work, images), batch),
                meter,
                self.timing,
                largest=subject.largest,
                out_of_memory=OutOfMemoryError,
            )
        if found.failure is not None:
            batch = 2 * found.measurements[-1].inferences_per_call
            self._failed(f"{_name(subject)}, a batch of {batch}", found.failure)
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

    def timed(self, subject: Subject, device: str) -> list[Row]:
        """A row at batch 1 whose joules nobody counted."""
        self.say(f"{_name(subject)}: seconds alone")
        make = partial(subject.work, self.networks.images)
        with subject.setting():
            latency = timed(_saying_so(make, 1), self.seconds_without)
        row = {
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
        return [row]

    def _scored(self, subject: Subject) -> Row:
        images = self.networks.images
        name = f"{_name(subject)}, accuracy"
        found = self._kept(name, lambda: _in_memory(partial(subject.predictions, images)), None)
        correct = None if found is None else images.correct(found)
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

    def _kept(self, name: str, act: Callable[[], Found], otherwise: Found) -> Found:
        """What ``act`` gives; where it fails a note, so that what was measured before it stays."""
        try:
            return act()
        except Exception as error:
            self._failed(name, error)
            return otherwise

    def _failed(self, name: str, error: Exception) -> None:
        if isinstance(error, MeterError | OutOfMemoryError):
            self._note(f"{name}: {error}")
        else:
            self.broken = True
            traceback.print_exception(error)
            self._note(f"{name}: {type(error).__name__}: {first_line(error)}")

    def _note(self, line: str) -> None:
        self.say(line)
        self.notes.append(line)


def table(rows: Sequence[Row]) -> list[str]:
    """The rows as lines of text: a table of what was measured, one of what is modelled."""
    lines: list[str] = []
    for kind in KINDS:
        of = [row for row in rows if kind in (row["energy_kind"], row["latency_kind"])]
        if of:
            lines += ["", f"{kind}:", *_aligned([HEADINGS, *(_cells(row, kind) for row in of)])]
    return lines


def _cells(row: Row, kind: str) -> tuple[str, ...]:
    """A line of the table of a kind; figures of another kind are not in it."""
    accuracy = row.get("accuracy")
    return (
        row["workload"],
        row["precision"],
        row["runtime"] or "-",
        row["processor"] or row["device"] or "-",
        str(row["inferences_per_call"] or "-"),
        f"{row['energy_j']:.4g}" if row["energy_kind"] == kind else "-",
        f"{row['latency_s']:.4g}" if row["latency_kind"] == kind else "-",
        "-" if accuracy is None else f"{accuracy:.2%}",
    )


def _aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


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
            f"modelled, not measured: {macs} MACs, none on padding, at "
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
        raise OutOfMemoryError(first_line(error)) from error
    except RuntimeError as error:  # torch's allocator for CPUs has no kind of its own
        if "not enough memory" in str(error) or "can't allocate memory" in str(error):
            raise OutOfMemoryError(first_line(error)) from error
        raise
