"""A staged network in one pass over counts of spikes: exact, and without a loop over time.

Trains of spikes are prefixes, so counts say all. The sums of counts are the whole input of a
population; its levels are its count. What no count shows is whether a potential met its rail on
the way, or a step left 24 bits: that cannot be where a proof is in the graph, and elsewhere the
positive weights' and the negative weights' sums are looked at by themselves. Images of which even
these do not tell are run step by step.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.events.arrivals import (
    ARRIVING,
    CONNECTED,
    EFFECTIVE,
    POOLED,
    SENT,
    arrivals,
)
from spikeship.hw_models.events.counts import LocalCounts
from spikeship.hw_models.events.tally import Tally
from spikeship.hw_models.graph import (
    AnySynapse,
    Array,
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Neuron,
    Readout,
    Sparse,
    parts,
)
from spikeship.hw_models.graph.layout import last_shape, per_neuron
from spikeship.hw_models.simulator.cpu.staged_kernels import count_at_least, count_levels, largest
from spikeship.hw_models.simulator.sums.sums import Sums

# counts are bytes, and T thresholds stay within 30 bits
MOST_STEPS = 127
_CACHED_BYTES = 6 * 2**20
_LEAST_IMAGES = 16
_LEVELS: Any = count_levels
_AT_LEAST: Any = count_at_least
_LARGEST: Any = largest


def has_pass(graph: FixedGraph) -> bool:
    """Whether one pass over counts says all of a graph: what we make, unless T is beyond bytes."""
    if graph.timing != "staged" or graph.num_steps is None or graph.num_steps > MOST_STEPS:
        return False
    spikes_with_signs = graph.input.encoding != "direct" and graph.input.signed
    relayed = {node.name for node in graph.nodes if isinstance(node, Neuron) and node.relay}
    return not spikes_with_signs and all(
        synapse.weight_exp >= 0
        and (synapse.target not in relayed or (isinstance(synapse, Conv) and _is_pool(synapse)))
        for synapse in graph.synapses
    )


def _is_pool(synapse: Conv) -> bool:
    """Whether a relay's convolution is a max pool: all taps of a channel, of itself alone."""
    own: bool = synapse.weight.shape[1] == 1 and len(synapse.weight) == synapse.groups
    return own and bool(np.all(synapse.weight))


@dataclass(frozen=True)
class _Feed:
    """A synapse of one delay at its target: all its sums, and its positive weights' alone."""

    source: str
    sums: Sums
    positive: Sums | None


@dataclass(frozen=True, eq=False)
class Passed:
    """What a pass gave.

    Attributes:
        scores: int64 (images, classes).
        counts: events, in chip steps.
    """

    scores: NDArray[np.int64]
    counts: LocalCounts


