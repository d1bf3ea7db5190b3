"""The fastest of some stages of a placement, by the time model that estimates use."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.cost.core_work import CoreWork, Kept, core_work
from spikeship.hw_models.cost.step_time import StepTimes, step_times
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.layer import Layer, Splits
from spikeship.hw_models.placement.placement import Placement, Rules
from spikeship.hw_models.placement.splits import Floats
from spikeship.hw_models.placer.lay_out import lay_out
from spikeship.hw_models.placer.spread import Stage

_MESSAGES = 100_000_000  # of all tries together: counts of a neuron in a step
_LEAST, _MOST = 6, 256  # tries


@dataclass(frozen=True, eq=False)
class Timer:
    """Times splits over all steps of a traffic, links and barriers included.

    Attributes:
        graph: the network.
        chip: the chip.
        rules: how the placement counts.
        layers: the graph's.
        traffic: what its neurons send.
        kept: of the splits that were timed before.
    """

    graph: FixedGraph
    chip: ChipSpec
    rules: Rules
    layers: Sequence[Layer]
    traffic: Traffic
    kept: Kept = field(default_factory=Kept)

    def seconds(self, splits: Splits) -> float:
        """Of all steps."""
        return self._timed(splits)[1].total

    def profile(self, splits: Splits) -> dict[str, Floats]:
        """Time of each layer's busiest core in every step."""
        work, times = self._timed(splits)
        return {name: times.compute[work.of_layer(name)].max(axis=0) for name in splits}

    def fastest(self, stages: Sequence[Stage]) -> Splits:
        """Splits of the fastest stage, of equal ones the first.

        All are timed where the traffic is small. Where it is large, half of the tries go evenly
        over all stages, and half over those around the best of these.
        """
        tries = self._tries(len(stages))
        chosen = np.linspace(0, len(stages) - 1, tries)
        known: dict[int, float] = {}
        best = 0
        for _ in range(2):
            for at in chosen.round().astype(int).tolist():
                if at not in known:
                    known[at] = self.seconds(stages[at].splits)
            best = min(sorted(known), key=lambda at: known[at])
            low = max((at for at in known if at < best), default=best)
            high = min((at for at in known if at > best), default=best)
            chosen = np.linspace(low, high, tries + 2)[1:-1]
        return stages[best].splits

    def _tries(self, stages: int) -> int:
        sums, _ = self.traffic.sums
        size = sum(messages.size for messages in sums.values())
        most = min(_MOST, max(_LEAST, _MESSAGES // max(1, size)))
        return stages if stages <= most else most // 2

    def _timed(self, splits: Splits) -> tuple[CoreWork, StepTimes]:
        cores = sum(split.cores for split in splits.values())
        placement = Placement(
            chip=self.chip.name,
            rules=self.rules,
            layers=lay_out(self.layers, splits, self.chip, dict.fromkeys(splits, "none")),
            chips=-(-cores // self.chip.cores_per_chip.value),
            misfits=(),
            assumptions=(),
        )
        sums, _ = self.traffic.sums
        steps = self.graph.steps_of(len(sums[self.graph.input.name]))
        work = core_work(self.graph, placement, self.chip, self.traffic, steps, kept=self.kept)
        return work, step_times(work, self.chip)
