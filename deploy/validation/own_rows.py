"""A user's measured row beside its estimate, part by part."""

from typing import NamedTuple

from spikeship.deploy.validation.comparison import TIME, TOTAL, Comparison
from spikeship.deploy.validation.fit import Case, ChipCost, Span, chip_cost, rise
from spikeship.hw_models import chips
from spikeship.hw_models.chips.host import LOIHI1_COLD_STATIC
from spikeship.hw_models.chips.spec import Constant
from spikeship.hw_models.cost.host_share import host_ends


class OwnRow(NamedTuple):
    """The lines of a row.

    Attributes:
        name: of the row.
        compared: every part that was measured and has an estimate.
        notes: where its host and its idle come from, and what has no estimate; a line each.
    """

    name: str
    compared: list[Comparison]
    notes: list[str]


def own_row(case: Case, rate: Span) -> OwnRow:
    """Compare every part that was measured of a row.

    The host is the row's own where it gives one, else the chip's constants at the row's T.

    Args:
        case: the row and its chip.
        rate: the fitted one, for a row that asks for it.
    """
    measured = case.row.measured
    chip = chip_cost(case, rate)
    constants = {"time": _host(case, "seconds"), "energy": _host(case, "joules")}
    given = {"time": measured.host_time_s, "energy": measured.energy_j.get("host")}
    parts, notes = {}, []
    for what, constant in constants.items():
        parts[what], note = _part(given[what], constant)
        notes.append(f"host's {what}: {note}")
    steps, host = case.row.workload.steps, chips.get(case.row.workload.chip).host
    if host is not None and host.num_steps not in (None, steps):
        notes.append(
            f"the host's constants come from {host.num_steps} steps an inference: at {steps} their "
            "range holds a constant an inference and one a step"
        )
    time = parts["time"] + chip.time_s
    dynamic = parts["energy"] + chip.dynamic_j
    static = chip.static_w
    if measured.cold:
        watts, said = _rise(case, chip)
        dynamic = dynamic + time * watts
        static = _span(LOIHI1_COLD_STATIC) * chip.chips
        notes.append(said)
    rows = [
        (TIME, measured.time_s, time, measured.time_spread_s),
        ("time, chip", measured.chip_time_s, chip.time_s, None),
        ("time, host", given["time"], constants["time"], None),
        (TOTAL, measured.energy_j.get("dynamic"), dynamic, measured.energy_spread_j),
        ("dynamic energy, chip", measured.energy_j.get("chip"), chip.dynamic_j, None),
        ("dynamic energy, host", given["energy"], constants["energy"], None),
        ("static energy", measured.energy_j.get("static"), static * time, None),
    ]
    compared = [
        Comparison(case.row.name, what, value, said, measured.runs, spread)
        for what, value, said, spread in rows
        if value is not None and said is not None
    ]
    return OwnRow(case.row.name, compared, notes)


def _host(case: Case, part: str) -> Span | None:
    """One of the calibrated constants at the row's T; None where the chip has none."""
    workload = case.row.workload
    host = chips.get(workload.chip).host
    if host is None:
        return None
    constant: Constant = getattr(host, part)
    return Span(constant.value, *host_ends(host, constant, workload.steps))


def _part(given: float | None, constant: Span | None) -> tuple[Span, str]:
    """The host's part of time or energy, with a remark."""
    if given is not None:
        said = "as the row gives it" + (
            "; none was calibrated to compare it with" if constant is None else ""
        )
        return Span(given, given, given), said
    if constant is not None:
        return constant, "the calibrated constant"
    return Span(0.0, 0.0, 0.0), "left out: none was calibrated for this chip"


def _rise(case: Case, chip: ChipCost) -> tuple[Span, str]:
    """Watts by which idle rises with a first run: the row's own, else that of Blouw's logs."""
    own = case.row.measured.idle_rise_w
    watts = rise() * chip.chips if own is None else Span(own, own, own)
    whose = "the chip's" if own is None else "the row's own"
    return watts, f"idle rises by {watts.value * 1e3:.1f} mW with a first run ({whose})"


def _span(constant: Constant) -> Span:
    return Span(constant.value, constant.low, constant.high)
