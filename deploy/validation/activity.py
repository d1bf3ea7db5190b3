"""What fires in a workload, and how often: rates from its description, event counts from rates."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.validation.fields import RowError
from spikeship.deploy.validation.firing_patterns import EVEN, Pattern
from spikeship.deploy.validation.network import INPUT, Network
from spikeship.deploy.validation.rows import Workload
from spikeship.hw_models.events.arrivals import ARRIVING, CONNECTED, EFFECTIVE, POOLED, arrivals
from spikeship.hw_models.events.counts import (
    EventCounts,
    LocalCounts,
    local_steps,
    on_the_chip,
    working_steps,
)
from spikeship.hw_models.graph import FixedGraph

IMAGES = 10**6  # counts are whole numbers: a mean of so many images holds a rate to six digits

Rates = Mapping[str, float]  # spikes a neuron and step, by node


def rates_of(
    workload: Workload, network: Network, fitted: float, pattern: Pattern = EVEN
) -> dict[str, float]:
    """Spikes a neuron and step, of the input and every layer.

    Args:
        workload: what the description says.
        network: the network of it.
        fitted: the rate where the description leaves it to the fit.
        pattern: how the layers that are left to the fit differ.
    """
    given = {INPUT: workload.input_rate}
    given |= {name: layer.rate for name, (layer, _) in network.layer_of.items()}
    if not workload.open_rate:
        common: dict[str, float] = {}
    elif workload.fitted:
        common = {INPUT: fitted}
        for name, (layer, place) in network.layer_of.items():
            common[name] = fitted * pattern.of(layer.name, place)
    elif workload.rate is not None:
        common = dict.fromkeys(given, workload.rate)
    else:
        assert workload.synops_per_step is not None
        rate = _rate_of_synops(network.graph, given, workload.synops_per_step)
        common = dict.fromkeys(given, rate)
    return {name: common[name] if rate is None else rate for name, rate in given.items()}


def _rate_of_synops(graph: FixedGraph, given: Mapping[str, float | None], synops: float) -> float:
    """One rate for all without their own that makes so many operations a step."""
    said = free = 0.0
    for arrival in arrivals(graph):
        operations = float(arrival.connected.sum())
        rate = given[arrival.synapse.source]
        said += operations * (rate or 0.0)
        free += operations if rate is None else 0.0
    if not free:
        raise RowError(
            f"synops_per_step {synops:g}: all that feeds a layer has a rate of its own, so the "
            "count is known: give the rest a rate too and leave 'synops_per_step' out"
        )
    rate = (synops - said) / free
    if not 0 <= rate <= 1:
        raise RowError(
            f"synops_per_step {synops:g} takes {rate:.3g} spikes a neuron and step; it must lie "
            "in 0..1: correct the layers or the count"
        )
    return rate


def count(network: Network, rates: Rates, steps: int) -> EventCounts:
    """Event counts of neurons that fire at these rates, the same in every step."""
    graph = network.graph
    counts = LocalCounts.nothing(graph, local_steps(graph, steps))
    counts.active[:] = IMAGES
    _fill(counts.input_spikes, rates[INPUT] * np.prod(graph.input.shape), steps)
    for name, spikes in counts.spikes.items():
        neurons = np.prod(graph.node(name).shape)
        _fill(spikes, rates[name] * neurons, working_steps(graph, name, steps))
    for arrival, arrived in zip(arrivals(graph), counts.arrived, strict=True):
        source, window = arrival.synapse.source, arrival.synapse.pool**2
        rate, meets = rates[source], np.count_nonzero(arrival.connected)
        sent = steps if source == INPUT else working_steps(graph, source, steps)
        _fill(arrived[EFFECTIVE], rate * arrival.effective.sum(), sent)
        _fill(arrived[CONNECTED], rate * arrival.connected.sum(), sent)
        _fill(arrived[ARRIVING], rate * meets, sent)
        # a window passes a message on where at least one of its neurons fired
        _fill(arrived[POOLED], (1 - (1 - rate) ** window) * meets / window, sent)
    return on_the_chip(graph, steps, IMAGES, counts)


def _fill(into: NDArray[np.int64], each: float, steps: int) -> None:
    into[:steps] = round(float(each) * IMAGES)
