"""Flows: how many messages go from which core to which.

A message goes once to each core in which it meets a synapse. Pairs of cores that always carry the
same messages, as the channel groups that read a tile do, share one flow.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from spikeship.hw_models.cost.operations import synapse_counts
from spikeship.hw_models.cost.regions import Regions, Steps, axis_taps, inside, segments
from spikeship.hw_models.events.traffic import Sent
from spikeship.hw_models.graph import AnySynapse, Array, Conv, Dense, Identity, Sparse
from spikeship.hw_models.placement.placement import Range


@dataclass(frozen=True, eq=False)
class Flows:
    """Messages of one synapse between the regions of its ends.

    Attributes:
        messages: (flows, steps sent).
        flow, source, target: of every pair of cores that messages go between, its flow and the
            regions it joins, (pairs,).
    """

    messages: Steps
    flow: Array
    source: Array
    target: Array


def flows(synapse: AnySynapse, source: Regions, target: Regions, messages: Sent) -> Flows:
    """Count what goes from each core of the source to each core of the target.

    Args:
        synapse: the synapse.
        source: the regions of its source.
        target: the regions of its target.
        messages: of its source, (steps, *shape).
    """
    return _FLOWS[type(synapse)](synapse, source, target, messages)


def _dense(synapse: Dense, source: Regions, target: Regions, messages: Sent) -> Flows:
    begin, end = np.divmod(np.arange(source.count * target.count), target.count)
    return Flows(source.sums(messages), begin, begin, end)


def _listed(synapse: Sparse | Identity, source: Regions, target: Regions, messages: Sent) -> Flows:
    position = _positions(messages.shape[1:], synapse.pool)
    counts = synapse_counts(synapse, target, int(position.max()) + 1).tocsc()
    reached = counts[:, position].tocoo()
    pair = source.of_neuron[reached.col] * target.count + reached.row
    pairs, flow = np.unique(pair, return_inverse=True)
    read = csr_matrix((np.ones(len(flow)), (flow, reached.col)), shape=(len(pairs), len(position)))
    sent = np.asarray(messages.reshape(len(messages), -1), dtype=np.float64)
    return Flows(read @ sent.T, np.arange(len(pairs)), pairs // target.count, pairs % target.count)


def _positions(shape: tuple[int, ...], pool: int) -> Array:
    """Pooled position of every source neuron, flat."""
    if pool == 1:
        return np.arange(int(np.prod(shape)))
    channels, rows, columns = shape
    pooled = (channels, rows // pool, columns // pool)
    position = np.arange(int(np.prod(pooled))).reshape(pooled)
    return np.asarray(position.repeat(pool, axis=1).repeat(pool, axis=2).ravel())


def _conv(synapse: Conv, source: Regions, target: Regions, messages: Sent) -> Flows:
    _, *sides = messages.shape[1:]
    down = _Reach(axis_taps(synapse, 0, sides[0], target.rows), source.rows)
    across = _Reach(axis_taps(synapse, 1, sides[1], target.columns), source.columns)
    users = _users(synapse, source, target)
    shape = (len(users), len(down.source), len(across.source), len(messages))
    found = np.zeros(shape)
    for i, channels in enumerate(users):
        sent = messages[:, channels[0] : channels[1]].sum(axis=1, dtype=np.float64)
        sums = np.matmul(down.read, sent @ across.read.T)
        found[i] = sums.transpose(1, 2, 0)
    pairs = np.concatenate(
        [_pairs(i, np.array(ends), shape) for i, ends in enumerate(users.values())]
    )
    flow, begin, end, y, x = pairs.T
    return Flows(
        found.reshape(-1, len(messages)),
        flow,
        np.ravel_multi_index((begin, down.source[y], across.source[x]), source.shape),
        np.ravel_multi_index((end, down.target[y], across.target[x]), target.shape),
    )


def _pairs(user: int, ends: Array, shape: tuple[int, ...]) -> Array:
    """Flow, channel groups at both ends, and places among the row and the column pairs."""
    which, y, x = (part.ravel() for part in np.indices((len(ends), *shape[1:3])))
    flow = np.ravel_multi_index((np.full_like(y, user), y, x), shape[:3])
    return np.stack([flow, *ends[which].T, y, x], axis=1)


def _users(synapse: Conv, source: Regions, target: Regions) -> dict[Range, list[tuple[int, int]]]:
    """Source channels that go together, and the channel groups (of source, of target) they join."""
    found: dict[Range, list[tuple[int, int]]] = {}
    for end, outputs in enumerate(target.channels):
        parts = segments(synapse, outputs)
        first, last = parts[0].channels[0], parts[-1].channels[1]
        for begin, (low, high) in enumerate(source.channels):
            low, high = max(low, first), min(high, last)
            if low < high:
                found.setdefault((low, high), []).append((begin, end))
    return found


class _Reach:
    """Pairs of a range of the source and one of the target, along one axis, that messages join.

    Attributes:
        source, target: their indices, (pairs,).
        read: 1 at the source positions from which a message goes, (pairs, positions).
    """

    def __init__(self, taps: Array, ranges: tuple[Range, ...]) -> None:
        joined = inside(ranges, taps.shape[1])[:, None, :] & (taps > 0)
        self.source, self.target = np.nonzero(joined.any(axis=2))
        self.read = joined[self.source, self.target].astype(np.float64)


_FLOWS: dict[type, Callable[[Any, Regions, Regions, Sent], Flows]] = {
    Conv: _conv,
    Dense: _dense,
    Sparse: _listed,
    Identity: _listed,
}
