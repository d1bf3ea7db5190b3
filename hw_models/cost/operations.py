"""What a synapse's messages cause on each core of its target, exactly, without a matrix expanded.

A message reads the synapses it has into a core word by word, and causes one operation at each. In a
convolution both depend only on how many kernel taps lead from its row and its column into the
core's region, so messages are counted by these two numbers first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from spikeship.hw_models.cost.regions import Regions, Segment, Steps, axis_taps, segments
from spikeship.hw_models.events.traffic import Sent
from spikeship.hw_models.graph import AnySynapse, Array, Conv, Dense, Identity, Sparse

WORD = 64  # bits of synaptic memory read at a time
HELD = 2**22  # counts by taps held at a time


@dataclass(frozen=True, eq=False)
class Arriving:
    """What arrives at a target's cores ``delay`` steps after it was sent.

    Attributes:
        delay: steps.
        synops: operations at stored weights, (cores, steps sent).
        words: words of synaptic memory read.
        messages: messages received.
    """

    delay: int
    synops: Steps
    words: Steps
    messages: Steps


def arriving(synapse: AnySynapse, target: Regions, messages: Sent, bits: int) -> list[Arriving]:
    """Count what a source's messages cause on each core of the target.

    Where a dense synapse's weights have delays of their own, messages and words are booked at the
    object's delay, operations at their weights'.

    Args:
        synapse: the synapse.
        target: the regions of its target.
        messages: of its source, (steps, *shape).
        bits: that one of its synapses takes in memory.
    """
    return _ARRIVING[type(synapse)](synapse, target, messages, bits)


def synapse_counts(synapse: AnySynapse, target: Regions, columns: int) -> csr_matrix:
    """Stored synapses from every source position into each region, (regions, columns)."""
    if isinstance(synapse, Sparse):
        rows = np.repeat(target.of_neuron, np.diff(synapse.indptr))
        indices: Array = synapse.indices
    else:
        rows, indices = target.of_neuron, np.arange(columns)
    ones = np.ones(len(rows), np.int64)
    return csr_matrix((ones, (rows, indices)), shape=(target.count, columns))  # adds up doubles


def pooled(messages: Sent, pool: int) -> Steps:
    """Messages (steps, *shape) added up over pool windows, (steps, positions)."""
    steps = len(messages)
    if pool > 1:
        channels, rows, columns = messages.shape[1:]
        windows = messages.reshape(steps, channels, rows // pool, pool, columns // pool, pool)
        return np.asarray(windows.sum(axis=(3, 5), dtype=np.float64).reshape(steps, -1))
    return np.asarray(messages.reshape(steps, -1), dtype=np.float64)


def _conv(synapse: Conv, target: Regions, messages: Sent, bits: int) -> list[Arriving]:
    steps = len(messages)
    groups, rows, columns = target.shape
    found = np.zeros((3, groups, rows, columns, steps))
    taps = _Taps(synapse, target, messages.shape[2:])
    by_outputs = [segments(synapse, outputs) for outputs in target.channels]
    for channels in dict.fromkeys(one.channels for row in by_outputs for one in row):
        sent = messages[:, channels[0] : channels[1]].sum(axis=1, dtype=np.float64)
        users = _users(by_outputs, channels)
        for begin in range(0, steps, taps.block):
            some = slice(begin, begin + taps.block)
            counted = taps.count(sent[some])
            for outputs, cores in users.items():
                found[:, cores, :, :, some] += taps.work(counted, outputs, bits)[:, None]
    synops, words, received = found.reshape(3, target.count, steps)
    return [Arriving(synapse.delay, synops, words, received)]


def _users(by_outputs: list[list[Segment]], channels: tuple[int, int]) -> dict[int, list[int]]:
    """Channel groups that these source channels lead into, by the outputs each reaches there."""
    found: dict[int, list[int]] = {}
    for i, row in enumerate(by_outputs):
        for segment in row:
            if segment.channels == channels:
                found.setdefault(segment.outputs, []).append(i)
    return found


class _Taps:
    """Source positions sorted by the taps with which they reach each range of rows and columns."""

    def __init__(self, synapse: Conv, target: Regions, sides: tuple[int, ...]) -> None:
        self.shape = target.shape[1:]
        down = axis_taps(synapse, 0, sides[0], target.rows)
        across = axis_taps(synapse, 1, sides[1], target.columns)
        self.most = (max(1, int(down.max())), max(1, int(across.max())))
        self._down, self._across = _alike(down, self.most[0]), _alike(across, self.most[1])
        self.block = max(1, HELD // ((sides[0] + len(self._down)) * len(self._across)))

    def count(self, sent: Steps) -> Steps:
        """Messages (steps, y, x) as (steps, rows, taps, columns, taps)."""
        counted = np.matmul(self._down, sent @ self._across.T)
        (rows, columns), (down, across) = self.shape, self.most
        return np.asarray(counted.reshape(len(sent), rows, down, columns, across))

    def work(self, counted: Steps, outputs: int, bits: int) -> Steps:
        """Operations, words and messages: (3, rows, columns, steps)."""
        down, across = (np.arange(1, most + 1) for most in self.most)
        synops = outputs * np.outer(down, across)
        kinds = np.stack([synops, -(-synops * bits // WORD), np.ones_like(synops)])
        return np.asarray(np.einsum("trqcp,kqp->krct", counted, kinds, optimize=True))


def _alike(taps: Array, most: int) -> Steps:
    """1 where a range meets a position with n taps, n from 1 to ``most``, (rows, positions)."""
    alike = taps[:, None, :] == np.arange(1, most + 1)[:, None]
    return np.asarray(alike.reshape(-1, taps.shape[1]), dtype=np.float64)


def _dense(synapse: Dense, target: Regions, messages: Sent, bits: int) -> list[Arriving]:
    total = messages.sum(axis=tuple(range(1, messages.ndim)), dtype=np.float64)
    words = np.outer(-(-target.sizes * bits // WORD), total)
    received = np.outer(np.ones(target.count), total)
    synops = np.outer(target.sizes, total)
    if synapse.delays is None:
        return [Arriving(synapse.delay, synops, words, received)]
    nothing = np.zeros_like(total)[None]
    return [
        Arriving(synapse.delay, nothing, words, received),
        *_delayed(synapse, target, pooled(messages, synapse.pool)),
    ]


def _delayed(synapse: Dense, target: Regions, sent: Steps) -> list[Arriving]:
    """Operations of a dense synapse whose weights have delays of their own."""
    assert synapse.delays is not None  # the caller's case
    delays = np.broadcast_to(synapse.delays, synapse.weight.shape)
    order = np.argsort(target.of_neuron, kind="stable")
    starts = np.concatenate([[0], np.cumsum(target.sizes)[:-1]])
    nothing = np.zeros((1, len(sent)))
    found = []
    for extra in np.unique(delays):
        chosen = (delays[order] == extra).astype(np.float64)
        fanout = np.add.reduceat(chosen, starts, axis=0)
        found.append(Arriving(synapse.delay + int(extra), fanout @ sent.T, nothing, nothing))
    return found


def _listed(
    synapse: Sparse | Identity, target: Regions, messages: Sent, bits: int
) -> list[Arriving]:
    sent = pooled(messages, synapse.pool).T
    counts = synapse_counts(synapse, target, len(sent))
    words, received = counts.copy(), counts.copy()
    words.data = -(-counts.data * bits // WORD)
    received.data = np.minimum(counts.data, 1)
    return [Arriving(synapse.delay, counts @ sent, words @ sent, received @ sent)]


_ARRIVING: dict[type, Callable[[Any, Regions, Sent, int], list[Arriving]]] = {
    Conv: _conv,
    Dense: _dense,
    Sparse: _listed,
    Identity: _listed,
}
