"""What one synapse object was sent, and our counts of it."""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.events.counts import count_events
from spikeship.hw_models.events.fanout import fanout
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import AnySynapse, FixedGraph, Readout

Array = NDArray[Any]


class LedgerError(SpikeshipError, ValueError):
    """A network that cannot be counted by others; the message says why."""


@dataclass(frozen=True, eq=False)
class Events:
    """Messages that one synapse object was sent in the T steps of its source.

    Attributes:
        graph: its network. synapse: the object.
        messages: as its source sent them, (images, T, *source shape).
    """

    graph: FixedGraph
    synapse: AnySynapse
    messages: Array

    @property
    def steps(self) -> int:
        """Images times steps."""
        return int(prod(self.messages.shape[:2]))

    @property
    def sources(self) -> int:
        """Neurons of the source."""
        return int(prod(self.messages.shape[2:]))

    @cached_property
    def sent(self) -> Array:
        """How often each source neuron sent something."""
        return np.count_nonzero(self.messages, axis=(0, 1))

    @property
    def spikes(self) -> int:
        """Messages that are not zero: before a pool, spikes."""
        return int(self.sent.sum())

    @cached_property
    def pooled(self) -> Array:
        """Messages after the sum-pool, (images * T, *pooled shape)."""
        flat = self.messages.reshape(self.steps, *self.messages.shape[2:]).astype(np.int64)
        if self.synapse.pool == 1:
            return flat
        side = self.synapse.pool
        steps, channels, height, width = flat.shape
        windows = flat.reshape(steps, channels, height // side, side, width // side, side)
        return np.asarray(windows.sum(axis=(3, 5)))

    @property
    def pooled_messages(self) -> int:
        """Pooled messages that are not zero."""
        return int(np.count_nonzero(self.pooled))

    @property
    def effective_fanout(self) -> Array:
        """Synapses of non-zero weight that a message of each source neuron reaches."""
        return fanout(self.graph, self.synapse)[0]

    @property
    def connected_fanout(self) -> Array:
        """Stored synapses that a message of each source neuron reaches."""
        return fanout(self.graph, self.synapse)[1]

    @property
    def effective(self) -> int:
        """Our effective operations."""
        return int((self.sent * self.effective_fanout).sum())

    @property
    def connected(self) -> int:
        """Our connected operations."""
        return int((self.sent * self.connected_fanout).sum())

    @property
    def dense(self) -> int:
        """Our bound: connected operations with every source firing in every step."""
        return int(self.connected_fanout.sum()) * self.steps


def events(graph: FixedGraph, recording: Recording) -> tuple[Events, ...]:
    """Every synapse object with what it was sent.

    Args:
        graph: a gated network.
        recording: of every node.

    Raises:
        LedgerError: an ungated network, whose last messages never arrive, or counts of a node
            that its synapse objects' do not add up to.
    """
    if not graph.gated:
        raise LedgerError(
            "ledger: the graph is ungated, so messages of its last steps never arrive, which no "
            "other tool knows; count a network that was quantized here"
        )
    sent = {graph.input.name: np.asarray(recording.input)}
    for node in graph.nodes:
        if not isinstance(node, Readout):
            first = graph.depths[node.name]
            window = slice(first, first + recording.num_steps)
            sent[node.name] = np.asarray(recording.nodes[node.name])[:, window]
    found = tuple(Events(graph, one, sent[one.source]) for one in graph.synapses)
    _check(graph, recording, found)
    return found


def _check(graph: FixedGraph, recording: Recording, found: tuple[Events, ...]) -> None:
    counts = count_events(graph, recording.nodes, recording.input)
    for layer in counts.layers:
        mine = [one for one in found if one.synapse.target == layer.name]
        added = [sum(one.effective for one in mine), sum(one.connected for one in mine)]
        counted = [int(layer.effective.sum()), int(layer.connected.sum())]
        if added != counted:
            raise LedgerError(
                f"layer {layer.name!r}: its synapse objects add up to {added} operations "
                f"(effective, connected), the counts say {counted}; messages do not arrive in T "
                "steps, give a graph whose branches are no deeper than its output"
            )
