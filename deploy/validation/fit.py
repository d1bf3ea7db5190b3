"""The three numbers that no paper gives, from measured rows; and what each row is without itself.

For the calibrated rows, with r the rate, t measured seconds and E measured dynamic joules::

    t                    = host seconds + chip seconds(r)
    E - correction * t   = host joules + chip joules(r)

Chip joules are linear in r and chip constants stay as published, so the joules' slope over the rows
gives r and their intercept the host's joules (least squares); the host's seconds are then the mean
of what the chip leaves over. This is done for every firing pattern by itself: the even one gives
the figures, all of them the ranges.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from spikeship.deploy.validation.firing_patterns import PATH, PATTERNS, Pattern
from spikeship.deploy.validation.rows import Row
from spikeship.hw_models.chips.host import LOIHI1_IDLE_RISE

IDLE_RISE_W = LOIHI1_IDLE_RISE.value


@dataclass(frozen=True)
class Span:
    """A figure with its range."""

    value: float
    low: float
    high: float

    def __add__(self, other: "Span") -> "Span":
        return Span(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, factor: "float | Span") -> "Span":
        by = factor if isinstance(factor, Span) else Span(factor, factor, factor)
        return Span(self.value * by.value, self.low * by.low, self.high * by.high)

    def joined(self, *others: "Span") -> "Span":
        """This figure, and a range that holds the others' too."""
        every = (self, *others)
        return Span(self.value, min(s.low for s in every), max(s.high for s in every))

    def holds(self, value: float) -> bool:
        """Whether a value lies in the range."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class ChipCost:
    """What the estimate says of the chip.

    Attributes:
        time_s, dynamic_j: per inference.
        static_w: watts of all chips, of a board that has run.
        chips: how many.
    """

    time_s: Span
    dynamic_j: Span
    static_w: Span
    chips: int = 1


class Chip(Protocol):
    """One workload on its chip, as the estimate sees it."""

    def __call__(self, rate: float, pattern: Pattern = ...) -> ChipCost:
        """Cost at a fitted rate and firing pattern."""


@dataclass(frozen=True, eq=False)
class Case:
    """A measured row and its chip."""

    row: Row
    chip: Chip


@dataclass(frozen=True)
class Fit:
    """What was fitted with one firing pattern.

    Attributes:
        pattern: the pattern.
        rate: spikes a neuron and step; the range are the refits without one of the rows.
        host_time_s, host_energy_j: per inference; the range is what single rows say of it.
        off_j: root mean square by which the rows' corrected energies differ from the fit.
    """

    pattern: Pattern
    rate: Span
    host_time_s: Span
    host_energy_j: Span
    off_j: float


@dataclass(frozen=True)
class Calibration:
    """What was fitted to some rows.

    Attributes:
        fits: by pattern, the even one first.
        correction_w: watts of idle taken off the dynamic energy.
    """

    fits: tuple[Fit, ...]
    correction_w: float

    @property
    def rate(self) -> Span:
        """Spikes a neuron and step where all layers are alike."""
        return self.fits[0].rate

    @property
    def host_time_s(self) -> Span:
        """Of the even pattern; the range is that of all."""
        return _around([fit.host_time_s for fit in self.fits])

    @property
    def host_energy_j(self) -> Span:
        """Of the even pattern; the range is that of all."""
        return _around([fit.host_energy_j for fit in self.fits])


@dataclass(frozen=True)
class Prediction:
    """A row's time and energy an inference, by constants fitted to the other rows.

    Attributes:
        time_s: with the host.
        corrected_j: dynamic joules, host included, after the correction.
        total_j: the same with the rise of idle put back, over the estimated time; its range
            holds both readings of the rise.
    """

    time_s: Span
    corrected_j: Span
    total_j: Span


def rise(value: float = IDLE_RISE_W) -> Span:
    """Watts by which idle rises with a first run: this figure, the range of all readings."""
    low, high = LOIHI1_IDLE_RISE.low, LOIHI1_IDLE_RISE.high
    return Span(value, min(value, low), max(value, high))


def corrected(row: Row, correction_w: float) -> float:
    """Measured dynamic joules an inference, less the rise of idle."""
    return row.measured.energy_j["dynamic"] - correction_w * _seconds(row)


def calibrate(
    cases: Sequence[Case],
    correction_w: float = IDLE_RISE_W,
    patterns: Sequence[Pattern] = PATTERNS,
) -> Calibration:
    """Fit rate and host constants to at least three rows, with every pattern."""
    return Calibration(
        tuple(_fit(cases, pattern, correction_w) for pattern in patterns), correction_w
    )


def predict(case: Case, found: Calibration) -> Prediction:
    """What a row takes by constants fitted elsewhere.

    With each pattern the ends of the chip's constants, of the rate and of the host's constants are
    added up; the range holds all patterns.
    """
    times, energies = [], []
    for fit in found.fits:
        chip = chip_cost(case, fit.rate, fit.pattern)
        times.append(fit.host_time_s + chip.time_s)
        energies.append(fit.host_energy_j + chip.dynamic_j)
    time, energy = _around(times), _around(energies)
    return Prediction(time, energy, energy + time * rise(found.correction_w))


def leave_one_out(
    cases: Sequence[Case],
    correction_w: float = IDLE_RISE_W,
    patterns: Sequence[Pattern] = PATTERNS,
) -> list[tuple[Case, Prediction]]:
    """Each row as fitted to all the others alone says."""
    found = []
    for out in cases:
        others = [case for case in cases if case is not out]
        found.append((out, predict(out, calibrate(others, correction_w, patterns))))
    return found


def chip_cost(case: Case, rate: Span, pattern: Pattern = PATTERNS[0]) -> ChipCost:
    """The chip's part, its range over the ends of its constants and of the rate together."""
    value, low, high = (case.chip(each, pattern) for each in (rate.value, rate.low, rate.high))
    return ChipCost(
        Span(value.time_s.value, low.time_s.low, high.time_s.high),
        Span(value.dynamic_j.value, low.dynamic_j.low, high.dynamic_j.high),
        value.static_w,
        value.chips,
    )


