"""Events counted the slow way: every synapse asked what it reaches, every message followed.

Nothing of ``hw_models/events/counts.py`` or ``fanout.py`` is used. What a message of a source
reaches is read off the reference: the synapse with all its weights replaced by one is given each
neuron's message alone, and what comes out are the connections it has.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import (
    AnySynapse,
    Dense,
    FixedGraph,
    Identity,
    Input,
    Node,
    Readout,
    Sparse,
)
from spikeship.hw_models.reference import interpreter as reference

Array = NDArray[np.int64]


@dataclass(frozen=True)
class Reached:
    """Connections of each source neuron that take the same delay: of non-zero weight, and all."""

    delay: int
    effective: Array
    connected: Array


def slow_counts(graph: FixedGraph, recording: Recording) -> dict[str, dict[str, Array]]:
    """Count every node's events from what it sent: by node and count, one number a chip step."""
    return {node.name: _layer(graph, node, recording) for node in graph.nodes}


def _layer(graph: FixedGraph, node: Node, recording: Recording) -> dict[str, Array]:
    num_steps, images = recording.num_steps, len(recording.input)
    steps = graph.chip_steps(num_steps)
    keys = ("spikes", "effective", "connected", "messages_in", "pooled_messages")
    found = {key: np.zeros(steps, np.int64) for key in (*keys, "neuron_updates")}
    dense = 0
    for synapse in graph.incoming(node.name):
        source = graph.node(synapse.source)
        is_input = isinstance(source, Input)
        sent = recording.input if is_input else recording.nodes[source.name]
        own_steps = num_steps if graph.gated or is_input else steps
        groups = list(_reached(graph, synapse))
        leads_on = np.sum([group.connected for group in groups], axis=0) > 0
        for now in range(sent.shape[1]):
            message = np.asarray(sent[:, now], np.int64)
            events = np.count_nonzero(message, axis=0)
            for group in groups:
                if now + group.delay < steps:
                    found["effective"][now + group.delay] += (events * group.effective).sum()
                    found["connected"][now + group.delay] += (events * group.connected).sum()
            if now + synapse.delay < steps:
                pooled = _pooled(message, synapse.pool)
                found["messages_in"][now + synapse.delay] += events[leads_on].sum()
                found["pooled_messages"][now + synapse.delay] += np.count_nonzero(
                    pooled * _leads_on_after_pool(leads_on, synapse.pool)
                )
        for group in groups:
            arriving = own_steps if graph.gated else min(own_steps, max(0, steps - group.delay))
            dense += int(group.connected.sum()) * arriving
    depth = graph.depths[node.name]
    for step in range(steps):
        if not graph.gated or depth <= step < depth + num_steps:
            found["neuron_updates"][step] = images * int(np.prod(node.shape))
        if not isinstance(node, Readout):
            found["spikes"][step] = np.count_nonzero(recording.nodes[node.name][:, step])
    return found | {"dense": np.array(dense)}


def _reached(graph: FixedGraph, synapse: AnySynapse) -> Iterator[Reached]:
    shape = graph.node(synapse.source).shape
    size = int(np.prod(shape))
    if isinstance(synapse, Identity):
        ones = np.ones(shape, np.int64)
        yield Reached(synapse.delay, ones, ones)
        return
    target = graph.node(synapse.target).shape
    alone = np.eye(size, dtype=np.int64).reshape(size, *shape)
    weight = synapse.data if isinstance(synapse, Sparse) else synapse.weight
    late = np.zeros(weight.shape, np.int64)
    if isinstance(synapse, Dense) and synapse.delays is not None:
        late = np.broadcast_to(synapse.delays, weight.shape)
    for extra in np.unique(late) if late.size else (0,):
        counts = []
        for present in (weight != 0, np.ones(weight.shape, bool)):
            ones = (present & (late == extra)).astype(np.int16)
            plain = replace(synapse, weight_exp=0, num_weight_bits=8, **_weights(synapse, ones))
            reached = reference.apply(plain, alone, target).reshape(size, -1).sum(axis=1)
            counts.append(reached.reshape(shape))
        yield Reached(synapse.delay + int(extra), *counts)


def _weights(synapse: AnySynapse, ones: NDArray[np.int16]) -> dict[str, NDArray[np.int16] | None]:
    if isinstance(synapse, Sparse):
        return {"data": ones}
    return {"weight": ones, "delays": None} if isinstance(synapse, Dense) else {"weight": ones}


def _pooled(message: Array, side: int) -> Array:
    if side == 1:
        return message
    images, channels, height, width = message.shape
    total = np.zeros((images, channels, height // side, width // side), np.int64)
    for y in range(height):
        for x in range(width):
            total[..., y // side, x // side] += message[..., y, x]
    return total


def _leads_on_after_pool(leads_on: NDArray[np.bool_], side: int) -> NDArray[np.bool_]:
    return leads_on if side == 1 else leads_on[..., ::side, ::side]
