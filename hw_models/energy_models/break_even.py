"""Where a network costs as much as a model's ANN: the model's own joules, solved for the rate.

Every model here is linear in the spikes: silent joules, and so many more for each spike. Two sets
of counts therefore give the joules at every rate: as counted, and without a spike. A direct input's
values are no spikes: they arrive in every step whatever neurons do, and stay.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from math import prod

import numpy as np

from spikeship.hw_models.energy_models.incoming import layers
from spikeship.hw_models.events.counts import EventCounts, LayerCounts
from spikeship.hw_models.events.traffic import spiking
from spikeship.hw_models.graph import Array, FixedGraph


@dataclass(frozen=True)
class BreakEven:
    """The firing rate at which a network and a model's ANN cost the same.

    Attributes:
        factor: on the counted spikes; None where the two never meet.
        rate: the counted rate times it, spikes a neuron and step; None likewise. One above 1 is
            out of reach.
        why: why they never meet, and which then costs less; empty where they meet.
    """

    factor: float | None
    rate: float | None
    why: str = ""


def break_even(
    silent_j: float, counted_j: float, ann_energy_j: float | None, spike_rate: float
) -> BreakEven:
    """Solve ``silent_j + factor * (counted_j - silent_j) = ann_energy_j``.

    Args:
        silent_j: the model's joules without a spike.
        counted_j: its joules as counted.
        ann_energy_j: of its ANN; None where it has none.
        spike_rate: as counted.
    """
    if ann_energy_j is None:
        return BreakEven(None, None, "the model sets no ANN beside the network")
    if silent_j > ann_energy_j:
        return BreakEven(None, None, "the network costs more even without a spike")
    if counted_j <= silent_j:
        return BreakEven(None, None, "the network costs less, and no spike adds to it")
    factor = (ann_energy_j - silent_j) / (counted_j - silent_j)
    return BreakEven(factor, factor * spike_rate)


def spike_rate(graph: FixedGraph, counts: EventCounts) -> float:
    """Spikes of a neuron in a step in which it works, mean over the network; 0 without neurons.

    A spiking input's places count as neurons; a direct input and readouts do not.
    """
    names = spiking(graph)
    sent, places = 0, 0
    if graph.input.name in names:
        sent += int(counts.input_spikes.sum())
        places += prod(graph.input.shape) * counts.num_steps * counts.images
    for layer in counts.layers:
        if layer.name in names:
            sent += int(layer.spikes.sum())
            places += int(layer.neuron_updates.sum())
    return sent / places if places else 0.0


def scaled(graph: FixedGraph, counts: EventCounts, factor: Fraction) -> EventCounts:
    """Counts with every spike ``factor`` times as often, without rounding: over more images.

    Where a direct input and neurons feed one node, its operations are shared out among them by
    messages and mean fan-out, to whole ones.

    Raises:
        CountError: the counts are of another graph.
    """
    names = spiking(graph)
    direct = _direct_shares(graph, counts, names)
    given = factor if graph.input.name in names else Fraction(1)
    return replace(
        counts,
        images=counts.images * factor.denominator,
        input_spikes=counts.input_spikes * int(given * factor.denominator),
        layers=tuple(_layer(layer, factor, direct[layer.name]) for layer in counts.layers),
    )


def _layer(layer: LayerCounts, factor: Fraction, direct: float) -> LayerCounts:
    def arriving(values: Array) -> Array:
        stay = np.rint(values * direct).astype(np.int64)
        return np.asarray(stay * factor.denominator + (values - stay) * factor.numerator)

    return replace(
        layer,
        spikes=layer.spikes * factor.numerator,
        effective=arriving(layer.effective),
        connected=arriving(layer.connected),
        neuron_updates=layer.neuron_updates * factor.denominator,
        messages_in=arriving(layer.messages_in),
        pooled_messages=arriving(layer.pooled_messages),
    )


def _direct_shares(graph: FixedGraph, counts: EventCounts, names: set[str]) -> Mapping[str, float]:
    """Share of what arrives at each node that comes from a direct input."""
    found = {}
    for layer in layers(graph, counts):
        stay = [one.connected for one in layer.incoming if one.synapse.source not in names]
        whole = sum(one.connected for one in layer.incoming)
        only = len(stay) == len(layer.incoming)
        found[layer.name] = 1.0 if only else sum(stay) / whole if whole else 0.0
    return found
