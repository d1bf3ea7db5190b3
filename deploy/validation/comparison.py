"""Measured beside estimated, quantity by quantity, and what a calibrated row must keep."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from spikeship.deploy.validation.fit import Calibration, Case, Prediction, Span, corrected, predict

ENERGY_LIMIT, TIME_LIMIT = 0.15, 0.10  # largest error of a calibrated row that passes
TIME = "time"
CORRECTED = "dynamic energy after the correction"
TOTAL = "dynamic energy"
LIMITS = {TIME: TIME_LIMIT, CORRECTED: ENERGY_LIMIT}


@dataclass(frozen=True)
class Comparison:
    """One measured quantity of a row, per inference, in seconds or joules.

    Attributes:
        row: name of the row.
        quantity: what was measured.
        measured: mean of the runs.
        estimate: the estimate of it.
        runs: how many.
        spread: standard deviation over them; None where the row says none.
    """

    row: str
    quantity: str
    measured: float
    estimate: Span
    runs: int = 1
    spread: float | None = None

    @property
    def error(self) -> float:
        """Fraction by which the estimate lies above what was measured."""
        return self.estimate.value / self.measured - 1

    @property
    def inside(self) -> bool:
        """Whether the measured value lies in the estimate's range."""
        return self.estimate.holds(self.measured)

    def miss(self) -> float:
        """Fraction of the measured value by which it lies outside the range."""
        beyond = max(self.estimate.low - self.measured, self.measured - self.estimate.high, 0.0)
        return beyond / self.measured

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain numbers."""
        return {
            "row": self.row,
            "quantity": self.quantity,
            "measured": self.measured,
            "runs": self.runs,
            "spread": self.spread,
            "estimate": self.estimate.value,
            "low": self.estimate.low,
            "high": self.estimate.high,
            "error": self.error,
            "inside": self.inside,
        }


def cold_row(case: Case, said: Prediction, correction_w: float) -> list[Comparison]:
    """Time, corrected and total dynamic energy of a row measured against a cold idle."""
    measured, name = case.row.measured, case.row.name
    assert measured.time_s is not None
    time_s, joules = measured.time_s, measured.energy_j["dynamic"]
    of_time, of_energy = measured.time_spread_s, measured.energy_spread_j
    less = corrected(case.row, correction_w)
    return [
        Comparison(name, TIME, time_s, said.time_s, measured.runs, of_time),
        Comparison(name, CORRECTED, less, said.corrected_j, measured.runs, of_energy),
        Comparison(name, TOTAL, joules, said.total_j, measured.runs, of_energy),
    ]


def verdict(comparison: Comparison) -> str | None:
    """Say by how much a calibrated row misses what it must keep; None where it keeps it."""
    if comparison.quantity not in LIMITS:
        return None
    limit = LIMITS[comparison.quantity]
    found = []
    if abs(comparison.error) > limit:
        found.append(f"error {comparison.error:+.1%} beyond {limit:.0%}")
    if not comparison.inside:
        found.append(f"measured value outside the range by {comparison.miss():.1%} of it")
    if not found:
        return None
    return f"{comparison.row}, {comparison.quantity}: {', '.join(found)}"


def verdicts(comparisons: Iterable[Comparison]) -> list[str]:
    """All misses, a line each."""
    return [line for one in comparisons if (line := verdict(one)) is not None]


@dataclass(frozen=True)
class Tally:
    """How many of the calibrated rows keep what they must.

    Attributes:
        rows: how many there are.
        close: within the limits of error.
        inside: within the range over all firing patterns.
        inside_even: within the range of the even pattern alone.
        patterns: how many there are.
    """

    rows: int
    close: int
    inside: int
    inside_even: int
    patterns: int

    def line(self) -> str:
        """Everything in a sentence."""
        return (
            f"within {ENERGY_LIMIT:.0%} (energy) and {TIME_LIMIT:.0%} (time): {self.close} of "
            f"{self.rows} calibrated rows; within its range over {self.patterns} firing patterns: "
            f"{self.inside} of {self.rows}; by even firing alone: {self.inside_even} of {self.rows}"
        )


def tally(found: Sequence[Comparison], even: Sequence[Comparison], patterns: int) -> Tally:
    """Count the rows that keep their limits, in every quantity that has one."""
    held = [one for one in found if one.quantity in LIMITS]
    names = {one.row for one in held}
    far = {one.row for one in held if abs(one.error) > LIMITS[one.quantity]}
    out = {one.row for one in held if not one.inside}
    out_even = {one.row for one in even if one.quantity in LIMITS and not one.inside}
    return Tally(
        len(names),
        len(names - far),
        len(names - out),
        len(names - out_even),
        patterns,
    )


def keyword(case: Case, found: Calibration) -> Sequence[Comparison]:
    """A cold row that was not calibrated on, predicted from those that were."""
    return cold_row(case, predict(case, found), found.correction_w)
