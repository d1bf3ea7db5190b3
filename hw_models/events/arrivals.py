"""What a message causes, and when: a synapse object as the events that its messages arrive in."""

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from spikeship.hw_models.events.fanout import fanout
from spikeship.hw_models.graph import AnySynapse, Array, Dense, FixedGraph

EFFECTIVE, CONNECTED, ARRIVING, POOLED, SENT = range(5)
KINDS = 5
ALL = (EFFECTIVE, CONNECTED, ARRIVING, POOLED)


@dataclass(frozen=True, eq=False)
class Arrival:
    """Events that a synapse object's messages cause ``delay`` steps after they were sent.

    Attributes:
        synapse: the object.
        delay: in steps.
        effective: synapses of non-zero weight that a message of each source neuron meets, of the
            source's shape.
        connected: all synapses it meets.
        kinds: which counts these are.
    """

    synapse: AnySynapse
    delay: int
    effective: Array
    connected: Array
    kinds: tuple[int, ...] = ALL


_KNOWN: WeakKeyDictionary[FixedGraph, tuple[Arrival, ...]] = WeakKeyDictionary()


def arrivals(graph: FixedGraph) -> tuple[Arrival, ...]:
    """All arrivals of a graph, by synapse in its order; remembered as long as the graph lives.

    A synapse object of one delay is one arrival. Where weights have delays of their own, messages
    arrive once, at the object's delay, and operations with the delay of their weights.
    """
    if graph not in _KNOWN:
        _KNOWN[graph] = tuple(
            arrival for synapse in graph.synapses for arrival in _of_synapse(graph, synapse)
        )
    return _KNOWN[graph]


def _of_synapse(graph: FixedGraph, synapse: AnySynapse) -> list[Arrival]:
    whole = Arrival(synapse, synapse.delay, *fanout(graph, synapse))
    if not isinstance(synapse, Dense) or synapse.delays is None:
        return [whole]
    shape = graph.node(synapse.source).shape
    delays = np.broadcast_to(synapse.delays, synapse.weight.shape)
    found = [Arrival(synapse, synapse.delay, whole.effective, whole.connected, (ARRIVING, POOLED))]
    for extra in np.unique(delays):
        chosen = delays == extra
        effective, connected = (
            _spread(part.sum(axis=0), shape, synapse.pool)
            for part in (chosen & (synapse.weight != 0), chosen)
        )
        delay = synapse.delay + int(extra)
        found.append(Arrival(synapse, delay, effective, connected, (EFFECTIVE, CONNECTED)))
    return found


def _spread(values: Array, shape: tuple[int, ...], pool: int) -> Array:
    """Give every neuron of a pool window its window's value."""
    if pool == 1:
        return values.reshape(shape)
    channels, height, width = shape
    values = values.reshape(channels, height // pool, width // pool)
    return values.repeat(pool, axis=1).repeat(pool, axis=2)
