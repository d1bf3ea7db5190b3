"""Time of each chip step: the busiest core or the busiest link, and then the barrier.

    t_core = sum of a core's events times their times
    t_link = messages over a link * time of a hop
    t_step = max(max over cores of t_core, max over links of t_link) + t_barrier

Work is the mean over images, so a step takes as long as the core that is busiest on average; the
mean of the images' own longest cores is longer.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.chips.spec import ChipSpec, Level
from spikeship.hw_models.cost.core_work import CoreWork
from spikeship.hw_models.cost.regions import Steps
from spikeship.hw_models.placement.placement import Core

StepLimit = Literal["compute", "link", "barrier"]
LIMITS: tuple[StepLimit, ...] = ("compute", "link", "barrier")


@dataclass(frozen=True, eq=False)
class StepTimes:
    """How long each chip step takes, in seconds, and why.

    Attributes:
        compute: every core's own time, (cores, chip_steps).
        link: of the busiest link, (chip_steps,).
        barrier: at the end of each step.
    """

    compute: Steps
    link: NDArray[np.float64]
    barrier: float

    @cached_property
    def busiest(self) -> NDArray[np.int64]:
        """The core that takes longest in each step, (chip_steps,)."""
        return np.asarray(self.compute.argmax(axis=0), dtype=np.int64)

    @cached_property
    def seconds(self) -> NDArray[np.float64]:
        """Of each step, (chip_steps,)."""
        return np.asarray(np.maximum(self.compute.max(axis=0), self.link) + self.barrier)

    @property
    def total(self) -> float:
        """Of all steps."""
        return float(self.seconds.sum())

    @cached_property
    def limits(self) -> NDArray[np.int64]:
        """What each step takes longest for, as an index of ``LIMITS``, (chip_steps,)."""
        barrier = np.full_like(self.link, self.barrier)
        return np.asarray(np.stack([self.compute.max(axis=0), self.link, barrier]).argmax(axis=0))


@dataclass(frozen=True)
class Bottleneck:
    """What decides the time of most of a sample.

    Attributes:
        limit: what the steps that it decides take longest for.
        steps: chip steps by limit.
        core: index of the core that is the busiest for the longest time, and which it is.
        layer_steps: chip steps in which each layer has the busiest core.
        share: of all steps' time, that of the steps with this limit.
    """

    limit: StepLimit
    steps: dict[StepLimit, int]
    index: int
    core: Core
    layer_steps: dict[str, int]
    share: float


def step_times(work: CoreWork, chip: ChipSpec, level: Level = "value") -> StepTimes:
    """Time every step of some work on a chip, at one end of its constants' ranges or between."""
    cost = chip.time
    parts = (
        (cost.synop_conv, work.synops_conv),
        (cost.synop_dense, work.synops_dense),
        (cost.synop_sparse, work.synops_sparse),
        (cost.neuron_update, work.updates),
        (cost.spike_out, work.spikes),
        (cost.message_out, work.messages_out),
        (cost.message_in, work.messages_in),
    )
    compute = np.zeros_like(work.updates)
    for constant, events in parts:
        compute += constant.at(level) * events
    link = np.maximum(
        work.links_x.max(axis=0) * cost.hop_x.at(level),
        work.links_y.max(axis=0) * cost.hop_y.at(level),
    )
    return StepTimes(compute, link, chip.barrier(work.tiles).at(level))


def bottleneck(work: CoreWork, times: StepTimes) -> Bottleneck:
    """Find what decides the time: the limit, and the core, of the largest share of it."""
    by_limit = np.bincount(times.limits, weights=times.seconds, minlength=len(LIMITS))
    steps = np.bincount(times.limits, minlength=len(LIMITS))
    busy = times.compute.max(axis=0)
    index = int(np.bincount(times.busiest, weights=busy, minlength=len(work.cores)).argmax())
    layers: dict[str, int] = {}
    for core in times.busiest:
        name = work.cores[core].layer
        layers[name] = layers.get(name, 0) + 1
    most = int(by_limit.argmax())
    return Bottleneck(
        limit=LIMITS[most],
        steps=dict(zip(LIMITS, map(int, steps), strict=True)),
        index=index,
        core=work.cores[index],
        layer_steps=layers,
        share=float(by_limit[most] / by_limit.sum()),
    )
