"""Yan et al. 2024: a T-step SNN against the quantized ANN of ceil(log2(T + 1)) bits.

Such an ANN tells as many levels apart as T steps of spikes. Per synapse of the network, at a rate
of r spikes a step::

    SNN  T r (hops E_sparse + E_acc + bits E_weight) + T (E_acc + r E_acc) / fan-in
    ANN  ceil(log2(T + 1)) hops E_dense + bits E_weight + E_mac

A spike is one bit that an event router moves; an activation has all its bits moved by a scheduled
network. A weight is fetched for every spike, and once for the ANN.

What public text gives of the paper is its abstract and summaries by others: E_sparse, E_dense,
E_acc and some break-even rates. The formula above is made from these. E_weight and E_mac were
found nowhere: they are inferred from two of the rates, and two others come out by them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, log2
from types import MappingProxyType

from spikeship.hw_models.chips.spec import Constant, Kind, Level
from spikeship.hw_models.energy_models.incoming import Incoming, Layer
from spikeship.hw_models.energy_models.model import PICO, LayerEnergy, ModelEnergy, assembled
from spikeship.hw_models.errors import InputError
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.graph import FixedGraph, Input
from spikeship.hw_models.graph.checks import MAX_GRADED
from spikeship.hw_models.graph.nodes import GradedNode

_PAPER = "Yan et al., arXiv 2409.08290v4, as public summaries of it quote"
_SPREAD = "low, high: the 50 % by which its authors vary their coefficients"
HOPS = 1.0


def _constant(pj: float, source: str, *, inferred: bool = False) -> Constant:
    value = pj * PICO
    kind: Kind = "fitted" if inferred else "stated"
    return Constant(value, 0.5 * value, 1.5 * value, "J", f"{source}; {_SPREAD}", kind)


_SPARSE, _DENSE = 3.0, 0.25
_ACC = 0.05448

# published break-even spike rates: (T, weight bits) -> rate, at a fan-in of 4,096
BREAK_EVENS: Mapping[tuple[int, int], float] = MappingProxyType(
    {(5, 4): 0.057, (2, 4): 0.104, (2, 8): 0.123, (3, 8): 0.082}
)
_FITTED_ON = ((2, 4), (2, 8))


def levels_bits(num_steps: int) -> int:
    """Bits of the ANN that tells as many levels apart: ceil(log2(T + 1))."""
    return ceil(log2(num_steps + 1))


def _infer() -> tuple[float, float]:
    """E_weight (pJ a bit) and E_mac (pJ) that give the two break-even rates of _FITTED_ON."""
    rows = []
    for steps, bits in _FITTED_ON:
        events = steps * BREAK_EVENS[steps, bits]
        # bits E_weight (1 - events) + E_mac = events (E_sparse + E_acc) - moved
        moved = levels_bits(steps) * _DENSE * HOPS
        rows.append((bits * (1 - events), events * (_SPARSE * HOPS + _ACC) - moved))
    (a, c), (b, d) = rows
    weight = (d - c) / (b - a)
    return weight, c - a * weight


_WEIGHT, _MULTIPLY = _infer()
_INFERRED = f"inferred from the break-even rates of {_PAPER} for T = 2 with 4 and 8 bits of weight"

CONSTANTS: Mapping[str, Constant] = MappingProxyType(
    {
        "sparse move": _constant(
            _SPARSE, f"{_PAPER}: 3.0 pJ a bit and hop, normalised from Loihi 1's event routing"
        ),
        "dense move": _constant(
            _DENSE, f"{_PAPER}: 0.25 pJ a bit and hop, a circuit-switched network in 22 nm"
        ),
        "accumulate": _constant(
            _ACC, f"{_PAPER}: accumulation, comparison and subtraction, 22 nm synthesis"
        ),
        "weight": _constant(_WEIGHT, f"a bit of a weight fetched, {_INFERRED}", inferred=True),
        "multiply": _constant(
            _MULTIPLY,
            f"the ANN's arithmetic for a synapse, its share of active inputs in it, {_INFERRED}",
            inferred=True,
        ),
    }
)


def break_even_rate(num_steps: int, weight_bits: int, fan_in: int = 4096) -> float:
    """Spikes per neuron and step above which the ANN costs less, one hop each, as the paper has it.

    Every neuron spikes equally often, nothing is pooled, and the input spikes too. A network's own
    break-even, from its own counts, is in :meth:`Yan.energy`.

    Args:
        num_steps: T.
        weight_bits: of both networks.
        fan_in: synapses of a neuron.

    Raises:
        ValueError: one of them is below 1.
    """
    if min(num_steps, weight_bits, fan_in) < 1:
        raise InputError(
            f"break-even: T {num_steps}, {weight_bits} bits, fan-in {fan_in} must all be 1 or more"
        )
    price = {name: constant.value for name, constant in CONSTANTS.items()}
    event = _event(price, 1, weight_bits) + price["accumulate"] / fan_in
    still = num_steps * price["accumulate"] / fan_in
    return (_dense(price, levels_bits(num_steps), weight_bits) - still) / (num_steps * event)


def _event(price: Mapping[str, float], message_bits: int, weight_bits: int) -> float:
    """One message at one synapse of the SNN."""
    moved = message_bits * HOPS * price["sparse move"]
    return moved + price["accumulate"] + weight_bits * price["weight"]


def _dense(price: Mapping[str, float], message_bits: int, weight_bits: int) -> float:
    """One synapse of the ANN."""
    moved = message_bits * HOPS * price["dense move"]
    return moved + weight_bits * price["weight"] + price["multiply"]


@dataclass(frozen=True)
class Yan:
    """The SNN's computation and data movement, and those of its quantized ANN."""

    name: str = "yan"
    source: str = f"{_PAPER}; two coefficients inferred from its break-even rates"
    counts: str = (
        "for every connected synaptic operation a bit moved over one hop, a weight fetched and an "
        "accumulation; a comparison a neuron and step; the ANN of ceil(log2(T + 1)) bits: every "
        "activation moved, every weight fetched once"
    )
    leaves_out: tuple[str, ...] = (
        "control, which event-driven hardware needs more of (its authors say so), and static power",
        "reuse of a weight over several steps, hops other than one",
        "potentials' memory; direct input moves all its bits in every step",
    )

    def energy(self, graph: FixedGraph, counts: EventCounts) -> ModelEnergy:
        """Joules of one inference; raises CountError for counts of another graph."""

        def at(found: Sequence[Layer], level: Level) -> Sequence[LayerEnergy]:
            price = {name: constant.at(level) for name, constant in CONSTANTS.items()}
            return [_row(graph, layer, counts.num_steps, price) for layer in found]

        return assembled(self, graph, counts, at, CONSTANTS)


