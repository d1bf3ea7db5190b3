"""A bench of conventional hardware on a made meter, for tests."""

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from gpu.reference_rows import Bench
from gpu.reference_subjects import Networks, Subject, on_cpu
from spiking import chain, images

from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import Images
from spikeship.hw_models.meters.measuring import Timing
from spikeship.training.conversion.convert import convert
from spikeship.training.fit.classifier import evaluate_ann


def networks() -> Networks:
    network = chain()
    snn = convert(network, images(), num_steps=12)
    labels = evaluate_ann(network, images(40)).numpy()
    held_out = Images(images(40), labels, torch.arange(40), {"name": "noise"})
    return Networks(Ann(network, {}, {}), snn, held_out, images(seed=3), "chain")


@cache
def subjects() -> tuple[Subject, ...]:
    return tuple(on_cpu(networks(), 1, print))


class Meter:
    """A processor of 100 W over an idle 20 W; a call takes a second and what its batch takes."""

    device, counter = "A CPU", "a counter"

    def __init__(self, each_s: float = 0.25) -> None:
        self.each_s, self.batch, self.busy_w = each_s, 1, 120.0
        self.now = self.joules = 0.0

    def energy_j(self) -> float:
        return self.joules

    def synchronize(self) -> None:
        self._advance(1.0 + self.each_s * self.batch, self.busy_w)

    def _advance(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self.joules += seconds * watts

    def state(self) -> dict[str, Any]:
        return {"packages": ["package-0"]}

    def timing(self) -> Timing:
        return Timing(clock=lambda: self.now, sleep=lambda seconds: self._advance(seconds, 20.0))


def watched(subject: Subject, meter: Meter, memory: int = 1 << 30) -> Subject:
    """A subject that really runs, tells the meter its batch, and has so much memory."""

    def prepare(places: torch.Tensor) -> torch.Tensor:
        return subject.prepare(places)

    def classify(given: torch.Tensor) -> torch.Tensor:
        meter.batch = len(given)
        if len(given) > memory and len(given) != 40:  # accuracy's 40 images come in one go
            raise torch.OutOfMemoryError("CUDA out of memory")
        return subject.classify(given)

    return replace(subject, prepare=prepare, classify=classify)


def bench(meter: Meter) -> Bench:
    return Bench(networks(), meter.timing(), 0.01, lambda line: None)
