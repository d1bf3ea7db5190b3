"""The comparison as text."""

from collections.abc import Iterator, Sequence

from spikeship.deploy.validation.comparison import TIME, Comparison
from spikeship.deploy.validation.fit import Calibration, Span
from spikeship.deploy.validation.patterns_alone import Member, between

_COLUMNS = ("row", "measured", "runs, spread", "estimate", "low..high", "error", "inside")


def columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Rows of cells, aligned: the first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first, *others = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield "  " + "  ".join([first, *others])
    yield ""


def comparisons(title: str, found: Sequence[Comparison]) -> Iterator[str]:
    """One table a quantity; seconds as ms, joules as microjoules."""
    quantities = list(dict.fromkeys(one.quantity for one in found))
    for quantity in quantities:
        chosen = [one for one in found if one.quantity == quantity]
        unit, factor = ("ms", 1e3) if quantity.startswith(TIME) else ("uJ", 1e6)
        yield f"{title}: {quantity} per inference, {unit}"
        yield from columns([_COLUMNS, *(_cells(one, factor) for one in chosen)])


def _cells(one: Comparison, factor: float) -> tuple[str, ...]:
    return (
        one.row,
        f"{one.measured * factor:.4g}",
        f"{one.runs}, {'-' if one.spread is None else f'{one.spread / one.measured:.2%}'}",
        f"{one.estimate.value * factor:.4g}",
        _range(one.estimate, factor),
        f"{one.error:+.1%}",
        "yes" if one.inside else f"no, by {one.miss():.1%}",
    )


def _range(value: Span, factor: float) -> str:
    return f"{value.low * factor:.4g}..{value.high * factor:.4g}"


def calibration(found: Calibration) -> Iterator[str]:
    """The three fitted numbers, by themselves, and what each firing pattern makes of them."""
    yield f"fitted to the seven rows, {found.correction_w * 1e3:.1f} mW taken off idle:"
    yield f"  host, ms an inference:          {_span(found.host_time_s, 1e3)}"
    yield f"  host, uJ an inference:          {_span(found.host_energy_j, 1e6)}"
    yield f"  rate, spikes a neuron and step: {_span(found.rate, 1)}"
    for fit in found.fits:
        yield (
            f"    {fit.pattern.name + ':':<30} host {fit.host_time_s.value * 1e3:.4g} ms, "
            f"{fit.host_energy_j.value * 1e6:.4g} uJ, mean rate {fit.rate.value:.4g}, "
            f"energy off by {fit.off_j * 1e6:.3g} uJ rms"
        )
    yield ""


def shipped(found: Calibration, instead: Calibration) -> Iterator[str]:
    """The host's constants with the range of both readings of idle."""
    yield "the host's constants, with the range of both readings of idle:"
    yield f"  ms an inference: {_span(found.host_time_s.joined(instead.host_time_s), 1e3)}"
    yield f"  uJ an inference: {_span(found.host_energy_j.joined(instead.host_energy_j), 1e6)}"
    yield ""


def _span(value: Span, factor: float) -> str:
    return f"{value.value * factor:.4g} ({_range(value, factor)})"


def corrections(
    pairs: Sequence[tuple[Comparison, Comparison]], stated_w: float, logged_w: float
) -> Iterator[str]:
    """The corrected energy's errors by two readings of the rise of idle, side by side."""
    yield f"the same energy where idle rises by {stated_w * 1e3:.1f} mW (as the authors say) and"
    yield f"{logged_w * 1e3:.1f} mW (their logs): measured uJ, error, inside"
    for one, other in pairs:
        cells = (
            f"{each.measured * 1e6:7.1f} {each.error:+7.1%} {'yes' if each.inside else 'no':>3}"
            for each in (one, other)
        )
        yield f"  {one.row:<12}  {'   |   '.join(cells)}"
    yield ""


def even_alone(misses: Sequence[str]) -> Iterator[str]:
    """What ranges without the uneven firing patterns would miss."""
    yield "ranges of the even firing pattern alone would miss:"
    yield from (f"  {line}" for line in misses or ["nothing"])
    yield ""


def members(found: Sequence[Member], correction_w: float) -> Iterator[str]:
    """The row without branches by each firing pattern alone."""
    time, energy = found[0].time, found[0].energy
    yield f"{time.row} by each firing pattern alone, fitted to the other six, idle rising by"
    yield (
        f"{correction_w * 1e3:.1f} mW; measured {time.measured * 1e3:.4g} ms and "
        f"{energy.measured * 1e6:.4g} uJ; rates in spikes a neuron and step:"
    )
    head = ("pattern", "first", "branches", "ms", "low..high", "uJ", "low..high", "inside")
    yield from columns([head, *(_member(each) for each in found)])
    holding = ", ".join(each.pattern for each in found if each.holds)
    yield f"in time and in energy, {time.row} lies inside: {holding or 'none of them'}"
    shares = between(found)
    said = "no share" if shares is None else f"{shares[0]:.1%} to {shares[1]:.1%}"
    yield f"  and by straight lines between them: {said} in the first layer"
    yield ""


def _member(each: Member) -> tuple[str, ...]:
    held = [what for what in ("time", "energy") if getattr(each, what).inside]
    return (
        each.pattern,
        f"{each.first:.3f}",
        f"{each.branches:.3f}",
        f"{each.time.estimate.value * 1e3:.4g}",
        _range(each.time.estimate, 1e3),
        f"{each.energy.estimate.value * 1e6:.4g}",
        _range(each.energy.estimate, 1e6),
        {0: "neither", 1: held[0] if held else "", 2: "both"}[len(held)],
    )
