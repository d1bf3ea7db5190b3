"""The comparison as text."""

from collections.abc import Iterator, Sequence

from validation.build import INPUT
from validation.compare import TIME, Comparison
from validation.explain import FirstLayer
from validation.fit import Calibration, Span
from validation.rows import Row

_COLUMNS = ("row", "measured", "estimate", "low..high", "error", "inside")


def comparisons(title: str, found: Sequence[Comparison]) -> Iterator[str]:
    """One table a quantity; seconds as ms, joules as microjoules."""
    quantities = list(dict.fromkeys(one.quantity for one in found))
    for quantity in quantities:
        chosen = [one for one in found if one.quantity == quantity]
        unit, factor = ("ms", 1e3) if quantity.startswith(TIME) else ("uJ", 1e6)
        yield f"{title}: {quantity} per inference, {unit}"
        rows = [_COLUMNS, *(_cells(one, factor) for one in chosen)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_COLUMNS))]
        for row in rows:
            first, *others = (
                cell.ljust(width) if i == 0 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            yield "  " + "  ".join([first, *others])
        yield ""


def _cells(one: Comparison, factor: float) -> tuple[str, ...]:
    low, high = (f"{end * factor:.4g}" for end in (one.estimate.low, one.estimate.high))
    return (
        one.row,
        f"{one.measured * factor:.4g}",
        f"{one.estimate.value * factor:.4g}",
        f"{low}..{high}",
        f"{one.error:+.1%}",
        "yes" if one.inside else f"no, by {one.miss():.1%}",
    )


def calibration(found: Calibration) -> Iterator[str]:
    """The three fitted numbers, by themselves, and what each firing pattern makes of them."""
    yield f"fitted to the seven rows, {found.correction_w * 1e3:.1f} mW taken off idle:"
    yield f"  host, ms an inference:          {_span(found.host_time_s, 1e3)}"
    yield f"  host, uJ an inference:          {_span(found.host_energy_j, 1e6)}"
    yield f"  rate, spikes a neuron and step: {_span(found.rate, 1)}"
    for fit in found.fits:
        yield (
            f"    {fit.pattern.name + ':':<27} host {fit.host_time_s.value * 1e3:.4g} ms, "
            f"{fit.host_energy_j.value * 1e6:.4g} uJ, mean rate {fit.rate.value:.4g}"
        )
    yield ""


def _span(value: Span, factor: float) -> str:
    return f"{value.value * factor:.4g} ({value.low * factor:.4g}..{value.high * factor:.4g})"


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


def hint(found: FirstLayer) -> Iterator[str]:
    """Why the row without branches misses, as far as the rows can say."""
    yield f"{found.row} would be met, in energy and in time, by a first layer that fires more than"
    yield "the branches do, not fitted, since no other row tells the two apart:"
    for what, first, branches in (
        ("energy", found.by_energy, found.branches_by_energy),
        ("time", found.by_time, found.branches_by_time),
    ):
        yield f"  by its {what + ':':<7} about {first:.2f} spikes a neuron and step, {branches:.2f}"
    yield ""


def assumptions(rows: Sequence[Row], rate: float) -> Iterator[str]:
    """In and out sizes, steps and firing rates of every row."""
    yield "assumed, row by row:"
    for row in rows:
        workload = row.workload
        if workload.fitted:
            said = f"{rate:.4f} spikes a neuron and step (fitted)"
        elif workload.rate is not None:
            said = f"{workload.rate:g} spikes a neuron and step (given)"
        else:
            said = f"from {workload.synops_per_step:g} synaptic operations a step (given)"
        own = [
            f"{layer.name} {layer.rate:g}" for layer in workload.layers if layer.rate is not None
        ]
        if workload.input_rate is not None:
            own.insert(0, f"{INPUT} {workload.input_rate:g}")
        sizes = "x".join(map(str, workload.input_shape))
        out = "" if row.output is None else f", {row.output} out"
        yield (
            f"  {row.name:<12}  {sizes} in{out}, {workload.steps} steps, rate {said}"
            f"{'; ' + ', '.join(own) if own else ''}"
        )
    yield ""
