"""The estimate beside measured chips: by how much it errs, and whether its range holds.

Each of the seven branch rows of Blouw et al. (2019) is estimated from constants fitted to the other
six. It misses where it errs by more than 15 % in dynamic energy after the correction of idle or
10 % in time, or lies outside its range. A user's own measured rows are compared as well, by
constants fitted to all seven: docs/validation.md describes their format.
"""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from spikeship.deploy.validation import assumed, conventional, tables
from spikeship.deploy.validation.comparison import (
    CORRECTED,
    Comparison,
    cold_row,
    keyword,
    tally,
    verdicts,
)
from spikeship.deploy.validation.firing_patterns import EVEN, PATTERNS, Pattern
from spikeship.deploy.validation.fit import IDLE_RISE_W, Calibration, Case, calibrate, leave_one_out
from spikeship.deploy.validation.own_rows import OwnRow, own_row
from spikeship.deploy.validation.patterns_alone import between, members
from spikeship.deploy.validation.placed_workload import case_of
from spikeship.deploy.validation.rows import Row, read_rows

BLOUW = Path(__file__).with_name("blouw.json")


def left_out(
    cases: Sequence[Case], correction_w: float, patterns: Sequence[Pattern] = PATTERNS
) -> list[Comparison]:
    """All quantities of every calibrated row, each without itself."""
    found = leave_one_out(cases, correction_w, patterns)
    return [one for case, said in found for one in cold_row(case, said, correction_w)]


def idle_rise(rows: Sequence[Row]) -> float:
    """Watts by which idle rises in the logs of these rows."""
    return fmean(row.measured.idle_rise_w for row in rows if row.measured.idle_rise_w is not None)


def compared(own: Sequence[Row]) -> tuple[dict[str, Any], list[str]]:
    """Compare everything there is, and a user's own rows.

    Returns:
        What is said, as a JSON object and as lines.

    Raises:
        RowError: no network can be made of a row, or none that fits its chip.
    """
    published = [case_of(row) for row in read_rows(BLOUW, shipped=True)]
    seven = [case for case in published if case.row.calibrate]
    others = [case for case in published if not case.row.calibrate]
    users = [case_of(row) for row in own]
    logged = idle_rise([case.row for case in seven])
    found, instead = calibrate(seven), calibrate(seven, logged)
    loo, loo_logged = left_out(seven, IDLE_RISE_W), left_out(seven, logged)
    misses, even = verdicts(loo), left_out(seven, IDLE_RISE_W, [EVEN])
    count = tally(loo, even, len(PATTERNS))
    alone, alone_logged = members(seven), members(seven, logged)
    foreign = [one for case in others for one in keyword(case, found)]
    devices, source = conventional.devices([case.row for case in others])
    said = [own_row(case, found.rate) for case in users]
    taken = [assumed.assumed(c.row, c.chip.network, found.rate) for c in [*published, *users]]
    lines = [
        *tables.comparisons("leave-one-out", loo),
        *tables.corrections(_pairs(loo, loo_logged), IDLE_RISE_W, logged),
        *tables.even_alone(verdicts(even)),
        *tables.members(alone, IDLE_RISE_W),
        *tables.members(alone_logged, logged),
        *tables.calibration(found),
        *tables.calibration(instead),
        *tables.shipped(found, instead),
        *tables.comparisons("predicted from the seven", foreign),
        *(f"{case.row.name}: {case.row.note}" for case in others),
        "",
        *conventional.listed(devices, source, others[0].row),
        *assumed.listed(taken),
        *chain.from_iterable(_own_lines(each) for each in said),
        *misses,
        count.line(),
    ]
    data = {
        "within": not misses,
        "misses": misses,
        "tally": asdict(count),
        "leave_one_out": [one.to_json() for one in loo],
        "leave_one_out_logged_idle": [one.to_json() for one in loo_logged],
        "misses_of_the_even_pattern_alone": verdicts(even),
        "patterns_alone": [each.to_json() for each in alone],
        "patterns_alone_logged_idle": [each.to_json() for each in alone_logged],
        "shares_in_the_first_layer_that_hold_it": between(alone),
        "shares_in_the_first_layer_that_hold_it_logged_idle": between(alone_logged),
        "calibration": _calibration(found),
        "calibration_logged_idle": _calibration(instead),
        "host": {
            "time_s": asdict(found.host_time_s.joined(instead.host_time_s)),
            "energy_j": asdict(found.host_energy_j.joined(instead.host_energy_j)),
        },
        "predicted": [one.to_json() for one in foreign],
        "reasons": {case.row.name: case.row.note for case in others},
        "conventional": {"source": source, "devices": [each.to_json() for each in devices]},
        "rows": [
            {
                "row": each.name,
                "notes": each.notes,
                "compared": [one.to_json() for one in each.compared],
            }
            for each in said
        ],
        "assumed": [each.to_json() for each in taken],
    }
    return data, lines


def _pairs(
    one: Sequence[Comparison], other: Sequence[Comparison]
) -> list[tuple[Comparison, Comparison]]:
    chosen = ([each for each in some if each.quantity == CORRECTED] for some in (one, other))
    return list(zip(*chosen, strict=True))


def _calibration(found: Calibration) -> dict[str, Any]:
    return {
        "correction_w": found.correction_w,
        "rate": asdict(found.rate),
        "host_time_s": asdict(found.host_time_s),
        "host_energy_j": asdict(found.host_energy_j),
        "patterns": [
            {
                "pattern": fit.pattern.name,
                "rate": asdict(fit.rate),
                "host_time_s": asdict(fit.host_time_s),
                "host_energy_j": asdict(fit.host_energy_j),
                "energy_off_j": fit.off_j,
            }
            for fit in found.fits
        ],
    }


def _own_lines(said: OwnRow) -> list[str]:
    notes = [f"{said.name}: {note}" for note in said.notes]
    return [*tables.comparisons(said.name, said.compared), *notes, ""]
