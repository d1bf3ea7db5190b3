"""The named rules by which another tool's count differs from ours, and each tool's list of them.

A rule says by how much a synapse object's count changes when one takes to it; the rules of a tool,
taken to one after another, lead from our effective operations to its own. A rule is told the events
alone, not the count so far, and takes nothing from the tool's own arithmetic: what one rule gets
wrong no other makes up for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ledgers.events import Events
from spikeship.hw_models.graph import Conv, Dense

AS_MACS = "numbers as MACs"


@dataclass(frozen=True)
class Rule:
    """A difference: its name, what it says, and by how much it changes a count."""

    name: str
    says: str
    change: Callable[[Events], Fraction]


def _weighted(one: Events, values: NDArray[Any]) -> Fraction:
    """Values of the source neurons, each times its stored synapses."""
    return Fraction(int((values * one.connected_fanout).sum()))


def _values(one: Events) -> NDArray[np.int64]:
    """What each source neuron sent, added up."""
    return np.asarray(one.messages.sum(axis=(0, 1), dtype=np.int64))


def _sizes(one: Events) -> NDArray[np.int64]:
    """The same without signs."""
    return np.asarray(np.abs(one.messages.astype(np.int64)).sum(axis=(0, 1)))


def _zero_weights(one: Events) -> Fraction:
    return Fraction(int((one.sent * (one.connected_fanout - one.effective_fanout)).sum()))


def _graded_values(one: Events) -> Fraction:
    return _weighted(one, _sizes(one) - one.sent)


def _signs(one: Events) -> Fraction:
    return _weighted(one, _values(one) - _sizes(one))


def _is_skip(one: Events) -> bool:
    return not isinstance(one.synapse, Conv | Dense)


def _skip_of_values(one: Events) -> Fraction:
    return -_weighted(one, _values(one)) if _is_skip(one) else Fraction(0)


def _pooled_effective(one: Events) -> Fraction:
    """Operations if a window's message, where there is one, were read once."""
    side = one.synapse.pool
    reached = one.effective_fanout
    corner = reached if side == 1 else reached[:, ::side, ::side]
    return Fraction(int((np.count_nonzero(one.pooled, axis=0) * corner).sum()))


def _pooled_messages(one: Events) -> Fraction:
    return _pooled_effective(one) - one.effective


def _numbers(one: Events) -> Fraction:
    whole = np.isin(one.messages, (-1, 0, 1)).all()
    return Fraction(0) if whole else Fraction(-one.effective)


def _pooled_numbers(one: Events) -> Fraction:
    full = one.synapse.pool**2
    whole = np.isin(one.pooled, (-full, 0, full)).all()
    return Fraction(0) if whole else -_pooled_effective(one)


def _mean_fanout(one: Events) -> Fraction:
    return Fraction(int(one.connected_fanout.sum()), one.sources)


def _average_fanout(one: Events) -> Fraction:
    return one.spikes * _mean_fanout(one) - _weighted(one, one.sent)


def _average_pool(one: Events) -> Fraction:
    return one.spikes * _mean_fanout(one) * (Fraction(1, one.synapse.pool**2) - 1)


def on_padding(one: Events) -> int:
    """Connections from padding: a kernel of ones slides over 1 on padding and 0 within."""
    if not isinstance(one.synapse, Conv):
        return 0
    out, per_group, *kernel = one.synapse.weight.shape
    down, across = one.synapse.padding
    image = functional.pad(
        torch.zeros(1, 1, *one.pooled.shape[2:], dtype=torch.float64),
        (across, across, down, down),
        value=1.0,
    )
    met = functional.conv2d(
        image,
        torch.ones(1, 1, *kernel, dtype=torch.float64),
        stride=one.synapse.stride,
        dilation=one.synapse.dilation,
    )
    return int(out * per_group * int(met.sum()))


def _padding_taps(one: Events) -> Fraction:
    return Fraction(one.spikes, one.sources) * on_padding(one)


def _mean_size(one: Events, events: int) -> Fraction:
    """Operations of so many events before a pool, spread evenly, those on padding too."""
    stored = Fraction(int(one.connected_fanout.sum()), one.synapse.pool**2)
    return Fraction(events, one.sources) * (stored + on_padding(one))


def _mean_graded(one: Events) -> Fraction:
    return _mean_size(one, int(_sizes(one).sum()) - one.spikes)


def _cancelled(one: Events) -> Fraction:
    return _mean_size(one, int(np.abs(one.pooled).sum()) - int(_sizes(one).sum()))


def _hertz(one: Events) -> Fraction:
    """Events in a millisecond of a message of size 1."""
    entry = one.graph.input
    if one.synapse.source == entry.name and entry.encoding == "direct":
        return Fraction(entry.scale) / 1000
    return Fraction(1)


def _analog_input(one: Events) -> Fraction:
    return (_hertz(one) - 1) * _mean_size(one, int(np.abs(one.pooled).sum()))


def _skip_of_rates(one: Events) -> Fraction:
    whole = _hertz(one) * _mean_size(one, int(np.abs(one.pooled).sum()))
    return -whole if _is_skip(one) else Fraction(0)


ZERO_WEIGHTS = Rule("zero weights", "stored weights of 0 count like any other", _zero_weights)
SKIPS, SKIPS_SAY = "skips", "an identity skip is an addition, not a synapse"
RULES: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "neurobench": (Rule(AS_MACS, "inputs other than -1, 0 and 1 are MACs", _numbers),),
        "neurobench, pools apart": (
            Rule(
                "pooled messages",
                "a window's spikes are one message, counted once, and none where they cancel",
                _pooled_messages,
            ),
            Rule(
                AS_MACS,
                "an average pool gives fractions, and inputs other than -1, 0 and 1 are MACs",
                _pooled_numbers,
            ),
        ),
        "sinabs": (
            ZERO_WEIGHTS,
            Rule("graded values", "a message counts as often as its size says", _graded_values),
            Rule("signs", "a negative message counts less than nothing", _signs),
            Rule(SKIPS, SKIPS_SAY, _skip_of_values),
        ),
        "keras-spiking": (
            ZERO_WEIGHTS,
            Rule(
                "average fan-out", "every spike reaches the source's mean fan-out", _average_fanout
            ),
            Rule("average pool", "a spike before a pool is a part of an event", _average_pool),
            Rule("padding taps", "taps on padding are connections", _padding_taps),
            Rule("graded values", "a message counts as often as its size says", _mean_graded),
            Rule("cancelled in a pool", "signs cancel within a window", _cancelled),
            Rule("analog input", "a direct input is a rate in hertz", _analog_input),
            Rule(SKIPS, SKIPS_SAY, _skip_of_rates),
        ),
    }
)


def changes(tool: str, one: Events) -> tuple[tuple[str, Fraction], ...]:
    """By how much each rule of a tool changes a count, in their order, from our effective one."""
    return tuple((rule.name, rule.change(one)) for rule in RULES[tool])


def by_rules(tool: str, one: Events) -> Fraction:
    """A tool's count of one synapse object, made from ours."""
    return one.effective + sum((change for _, change in changes(tool, one)), Fraction(0))


def with_macs(tool: str, one: Events) -> Fraction:
    """The same, but operations that the tool calls MACs are still among them."""
    moved = sum((change for name, change in changes(tool, one) if name == AS_MACS), Fraction(0))
    return by_rules(tool, one) - moved