def _row(graph: FixedGraph, layer: Layer, steps: int, price: Mapping[str, float]) -> LayerEnergy:
    moved = sum(
        one.connected * _message_bits(graph, one) * HOPS * price["sparse move"]
        for one in layer.incoming
    )
    fetched = sum(one.connected * one.synapse.num_weight_bits for one in layer.incoming)
    ann = sum(
        one.macs * _dense(price, _activation_bits(graph, one, steps), one.synapse.num_weight_bits)
        for one in layer.incoming
    )
    neurons = layer.rates["neuron_updates"] + layer.rates["spikes"]
    return LayerEnergy(
        layer.name,
        {
            "movement": moved,
            "weights": fetched * price["weight"],
            "accumulate": layer.rates["synops_connected"] * price["accumulate"],
            "neuron": neurons * price["accumulate"],
        },
        ann_energy_j=ann,
    )


def _message_bits(graph: FixedGraph, one: Incoming) -> int:
    """Bits of one message: 1 of a spike, a graded one's magnitude and sign."""
    if not one.graded:
        return 1
    node = graph.node(one.synapse.source)
    if isinstance(node, Input):
        return node.max_message.bit_length() + int(node.signed)
    assert isinstance(node, GradedNode)
    return MAX_GRADED.bit_length() + 1


def _activation_bits(graph: FixedGraph, one: Incoming, steps: int) -> int:
    return _message_bits(graph, one) if one.graded else levels_bits(steps)
