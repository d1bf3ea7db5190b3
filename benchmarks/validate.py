"""The estimate beside measured chips: by how much it errs, and whether its range holds.

``python benchmarks/validate.py [--rows FILE] [--json PATH|-]``

Each of the seven branch rows of Blouw et al. (2019) is estimated from constants fitted to the other
six. Exit status 1 where one of them errs by more than 15 % in dynamic energy after the correction
of idle or 10 % in time, or lies outside its range. With ``--rows``, a user's own measured rows are
compared as well, by constants fitted to all seven: docs/validation.md describes their format.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from validation import assumed, conventional, table
from validation.chip import case_of
from validation.compare import CORRECTED, Comparison, cold_row, keyword, tally, verdicts
from validation.fields import RowError
from validation.fit import IDLE_RISE_W, Calibration, Case, calibrate, leave_one_out
from validation.members import between, members
from validation.own import OwnRow, own_row
from validation.patterns import EVEN, PATTERNS, Pattern
from validation.rows import Row, read_rows

from spikeship.hw_models.atomic import replacing

BLOUW = Path(__file__).parent / "validation" / "blouw.json"


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
    """Everything the command says, as an object and as lines."""
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
        *table.comparisons("leave-one-out", loo),
        *table.corrections(_pairs(loo, loo_logged), IDLE_RISE_W, logged),
        *table.even_alone(verdicts(even)),
        *table.members(alone, IDLE_RISE_W),
        *table.members(alone_logged, logged),
        *table.calibration(found),
        *table.calibration(instead),
        *table.shipped(found, instead),
        *table.comparisons("predicted from the seven", foreign),
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
    return [*table.comparisons(said.name, said.compared), *notes, ""]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=Path, metavar="FILE", help="measured rows of your own")
    parser.add_argument("--json", metavar="PATH|-", help="the same as an object; - is stdout")
    chosen = parser.parse_args(arguments)
    try:
        own = read_rows(chosen.rows) if chosen.rows else ()
        data, lines = compared(own)
    except RowError as error:
        print(f"validate: {error}", file=sys.stderr)
        return 2
    text = json.dumps(data, indent=2) + "\n"
    if chosen.json == "-":
        sys.stdout.write(text)
    else:
        print("\n".join(lines))
    if chosen.json not in (None, "-"):
        try:
            with replacing(Path(chosen.json)) as path:
                path.write_text(text)
        except OSError as error:
            print(f"validate: {chosen.json}: not written: {error.strerror}", file=sys.stderr)
            return 2
    return 0 if data["within"] else 1


if __name__ == "__main__":
    sys.exit(main())
