"""What is assumed of a row: sizes, steps, firing rates, and whatever else the source leaves out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from spikeship.deploy.validation.activity import rates_of
from spikeship.deploy.validation.fit import Span
from spikeship.deploy.validation.network import INPUT, Network
from spikeship.deploy.validation.rows import Row


@dataclass(frozen=True)
class Assumed:
    """What is assumed of a row.

    Attributes:
        row: its name.
        input: shape of the input.
        output: size of what is read out.
        steps: T of an inference.
        rates: spikes a neuron and step, of the input and each layer.
        given: those of them that the row gives one by one.
        rate: of the others.
        rate_from: where that one comes from.
        texts: all else.
    """

    row: str
    input: tuple[int, ...]
    output: int
    steps: int
    rates: Mapping[str, float]
    given: Mapping[str, float]
    rate: float | None
    rate_from: str
    texts: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return asdict(self)

    def line(self) -> str:
        """Sizes, steps and rates."""
        out = "x".join(map(str, self.input)) + f" in, {self.output} out, {self.steps} steps"
        own = ", ".join(f"{name} {rate:g}" for name, rate in self.given.items())
        if self.rate is None:
            return f"{out}, spikes a neuron and step: {own} (given)"
        rest = f"rate {self.rate:.4g} spikes a neuron and step ({self.rate_from})"
        return f"{out}, {rest}{'; ' + own if own else ''}"


def assumed(row: Row, network: Network, fitted: Span) -> Assumed:
    """Collect what is assumed of a row, of this network, with the fitted rate and its range."""
    workload = row.workload
    every = rates_of(workload, network, fitted.value)
    rates, given, rest = {}, {}, None
    own = {INPUT: workload.input_rate} | {layer.name: layer.rate for layer in workload.layers}
    node = {layer.name: name for name, (layer, _) in network.layer_of.items()} | {INPUT: INPUT}
    for name, rate in own.items():
        rates[name] = every[node[name]]
        if rate is None:
            rest = rates[name]
        else:
            given[name] = rate
    if workload.fitted:
        source = f"fitted, {fitted.low:.4g}..{fitted.high:.4g}"
    elif workload.synops_per_step is not None:
        source = f"from {workload.synops_per_step:g} synaptic operations a step"
    else:
        source = "given"
    return Assumed(
        row.name,
        workload.input_shape,
        row.output,
        workload.steps,
        rates,
        given,
        rest,
        source,
        row.assumed,
    )


def listed(found: Sequence[Assumed]) -> Iterator[str]:
    """Everything as text: a line a row, then a line for each thing that rows take for granted."""
    yield "assumed, row by row:"
    wide = max(len(each.row) for each in found)
    yield from (f"  {each.row:<{wide}}  {each.line()}" for each in found)
    yield "taken for granted, since nobody says, and by which rows:"
    rows: dict[str, list[str]] = {}
    for each in found:
        for text in each.texts:
            rows.setdefault(text, []).append(each.row)
    for text, names in rows.items():
        yield f"  {text}: {'all rows' if len(names) == len(found) else ', '.join(names)}"
    yield ""
