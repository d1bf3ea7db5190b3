"""Compiled counting of messages and of the synapses they reach, step by step."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.events.arrivals import (
    ARRIVING,
    CONNECTED,
    EFFECTIVE,
    KINDS,
    POOLED,
    SENT,
    Arrival,
)
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.graph.layout import last_shape, to_last

ZERO: Any = np.int32(0)
BLOCK = 4096  # neurons whose fan-outs surely add up within 32 bits


@numba.njit(nogil=True, cache=True)
def _block(messages: Any, effective: Any, connected: Any, size: Any) -> Any:
    """Operations that ``size`` messages cause, how many lead anywhere, how many are not 0."""
    first = second = arriving = count = ZERO
    for n in range(size):
        sent = np.int32(messages[n] != 0)
        first = np.int32(first + np.int32(sent * effective[n]))
        second = np.int32(second + np.int32(sent * connected[n]))
        arriving = np.int32(arriving + np.int32(sent & np.int32(connected[n] > 0)))
        count = np.int32(count + sent)
    return first, second, arriving, count


@numba.njit(nogil=True, cache=True)
def _reach(messages: Any, effective: Any, connected: Any, found: Any) -> None:
    images, steps, neurons = messages.shape
    for image in range(images):
        for t in range(steps):
            for begin in range(0, neurons, BLOCK):
                end = min(begin + BLOCK, neurons)
                first, second, arriving, count = _block(
                    messages[image, t, begin:end],
                    effective[begin:end],
                    connected[begin:end],
                    end - begin,
                )
                found[EFFECTIVE, t] += first
                found[CONNECTED, t] += second
                found[ARRIVING, t] += arriving
                found[SENT, t] += count


@numba.njit(nogil=True, cache=True)
def _pooled(messages: Any, pool: Any, connected: Any, found: Any) -> None:
    """Count sums of pool x pool messages that are not zero, where they lead on."""
    images, steps, height, width, channels = messages.shape
    total = np.empty(channels, np.int32)
    for image in range(images):
        for t in range(steps):
            count = np.int64(0)
            for y in range(0, height, pool):
                for x in range(0, width, pool):
                    total[:] = 0
                    for dy in range(pool):
                        for dx in range(pool):
                            row = messages[image, t, y + dy, x + dx]
                            for c in range(channels):
                                total[c] += np.int32(row[c])
                    leads = connected[y, x]
                    for c in range(channels):
                        count += np.int64((total[c] != 0) & (leads[c] > 0))
            found[POOLED, t] += count


@numba.njit(nogil=True, cache=True)
def _nonzero(messages: Any, found: Any) -> None:
    images, steps, neurons = messages.shape
    for image in range(images):
        for t in range(steps):
            row, count = messages[image, t], ZERO
            for n in range(neurons):
                count += np.int32(row[n] != 0)
            found[t] += count


def count_nonzero(messages: NDArray[Any]) -> NDArray[np.int64]:
    """Messages (images, steps, ...) that are not zero, per step."""
    found = np.zeros(messages.shape[1], np.int64)
    _nonzero(messages.reshape(*messages.shape[:2], -1), found)
    return found


class Tally:
    """Counts what messages cause.

    Args:
        graph: the graph.
        arrival: one of its arrivals.
    """

    def __init__(self, graph: FixedGraph, arrival: Arrival) -> None:
        shape = graph.node(arrival.synapse.source).shape
        self.source = arrival.synapse.source
        self.pool = arrival.synapse.pool
        self.shape = last_shape(shape)
        self.effective, self.connected = (
            to_last(part, shape).astype(np.int32) for part in (arrival.effective, arrival.connected)
        )

    def __call__(self, messages: NDArray[Any]) -> NDArray[np.int64]:
        """Count messages (images, steps, neurons) in the engine's order.

        Returns:
            int64 (KINDS, steps), summed over the images: effective and connected operations,
            messages that lead anywhere, the same after the pool, and all messages.
        """
        images, steps = messages.shape[:2]
        found = np.zeros((KINDS, steps), np.int64)
        flat = messages.reshape(images, steps, -1)
        _reach(flat, self.effective.reshape(-1), self.connected.reshape(-1), found)
        if self.pool == 1:
            found[POOLED] = found[ARRIVING]
        else:
            _pooled(messages.reshape(images, steps, *self.shape), self.pool, self.connected, found)
        return found