class StagedPass:
    """A staged graph made ready. Threads may share it.

    Args:
        graph: one that ``has_pass``.
    """

    def __init__(self, graph: FixedGraph) -> None:
        assert graph.num_steps is not None
        self.graph, self.steps = graph, graph.num_steps
        self.total = graph.chip_steps(self.steps)
        self.nodes = {node.name: _Node.of(graph, node) for node in graph.nodes}
        self.feeds = {
            node.name: [
                self._feed(part, node)
                for synapse in graph.incoming(node.name)
                for part in parts(synapse)
            ]
            for node in graph.nodes
            if not (isinstance(node, Neuron) and node.relay)
        }
        self.tallies = [Tally(graph, arrival) for arrival in arrivals(graph)]
        last_readers = {
            synapse.source: place
            for place, node in enumerate(graph.nodes)
            for synapse in graph.incoming(node.name)
        }
        self.done_after: dict[int, list[str]] = {}
        for name, place in last_readers.items():
            self.done_after.setdefault(place, []).append(name)

    @property
    def images_at_once(self) -> int:
        """So many that the widest layer's sums stay in the caches."""
        widest = max(math.prod(node.shape) for node in self.graph.nodes)
        return max(_LEAST_IMAGES, _CACHED_BYTES // (4 * widest))

    def bytes_per_image(self) -> int:
        """Most that one image's values take at once, roughly: counts, and the widest sums."""
        sizes = [math.prod(node.shape) for node in (self.graph.input, *self.graph.nodes)]
        return sum(sizes) + 12 * max(sizes)

    def _feed(self, part: AnySynapse, node: Neuron | Readout | Any) -> _Feed:
        source = self.graph.node(part.source)
        given = source is self.graph.input
        message = self.steps * (self.graph.input.max_message if given else 1)
        direct = given and self.graph.input.encoding == "direct"
        if direct:
            message = self.graph.input.max_message
        proved = isinstance(node, Readout) or node.overflow == "proved"
        positive = None
        if not proved and not direct and not isinstance(part, Identity):
            positive = Sums(self.graph, _positive(part), message=message)
        return _Feed(part.source, Sums(self.graph, part, message=message), positive)

    def run(self, messages: Array) -> Passed | None:
        """Run images; None where a potential may have met a rail on the way.

        Args:
            messages: checked, (images, 1 or T, *shape).
        """
        images = len(messages)
        counts = LocalCounts.nothing(self.graph, self.total)
        counts.active[:] = images
        values: dict[str, NDArray[Any]] = {self.graph.input.name: self._given(messages, counts)}
        for place, node in enumerate(self.graph.nodes):
            name = node.name
            if isinstance(node, Neuron) and node.relay:
                values[name] = self._relayed(node, values)
            else:
                sums = self._sums(name, values, images)
                if sums is None:
                    return None
                if isinstance(node, Readout):
                    scores = sums.astype(np.int64) + self.nodes[name].v0
                    return Passed(scores, counts)
                values[name] = self.nodes[name].levels(sums, self.steps)
            self._count(name, values[name], counts)
            for gone in self.done_after.get(place, ()):
                del values[gone]
        raise AssertionError("a staged graph ends in its readout")

    def _given(self, messages: Array, counts: LocalCounts) -> NDArray[Any]:
        """The input's messages summed over their steps, and counted."""
        source = self.graph.input
        if len(source.shape) == 3:
            messages = np.moveaxis(messages, -3, -1)
        kind: Any = np.int8 if source.signed else np.uint8
        if source.max_message > np.iinfo(kind).max:
            kind = np.int32
        flat = np.ascontiguousarray(messages.reshape(*messages.shape[:2], -1), kind)
        sending = flat.shape[1]
        for tally, arrived in zip(self.tallies, counts.arrived, strict=True):
            if tally.source == source.name:
                found = tally(flat)
                arrived[:, :sending] += found
                counts.input_spikes[:sending] = found[SENT]
        if sending == 1:
            return flat[:, 0]
        total = flat.sum(axis=1, dtype=np.int32)
        narrow = source.max_message * sending <= np.iinfo(np.uint8).max
        given: NDArray[Any] = total.astype(np.uint8) if narrow else total
        return given

    def _sums(
        self, name: str, values: Mapping[str, NDArray[Any]], images: int
    ) -> NDArray[Any] | None:
        """Whole input (images, neurons), or None where its parts may have passed a rail."""
        total, up, down = None, None, None
        node = self.nodes[name]
        for feed in self.feeds[name]:
            rows = values[feed.source].reshape(images, *feed.sums.source)
            sums = feed.sums(rows)
            total = sums if total is None else total.astype(np.int32) + sums.astype(np.int32)
            if node.proved:
                continue
            positive = np.maximum(sums, 0) if feed.positive is None else feed.positive(rows)
            positive = positive.astype(np.int32)
            negative = sums.astype(np.int32) - positive
            up = positive if up is None else up + positive
            down = negative if down is None else down + negative
        assert total is not None
        if up is not None and down is not None and not node.holds(up, down):
            return None
        return total

    def _relayed(self, node: Neuron, values: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
        (synapse,) = self.graph.incoming(node.name)
        assert isinstance(synapse, Conv)
        source = values[synapse.source]
        shape = last_shape(self.graph.node(synapse.source).shape)
        found = np.empty((len(source), *last_shape(node.shape)), np.uint8)
        side_y, side_x = synapse.weight.shape[2:]
        _LARGEST(
            source.reshape(len(source), *shape),
            side_y,
            side_x,
            synapse.stride,
            synapse.padding,
            synapse.dilation,
            found,
        )
        return found.reshape(len(found), -1)

    def _count(self, name: str, counted: NDArray[np.uint8], counts: LocalCounts) -> None:
        """Count spikes of a population and what they cause, in the steps of its window."""
        window = self.graph.windows[name]
        when = slice(window.fire_from - 1, window.fire_from - 1 + self.steps)
        reached = np.zeros((self.steps, counted.shape[1]), np.int32)
        _AT_LEAST(counted, reached)
        fired = reached.sum(axis=1, dtype=np.int64)
        counts.spikes[name][when] += fired
        by_neuron = reached.astype(np.float64)
        for tally, arrived in zip(self.tallies, counts.arrived, strict=True):
            if tally.source != name:
                continue
            connected = tally.connected.reshape(-1)
            ways = np.stack([tally.effective.reshape(-1), connected, connected > 0])
            found = np.rint(by_neuron @ ways.T.astype(np.float64)).astype(np.int64)
            for place, kind in enumerate((EFFECTIVE, CONNECTED, ARRIVING)):
                arrived[kind, when] += found[:, place]
            arrived[SENT, when] += fired
            arrived[POOLED, when] += (
                found[:, 2] if tally.pool == 1 else self._pooled(tally, counted)
            )

    def _pooled(self, tally: Tally, counted: NDArray[np.uint8]) -> NDArray[np.int64]:
        """In each step, pooled messages that are not zero, where they lead on."""
        height, width, channels = tally.shape
        side = tally.pool
        found = np.empty((len(counted), height // side, width // side, channels), np.uint8)
        _LARGEST(
            counted.reshape(len(counted), *tally.shape),
            side,
            side,
            (side, side),
            (0, 0),
            (1, 1),
            found,
        )
        reached = np.zeros((self.steps, found[0].size), np.int32)
        _AT_LEAST(found.reshape(len(found), -1), reached)
        leads = (tally.connected[::side, ::side] > 0).reshape(-1)
        return np.asarray(reached[:, leads].sum(axis=1, dtype=np.int64))


@dataclass(frozen=True, eq=False)
class _Node:
    """A population's parameters in the engine's order, and whether its bounds are proved."""

    v0: NDArray[np.int32]
    theta: NDArray[np.int32]
    inverse: NDArray[np.float32]
    proved: bool

    @classmethod
    def of(cls, graph: FixedGraph, node: Any) -> "_Node":
        v0 = per_neuron(node.v0, node.shape).astype(np.int32)
        if isinstance(node, Readout):
            ones = np.ones_like(v0)
            return cls(v0, ones, ones.astype(np.float32), True)
        theta = per_neuron(node.vth << fixed.STATE_SHIFT, node.shape).astype(np.int32)
        inverse = (1.0 / theta.astype(np.float64)).astype(np.float32)
        return cls(v0, theta, inverse, node.overflow == "proved")

    def levels(self, sums: NDArray[Any], num_steps: int) -> NDArray[np.uint8]:
        """Counts (images, neurons) of the whole input."""
        counts = np.empty(sums.shape, np.uint8)
        _LEVELS(sums, self.v0, self.theta, self.inverse, np.int32(num_steps), counts)
        return counts

    def holds(self, up: NDArray[np.int32], down: NDArray[np.int32]) -> bool:
        """Whether no order of arrival takes a potential, or a step, out of 24 bits."""
        limit = fixed.INPUT_LIMIT
        if max(int(up.max()), -int(down.min())) > limit:
            return False
        start = self.v0.astype(np.int64)
        unit = 1 << fixed.STATE_SHIFT
        highest = int((up.max(axis=0) * unit + start).max())
        lowest = int((down.min(axis=0) * unit + start).min())
        within: bool = highest <= fixed.STATE_RAIL and lowest >= -fixed.STATE_RAIL
        return within


def _positive(part: AnySynapse) -> AnySynapse:
    """A synapse with its positive weights alone."""
    if isinstance(part, Sparse):
        return replace(part, data=np.maximum(part.data, 0))
    assert isinstance(part, Conv | Dense)
    return replace(part, weight=np.maximum(part.weight, 0))
