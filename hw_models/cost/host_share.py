"""The host's share of an inference: a row of its own, never part of core time or energy."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from spikeship.hw_models.chips.spec import ChipSpec, Constant, Host
from spikeship.hw_models.events.fanout import fanout
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph, Identity
from spikeship.hw_models.placement import demand


@dataclass(frozen=True)
class HostShare:
    """What host and embedded processors add to one inference.

    Attributes:
        energy_j: joules, with the ends ``low`` and ``high``; None where nobody measured any.
        latency_s: seconds, with its ends; None likewise. Where the constants may be those of a
            step as well as of an inference, the ends hold both readings at this T.
        source: where the two come from.
        injected_values: currents that the host computes and injects, one a neuron and step.
        macs: its multiplications for them: of every step, but once where direct input is the same
            in all of them.
    """

    energy_j: float | None
    low: float | None
    high: float | None
    latency_s: float | None
    latency_low_s: float | None
    latency_high_s: float | None
    source: str
    injected_values: int
    macs: float

    def to_json(self) -> dict[str, Any]:
        """The row as plain numbers and strings."""
        return asdict(self)


def host_share(graph: FixedGraph, chip: ChipSpec, traffic: Traffic, num_steps: int) -> HostShare:
    """Estimate what the host adds to an inference of T = ``num_steps`` steps."""
    values, macs = _injected(graph, chip, traffic, num_steps)
    if chip.host is None:
        unknown = f"no measurement of {chip.name}'s host is public: unknown, not zero"
        return HostShare(None, None, None, None, None, None, unknown, values, macs)
    joules, seconds = chip.host.joules, chip.host.seconds
    source = joules.source
    if seconds.source != source:
        source = f"energy: {source}; time: {seconds.source}"
    energy_ends, time_ends = (host_ends(chip.host, each, num_steps) for each in (joules, seconds))
    if chip.host.num_steps not in (None, num_steps):
        source += (
            f"; T is {num_steps} here, and rows of {chip.host.num_steps} steps alone cannot tell a "
            "constant an inference (the value) from one a step: the range holds both"
        )
    return HostShare(
        energy_j=joules.value,
        low=energy_ends[0],
        high=energy_ends[1],
        latency_s=seconds.value,
        latency_low_s=time_ends[0],
        latency_high_s=time_ends[1],
        source=source,
        injected_values=values,
        macs=macs,
    )


def host_ends(host: Host, constant: Constant, num_steps: int) -> tuple[float, float]:
    """Low and high end of one of the host's constants at T = ``num_steps``.

    Where the constant may be one of an inference or one of a step, the ends hold both readings.
    """
    share = 1.0 if host.num_steps is None else num_steps / host.num_steps
    return constant.low * min(1.0, share), constant.high * max(1.0, share)


def _injected(
    graph: FixedGraph, chip: ChipSpec, traffic: Traffic, num_steps: int
) -> tuple[int, float]:
    values, macs = 0, 0.0
    for synapse in graph.synapses:
        if not demand.injected(graph, synapse, chip):
            continue
        values += int(np.prod(graph.node(synapse.target).shape, dtype=np.int64)) * num_steps
        if not isinstance(synapse, Identity):
            each = traffic.messages[synapse.source].sum(axis=0, dtype=np.float64)
            macs += float((each * fanout(graph, synapse)[1]).sum())
    return values, macs / num_steps if graph.input.encoding == "direct" else macs