def _fit(cases: Sequence[Case], pattern: Pattern, correction_w: float) -> Fit:
    rate, host_j = _line(cases, pattern, correction_w)
    refits = [
        _line([case for case in cases if case is not out], pattern, correction_w)[0]
        for out in cases
    ]
    joules, seconds = [], []
    for case in cases:
        cost = case.chip(rate, pattern)
        joules.append(corrected(case.row, correction_w) - cost.dynamic_j.value)
        seconds.append(_seconds(case.row) - cost.time_s.value)
    return Fit(
        pattern,
        rate=Span(rate, min(rate, *refits), max(rate, *refits)),
        host_time_s=Span(float(np.mean(seconds)), min(seconds), max(seconds)),
        host_energy_j=Span(host_j, min(joules), max(joules)),
        off_j=float(np.sqrt(np.mean(np.square(np.array(joules) - host_j)))),
    )


def _line(cases: Sequence[Case], pattern: Pattern, correction_w: float) -> tuple[float, float]:
    """Rate and host joules: least squares over the rows."""
    silent, full = (
        np.array([case.chip(rate, pattern).dynamic_j.value for case in cases])
        for rate in (0.0, 1 / PATH)
    )
    left = np.array([corrected(case.row, correction_w) for case in cases]) - silent
    steps = np.stack([np.ones(len(cases)), full - silent], axis=1)
    scale = steps.max(axis=0)
    (host_j, share), *_ = np.linalg.lstsq(steps / scale, left, rcond=None)
    return float(share / scale[1] / PATH), float(host_j)


def _seconds(row: Row) -> float:
    assert row.measured.time_s is not None
    return row.measured.time_s


def _around(spans: Sequence[Span]) -> Span:
    """The first one's figure, and a range that holds all of them."""
    return spans[0].joined(*spans[1:])
