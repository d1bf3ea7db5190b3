"""A chip's energy at any firing rate, on one placement: the estimate's, without counting anew.

Every core's work is linear in its messages, so the work at two rates gives that at all others.
"""

from dataclasses import fields, replace

import numpy as np

from spikeship.deploy.counting import Counted
from spikeship.deploy.rates import scaled
from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import Level
from spikeship.hw_models.cost.core_energy import core_energy
from spikeship.hw_models.cost.core_work import CoreWork, core_work
from spikeship.hw_models.cost.step_time import step_times
from spikeship.hw_models.placement.placement import Placement


class RateEnergy:
    """Joules of an inference by the factor on its firing rate.

    Args:
        counted: the network as it ran.
        placement: its cores.
    """

    def __init__(self, counted: Counted, placement: Placement) -> None:
        self.chip = chips.get(placement.chip)
        self.used = placement.chips
        steps = counted.counts.num_steps
        self._silent, self._own = (
            core_work(counted.graph, placement, self.chip, scaled(counted, at).traffic, steps)
            for at in (0.0, 1.0)
        )
        shares = {
            layer.name: layer.effective / np.maximum(layer.connected, 1)
            for layer in counted.counts.layers
        }
        self._effective = np.array([shares[core.layer] for core in self._own.cores])

    def at(self, factor: float, level: Level) -> float:
        """Dynamic and static energy at one end of the constants' ranges or between, in joules."""
        work = self._work(factor)
        if level == "low":
            work = work.reading(self._effective)
        dynamic = sum(float(part.sum()) for part in core_energy(work, self.chip, level).values())
        seconds = step_times(work, self.chip, level).total
        return dynamic + self.chip.static_power.at(level) * self.used * seconds

    def _work(self, factor: float) -> CoreWork:
        mixed = {}
        for field in fields(CoreWork):
            if field.name != "cores":
                silent, own = (getattr(each, field.name) for each in (self._silent, self._own))
                mixed[field.name] = silent + factor * (own - silent)
        return replace(self._own, **mixed)
