"""Counts at another firing rate: every spike counted a factor as often.

A direct input's values are no spikes: they arrive in every step whatever neurons do, and stay.
"""

from collections.abc import Mapping
from dataclasses import replace
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.counting import Counted
from spikeship.hw_models.cost.traffic import spiking
from spikeship.hw_models.counts import EventCounts, LayerCounts, working_steps
from spikeship.hw_models.graph import FixedGraph

Rates = Mapping[str, NDArray[np.float64]]
ROUNDING = 1e-6  # of traffic in float32: a neuron that sends in every step sends once


def scaled(counted: Counted, factor: float) -> Counted:
    """Return counts and traffic with every spike ``factor`` times as often; accuracy is unknown.

    Args:
        counted: a network as it ran.
        factor: from 0 on.
    """
    graph, counts = counted.graph, counted.counts
    scaling = spiking(graph)
    messages = {
        name: (sent * factor if name in scaling else sent)
        for name, sent in counted.traffic.messages.items()
    }
    return Counted(
        graph,
        EventCounts(
            counts.num_steps,
            counts.chip_steps,
            counts.images,
            _times(counts.input_spikes, factor if graph.input.name in scaling else 1.0),
            tuple(_layer(graph, layer, factor, scaling) for layer in counts.layers),
        ),
        replace(counted.traffic, messages=messages),
        None,
    )


def spikes_per_step(counted: Counted) -> float | None:
    """Mean messages of a spiking neuron (or spiking input) in a step in which it works.

    None where nothing can spike.
    """
    rows = _totals(counted)
    places = sum(each for _, each in rows)
    return float(sum(sent for sent, _ in rows) / places) if places else None


def most_often(counted: Counted) -> float:
    """The factor at which the busiest layer sends once a neuron and step, on its average.

    Single neurons may send more often there than they can: ``share_beyond`` says how many. 1 where
    nothing was sent.
    """
    return min((places / sent for sent, places in _totals(counted) if sent > 0), default=1.0)


def neuron_rates(counted: Counted) -> Rates | None:
    """Messages a step of every neuron (and spiking input), mean over images and working steps.

    By name of its node. None where the traffic does not tell neurons apart, or nothing can spike.
    """
    names = spiking(counted.graph)
    if not counted.traffic.recorded or not names:
        return None
    return {
        name: counted.traffic.messages[name].sum(axis=0, dtype=np.float64).ravel()
        / _works(counted, name)
        for name in sorted(names)
    }


def share_beyond(rates: Rates, factor: float) -> float:
    """Share of neurons that would have to send more than once a step at a factor on all rates."""
    return _share(np.concatenate(list(rates.values())), factor)


def most_beyond(rates: Rates, factor: float) -> tuple[str, float]:
    """The node of which the largest share would have to, and that share."""
    return max(((name, _share(each, factor)) for name, each in rates.items()), key=itemgetter(1))


def _share(rates: NDArray[np.float64], factor: float) -> float:
    return float(np.mean(factor * rates > 1 + ROUNDING))


def nothing_scales(counted: Counted) -> str | None:
    """Why a factor changes nothing here; None where it does."""
    rows = _totals(counted)
    if not rows:
        return "nothing in this network spikes, its input included"
    if not any(sent for sent, _ in rows):
        return "no spike was sent in the run"
    return None


def _totals(counted: Counted) -> list[tuple[float, float]]:
    """Messages of each spiking node, and the neurons times steps in which it could send."""
    rows = []
    for name in sorted(spiking(counted.graph)):
        sent = counted.traffic.messages[name]
        places = _works(counted, name) * float(np.prod(sent.shape[1:]))
        rows.append((float(sent.sum(dtype=np.float64)), places))
    return rows


def _works(counted: Counted, name: str) -> int:
    """Steps in which a node can send."""
    graph, steps = counted.graph, counted.counts.num_steps
    return steps if name == graph.input.name else working_steps(graph, name, steps)


def _layer(graph: FixedGraph, layer: LayerCounts, factor: float, scaling: set[str]) -> LayerCounts:
    sources = {synapse.source for synapse in graph.incoming(layer.name)}
    arriving = factor if sources & scaling else 1.0
    own = factor if layer.name in scaling else 1.0
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
