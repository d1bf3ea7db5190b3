"""The named rules by which another tool's count differs from ours, and each tool's list of them.

A rule says by how much a synapse object's count changes when one takes to it; the rules of a tool,
taken to one after another, lead from our effective operations to its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from types import MappingProxyType

import numpy as np

from ledgers.events import Events
from ledgers.other_rules import keras_connections, keras_unit
from spikeship.hw_models.graph import Conv, Dense

AS_MACS = "numbers as MACs"


@dataclass(frozen=True)
class Rule:
    """A difference: its name, what it says, and by how much it changes a count so far."""

    name: str
    says: str
    change: Callable[[Events, Fraction], Fraction]


def _zero_weights(one: Events, _: Fraction) -> Fraction:
    return Fraction(int((one.sent * (one.connected_fanout - one.effective_fanout)).sum()))


def _weighted(one: Events, values: object) -> Fraction:
    return Fraction(int((np.asarray(values) * one.connected_fanout).sum()))


def _graded_values(one: Events, _: Fraction) -> Fraction:
    sizes = np.abs(one.messages.astype(np.int64)).sum(axis=(0, 1))
    return _weighted(one, sizes - one.sent)


def _signs(one: Events, _: Fraction) -> Fraction:
    values = one.messages.astype(np.int64)
    return _weighted(one, (values - np.abs(values)).sum(axis=(0, 1)))


def _skips(one: Events, so_far: Fraction) -> Fraction:
    return Fraction(0) if isinstance(one.synapse, Conv | Dense) else -so_far


def _pooled_messages(one: Events, so_far: Fraction) -> Fraction:
    side = one.synapse.pool
    sent = np.count_nonzero(one.pooled, axis=0)
    reached = one.effective_fanout
    corner = reached if side == 1 else reached[:, ::side, ::side]
    return int((sent * corner).sum()) - so_far


def _numbers(pooled: bool) -> Callable[[Events, Fraction], Fraction]:
    def change(one: Events, so_far: Fraction) -> Fraction:
        whole = one.synapse.pool**2 if pooled else 1
        values = np.abs(one.pooled if pooled else one.messages.astype(np.int64))
        return Fraction(0) if np.isin(values, (0, whole)).all() else -so_far

    return change


def _mean_fanout(one: Events) -> Fraction:
    return Fraction(int(one.connected_fanout.sum()), one.sources)


def _average_fanout(one: Events, so_far: Fraction) -> Fraction:
    return one.spikes * _mean_fanout(one) - so_far


def _average_pool(one: Events, _: Fraction) -> Fraction:
    return one.spikes * _mean_fanout(one) * (Fraction(1, one.synapse.pool**2) - 1)


def _padding_taps(one: Events, _: Fraction) -> Fraction:
    if not isinstance(one.synapse, Conv):
        return Fraction(0)
    existing = Fraction(int(one.connected_fanout.sum()), one.synapse.pool**2)
    return Fraction(one.spikes, one.sources) * (keras_connections(one) - existing)


def _mean_size(one: Events, events: int) -> Fraction:
    return Fraction(events, one.sources) * keras_connections(one)


def _mean_graded(one: Events, _: Fraction) -> Fraction:
    return _mean_size(one, int(np.abs(one.messages.astype(np.int64)).sum()) - one.spikes)


def _cancelled(one: Events, _: Fraction) -> Fraction:
    whole = int(np.abs(one.messages.astype(np.int64)).sum())
    return _mean_size(one, int(np.abs(one.pooled).sum()) - whole)


def _analog_input(one: Events, so_far: Fraction) -> Fraction:
    return so_far * (keras_unit(one) - 1)


ZERO_WEIGHTS = Rule("zero weights", "stored weights of 0 count like any other", _zero_weights)
SKIPS = Rule("skips", "an identity skip is an addition, not a synapse", _skips)
RULES: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "neurobench": (Rule(AS_MACS, "inputs other than -1, 0 and 1 are MACs", _numbers(False)),),
        "neurobench, pools apart": (
            Rule(
                "pooled messages",
                "a window's spikes are one message, counted once, and none where they cancel",
                _pooled_messages,
            ),
            Rule(
                AS_MACS,
                "an average pool gives fractions, and inputs other than -1, 0 and 1 are MACs",
                _numbers(True),
            ),
        ),
        "sinabs": (
            ZERO_WEIGHTS,
            Rule("graded values", "a message counts as often as its size says", _graded_values),
            Rule("signs", "a negative message counts less than nothing", _signs),
            SKIPS,
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
            SKIPS,
        ),
    }
)


def changes(tool: str, one: Events) -> tuple[tuple[str, Fraction], ...]:
    """By how much each rule of a tool changes a count, in their order, from our effective one."""
    so_far, found = Fraction(one.effective), []
    for rule in RULES[tool]:
        change = rule.change(one, so_far)
        so_far += change
        found.append((rule.name, change))
    return tuple(found)


def by_rules(tool: str, one: Events) -> Fraction:
    """A tool's count of one synapse object, made from ours."""
    return one.effective + sum((change for _, change in changes(tool, one)), Fraction(0))


def with_macs(tool: str, one: Events) -> Fraction:
    """The same, but operations that the tool calls MACs are still among them."""
    moved = sum((change for name, change in changes(tool, one) if name == AS_MACS), Fraction(0))
    return by_rules(tool, one) - moved
