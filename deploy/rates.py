"""Counts at another firing rate: every spike counted a factor as often.

A direct input's values are no spikes: they arrive in every step whatever neurons do, and stay.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.counting import Counted
from spikeship.hw_models.cost.traffic import senders
from spikeship.hw_models.counts import EventCounts, LayerCounts, working_steps
from spikeship.hw_models.graph import FixedGraph


def scaled(counted: Counted, factor: float) -> Counted:
    """Return counts and traffic with every spike ``factor`` times as often; accuracy is unknown.

    Args:
        counted: a network as it ran.
        factor: from 0 on.
    """
    graph, counts = counted.graph, counted.counts
    spiking = _spiking(graph)
    messages = {
        name: (sent * np.float32(factor) if name in spiking else sent)
        for name, sent in counted.traffic.messages.items()
    }
    return Counted(
        graph,
        EventCounts(
            counts.num_steps,
            counts.chip_steps,
            counts.images,
            _times(counts.input_spikes, factor if graph.input.name in spiking else 1.0),
            tuple(_layer(graph, layer, factor, spiking) for layer in counts.layers),
        ),
        replace(counted.traffic, messages=messages),
        None,
    )


def spikes_per_step(counted: Counted) -> float:
    """Mean messages of a spiking neuron (or spiking input) in a step in which it works."""
    sent, places = zip(*_totals(counted), strict=True)
    return float(sum(sent) / sum(places))


def most_often(counted: Counted) -> float:
    """The factor at which the busiest layer sends from every neuron in every step; 1 if silent."""
    return min((places / sent for sent, places in _totals(counted) if sent > 0), default=1.0)


def _totals(counted: Counted) -> list[tuple[float, float]]:
    """Messages of each spiking node, and the neurons times steps in which it could send."""
    graph, steps = counted.graph, counted.counts.num_steps
    rows = []
    for name in sorted(_spiking(graph)):
        sent = counted.traffic.messages[name]
        works = steps if name == graph.input.name else working_steps(graph, name, steps)
        rows.append((float(sent.sum(dtype=np.float64)), works * float(np.prod(sent.shape[1:]))))
    return rows


def _spiking(graph: FixedGraph) -> set[str]:
    names = {node.name for node in senders(graph)}
    return names if graph.input.encoding == "direct" else names | {graph.input.name}


def _layer(graph: FixedGraph, layer: LayerCounts, factor: float, spiking: set[str]) -> LayerCounts:
    sources = {synapse.source for synapse in graph.incoming(layer.name)}
    arriving = factor if sources & spiking else 1.0
    own = factor if layer.name in spiking else 1.0
    return replace(
        layer,
        spikes=_times(layer.spikes, own),
        effective=_times(layer.effective, arriving),
        connected=_times(layer.connected, arriving),
        messages_in=_times(layer.messages_in, arriving),
        pooled_messages=_times(layer.pooled_messages, arriving),
    )


def _times(values: NDArray[np.int64], factor: float) -> NDArray[np.int64]:
    return np.asarray(np.rint(values * factor), dtype=np.int64)
