"""Measured beside estimated, quantity by quantity."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from validation.fit import Calibration, Case, Prediction, Span, chip_cost, corrected, predict

ENERGY_LIMIT, TIME_LIMIT = 0.15, 0.10  # largest error of a calibrated row that passes
TIME = "time"
CORRECTED = "dynamic energy after the correction"
TOTAL = "dynamic energy"
HOST_CHIP = "loihi1"  # whose host was calibrated


@dataclass(frozen=True)
class Comparison:
    """One measured quantity of a row, per inference, in seconds or joules."""

    row: str
    quantity: str
    measured: float
    estimate: Span

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
            "estimate": self.estimate.value,
            "low": self.estimate.low,
            "high": self.estimate.high,
            "error": self.error,
            "inside": self.inside,
        }


def cold_row(case: Case, said: Prediction, correction_w: float) -> list[Comparison]:
    """Time, corrected and total dynamic energy of a row measured against a cold idle."""
    measured = case.row.measured
    assert measured.time_s is not None
    return [
        Comparison(case.row.name, TIME, measured.time_s, said.time_s),
        Comparison(case.row.name, CORRECTED, corrected(case.row, correction_w), said.corrected_j),
        Comparison(case.row.name, TOTAL, measured.energy_j["dynamic"], said.total_j),
    ]


def own_row(case: Case, found: Calibration) -> tuple[list[Comparison], str]:
    """Every part that was measured of a row, and what its estimate says of the host."""
    row, measured = case.row, case.row.measured
    chip = chip_cost(case, found.rate)
    host_s, host_j, note = _host(case, found)
    time = host_s + chip.time_s
    dynamic = host_j + chip.dynamic_j
    if measured.cold:
        dynamic = dynamic + time * found.correction_w
    pairs = [
        (TIME, measured.time_s, time),
        ("time, chip", measured.chip_time_s, chip.time_s),
        (TOTAL, measured.energy_j.get("dynamic"), dynamic),
        ("dynamic energy, chip", measured.energy_j.get("chip"), chip.dynamic_j),
        ("static energy", measured.energy_j.get("static"), _over(chip.static_w, time)),
    ]
    return [Comparison(row.name, what, value, said) for what, value, said in pairs if value], note


def _over(power: Span, time: Span) -> Span:
    return Span(power.value * time.value, power.low * time.low, power.high * time.high)


def _host(case: Case, found: Calibration) -> tuple[Span, Span, str]:
    measured = case.row.measured
    known_s, known_j = measured.host_time_s, measured.energy_j.get("host")
    calibrated = case.row.workload.chip == HOST_CHIP
    nothing = Span(0.0, 0.0, 0.0)
    host_s = found.host_time_s if calibrated else nothing
    host_j = found.host_energy_j if calibrated else nothing
    if known_s is not None:
        host_s = Span(known_s, known_s, known_s)
    if known_j is not None:
        host_j = Span(known_j, known_j, known_j)
    said = "the calibrated constants" if calibrated else "nothing: none was calibrated"
    parts = [
        f"{what}: {'as the row gives it' if known is not None else said}"
        for what, known in (("host's time", known_s), ("host's energy", known_j))
    ]
    return host_s, host_j, "; ".join(parts)


def verdict(comparison: Comparison) -> str | None:
    """Say by how much a calibrated row misses what it must keep; None where it keeps it."""
    limits = {TIME: TIME_LIMIT, CORRECTED: ENERGY_LIMIT}
    if comparison.quantity not in limits:
        return None
    limit = limits[comparison.quantity]
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


def keyword(case: Case, found: Calibration) -> Sequence[Comparison]:
    """A cold row that was not calibrated on, predicted from those that were."""
    return cold_row(case, predict(case, found), found.correction_w)
