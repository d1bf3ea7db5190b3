"""Counts at another firing rate: every spike counted a factor as often.

A direct input's values are no spikes: they arrive in every step whatever neurons do, and stay.
"""

from collections.abc import Mapping
from dataclasses import fields, replace
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.run.counting import Counted
from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import Level
from spikeship.hw_models.cost.core_energy import core_energy
from spikeship.hw_models.cost.core_work import CoreWork, core_work
from spikeship.hw_models.cost.step_time import step_times
from spikeship.hw_models.events.counts import EventCounts, LayerCounts, working_steps
from spikeship.hw_models.events.traffic import spiking
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.placement import Placement

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


class RateEnergy:
    """Joules of an inference by the factor on its firing rate.

    Args:
        counted: the network as it ran.
        placement: its cores.
    """

    def __init__(self, counted: Counted, placement: Placement) -> None:
        self.chip = chips.get(placement.chip)
        self.used = placement.chips
        steps = counted.counts.num_steps
        self._silent, self._own = (
            core_work(counted.graph, placement, self.chip, scaled(counted, at).traffic, steps)
            for at in (0.0, 1.0)
        )
        shares = {
            layer.name: layer.effective / np.maximum(layer.connected, 1)
            for layer in counted.counts.layers
        }
        self._effective = np.array([shares[core.layer] for core in self._own.cores])

    def at(self, factor: float, level: Level) -> float:
        """Dynamic and static energy at one end of the constants' ranges or between, in joules."""
        work = self._work(factor)
        if level == "low":
            work = work.reading(self._effective)
        dynamic = sum(float(part.sum()) for part in core_energy(work, self.chip, level).values())
        seconds = step_times(work, self.chip, level).total
        return dynamic + self.chip.static_power.at(level) * self.used * seconds

    def _work(self, factor: float) -> CoreWork:
        mixed = {}
        for field in fields(CoreWork):
            if field.name != "cores":
                silent, own = (getattr(each, field.name) for each in (self._silent, self._own))
                mixed[field.name] = silent + factor * (own - silent)
        return replace(self._own, **mixed)
