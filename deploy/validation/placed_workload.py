"""A workload on its chip, through the same ``place`` and ``estimate`` that users call."""

from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache

from spikeship.deploy.validation.activity import count, rates_of
from spikeship.deploy.validation.fields import RowError
from spikeship.deploy.validation.firing_patterns import EVEN, PATH, Pattern
from spikeship.deploy.validation.fit import Case, ChipCost, Span
from spikeship.deploy.validation.network import Network, build
from spikeship.deploy.validation.rows import Row, Workload
from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec, Level
from spikeship.hw_models.cost.core_energy import core_energy
from spikeship.hw_models.cost.core_work import CoreWork
from spikeship.hw_models.cost.step_time import step_times
from spikeship.hw_models.estimate import Estimate, estimate
from spikeship.hw_models.placement.placement import Placement, PlacementError
from spikeship.hw_models.placer.place import place

LEVELS: tuple[Level, ...] = ("value", "low", "high")
MOST_CORE_STEPS = 10_000_000  # what a small machine counts


class PlacedWorkload:
    """A workload with its network and cores, both made once.

    Every event of every core grows in proportion to the fitted rate, but for the updates, which do
    not depend on it. So two estimates of a pattern hold all that a fit asks for.

    Args:
        workload: the description.

    Raises:
        RowError: no network of it can be made.
    """

    def __init__(self, workload: Workload) -> None:
        self.workload = workload
        self.spec: ChipSpec = chips.get(workload.chip)
        self.network: Network = build(workload)
        self._costs: dict[tuple[float, str], ChipCost] = {}
        self._full: dict[str, CoreWork] = {}

    @cached_property
    def placement(self) -> Placement:
        """On the cores that are known, and the fewest for the rest; as ``place`` does without any.

        Raises:
            RowError: it does not fit, or not on the cores given.
        """
        try:
            found = place(self.network.graph, self.spec, layer_cores=self.network.cores or None)
        except PlacementError as error:
            raise RowError(str(error)) from None
        if not found.fits:
            raise RowError("; ".join(found.reasons))
        size = found.cores * self.network.graph.chip_steps(self.workload.steps)
        if size > MOST_CORE_STEPS:
            raise RowError(f"{size:,} steps of its {found.cores} cores; give fewer steps or layers")
        return found

    def estimate(self, rate: float, pattern: Pattern = EVEN) -> Estimate:
        """The estimate at a fitted rate."""
        rates = rates_of(self.workload, self.network, rate, pattern)
        counts = count(self.network, rates, self.workload.steps)
        where, graph = self.placement, self.network.graph
        return estimate(graph, counts, self.spec, placement=where, sensitivity=False)

    def __call__(self, rate: float, pattern: Pattern = EVEN) -> ChipCost:
        """What the estimate says of the chip; remembered."""
        key = (rate, pattern.name)
        if key not in self._costs:
            self._costs[key] = self._cost(self._work(rate, pattern))
        return self._costs[key]

    @cached_property
    def _silent(self) -> CoreWork:
        return self.estimate(0.0).work

    def _work(self, rate: float, pattern: Pattern) -> CoreWork:
        """Work at this rate: between that of none, and that of the highest one."""
        if pattern.name not in self._full:
            self._full[pattern.name] = self.estimate(1 / PATH, pattern).work
        full, silent, share = self._full[pattern.name], self._silent, rate * PATH
        names = [field.name for field in fields(CoreWork) if field.name != "cores"]
        mixed = {
            name: getattr(silent, name) + share * (getattr(full, name) - getattr(silent, name))
            for name in names
        }
        return replace(silent, **mixed)

    def _cost(self, work: CoreWork) -> ChipCost:
        timed = work.pipelined(self.workload.steps) if self.workload.pipelined else work
        energies = {level: core_energy(work, self.spec, level) for level in LEVELS}
        power = self.spec.static_power
        return ChipCost(
            time_s=Span(*(step_times(timed, self.spec, level).total for level in LEVELS)),
            dynamic_j=Span(
                *(sum(float(p.sum()) for p in energies[level].values()) for level in LEVELS)
            ),
            static_w=Span(power.value, power.low, power.high) * self.placement.chips,
            chips=self.placement.chips,
        )


@lru_cache(maxsize=32)
def _placed(workload: Workload) -> PlacedWorkload:
    placed = PlacedWorkload(workload)
    _ = placed.placement
    return placed


@dataclass(frozen=True, eq=False)
class PlacedCase(Case):
    """A measured row, and its network on its chip's cores."""

    chip: PlacedWorkload


def case_of(row: Row) -> PlacedCase:
    """A row and its chip, which equal workloads share.

    Raises:
        RowError: no network of it can be made, or none that fits, with the row's name.
    """
    try:
        return PlacedCase(row, _placed(row.workload))
    except RowError as error:
        raise RowError(f"row {row.name!r}: {error}") from None
