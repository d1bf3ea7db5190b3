"""What would remove the misses of the network without branches: a busier first layer."""

from collections.abc import Sequence
from typing import NamedTuple

from validation.fit import IDLE_RISE_W, Case, Fit, calibrate, chip_cost, corrected
from validation.patterns import EVEN, FIRST, PATH


class FirstLayer(NamedTuple):
    """Spikes a neuron and step of the first layer at which a row would be met.

    Attributes:
        row: name of the row. by_energy, by_time: by its corrected energy, and by its time.
        branches_by_energy, branches_by_time: the branches' mean rate that this leaves.
    """

    row: str
    by_energy: float
    by_time: float
    branches_by_energy: float
    branches_by_time: float


def first_layer(cases: Sequence[Case]) -> FirstLayer:
    """Ask the row without branches, by constants fitted to the others.

    Everything is linear between the even pattern and that in which only the first layer fires, but
    for the busiest core's time, for which this is a first guess.
    """
    (out,) = (c for c in cases if all(layer.depth == 1 for layer in c.row.workload.layers))
    found = calibrate([case for case in cases if case is not out])
    even, first = (
        next(fit for fit in found.fits if fit.pattern == pattern) for pattern in (EVEN, FIRST)
    )
    measured = corrected(out.row, IDLE_RISE_W), out.row.measured.time_s or 0.0
    shares = [
        (value - low) / (high - low)
        for value, low, high in zip(measured, _said(out, even), _said(out, first), strict=True)
    ]
    rates = [_mixed(share, even.rate.value, first.rate.value * PATH) for share in shares]
    others = [_mixed(share, even.rate.value, 0.0) for share in shares]
    return FirstLayer(out.row.name, *rates, *others)


def _said(case: Case, fit: Fit) -> tuple[float, float]:
    """Corrected joules and seconds of a row by one pattern's fit."""
    chip = chip_cost(case, fit.rate, fit.pattern)
    return (
        fit.host_energy_j.value + chip.dynamic_j.value,
        fit.host_time_s.value + chip.time_s.value,
    )


def _mixed(share: float, none: float, full: float) -> float:
    return none + share * (full - none)
