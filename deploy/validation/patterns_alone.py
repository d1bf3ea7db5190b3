"""The network without branches by each firing pattern alone: which of them holds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikeship.deploy.validation.comparison import CORRECTED, TIME, Comparison, cold_row
from spikeship.deploy.validation.firing_patterns import EVEN, PATH, PATTERNS, SHARES, TO_FIRST
from spikeship.deploy.validation.fit import IDLE_RISE_W, Case, calibrate, predict


@dataclass(frozen=True)
class Member:
    """One pattern's answer, fitted to the other rows.

    Attributes:
        pattern: its name.
        first, branches: spikes a neuron and step of the first layer, and of a branch's in the mean.
        time, energy: of the row, energy after the correction.
    """

    pattern: str
    first: float
    branches: float
    time: Comparison
    energy: Comparison

    @property
    def holds(self) -> bool:
        """Whether the row lies in this pattern's range of time and in that of energy."""
        return self.time.inside and self.energy.inside

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain numbers."""
        return {
            "pattern": self.pattern,
            "first": self.first,
            "branches": self.branches,
            "holds": self.holds,
            "time": self.time.to_json(),
            "energy": self.energy.to_json(),
        }


def members(cases: Sequence[Case], correction_w: float = IDLE_RISE_W) -> list[Member]:
    """Ask every pattern for the row without branches, by constants fitted to the others."""
    (out,) = (c for c in cases if all(layer.depth == 1 for layer in c.row.workload.layers))
    others = [case for case in cases if case is not out]
    found = []
    for pattern in PATTERNS:
        fitted = calibrate(others, correction_w, [pattern])
        said = cold_row(out, predict(out, fitted), correction_w)
        by = {one.quantity: one for one in said}
        rate = fitted.rate.value
        branch = sum(pattern.of("branch", place) for place in range(PATH - 1)) / (PATH - 1)
        found.append(
            Member(
                pattern.name,
                rate * pattern.of("first", 0),
                rate * branch,
                by[TIME],
                by[CORRECTED],
            )
        )
    return found


def between(found: Sequence[Member]) -> tuple[float, float] | None:
    """Shares of a way's spikes in the first layer at which the row lies inside, in both.

    The ends of time and energy are taken along straight lines from one pattern to the next.
    None where there is no such share.
    """
    by = {each.pattern: each for each in found}
    chosen = [by[pattern.name] for pattern in (EVEN, *TO_FIRST)]
    known, fine = [0.0, *SHARES], np.linspace(0, 1, 1001)
    holds = np.ones(len(fine), dtype=bool)
    for what in ("time", "energy"):
        said: list[Comparison] = [getattr(each, what) for each in chosen]
        low = np.interp(fine, known, [one.estimate.low for one in said])
        high = np.interp(fine, known, [one.estimate.high for one in said])
        holds &= (low <= said[0].measured) & (said[0].measured <= high)
    shares = fine[holds]
    return (float(shares[0]), float(shares[-1])) if len(shares) else None
