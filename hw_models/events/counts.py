"""Counting events: synaptic operations, spikes, messages and neuron updates, per layer and step.

One synaptic operation is one spike arriving at one existing synapse. *Effective* ones meet a
non-zero weight, *connected* ones any stored weight, and *dense* is the bound: every source neuron
firing in every step. Taps that fall on padding do not exist. A layer's row belongs to the node that
receives: its incoming operations, its own spikes, its own updates.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.events.arrivals import (
    ARRIVING,
    CONNECTED,
    EFFECTIVE,
    KINDS,
    POOLED,
    Arrival,
    arrivals,
)
from spikeship.hw_models.events.tally import Tally, count_nonzero
from spikeship.hw_models.graph import Array, FixedGraph, Node, Readout
from spikeship.hw_models.graph.layout import to_last

Messages = NDArray[Any]


class CountError(SpikeshipError, ValueError):
    """Recordings or counts that do not belong together; the message names them."""


class LayerRates(TypedDict):
    """One layer's counts per inference."""

    name: str
    neurons: int
    spikes: float
    synops_effective: float
    synops_connected: float
    synops_dense: float
    neuron_updates: float
    messages_in: float
    pooled_messages: float


class Synops(TypedDict):
    """The three counts of synaptic operations per inference."""

    effective: float
    connected: float
    dense: float


class Rates(TypedDict):
    """A network's counts per inference."""

    input_spikes: float
    spikes: float
    synops: Synops
    neuron_updates: float
    layers: list[LayerRates]


@dataclass(frozen=True, eq=False)
class LayerCounts:
    """What one node received and did, summed over the images counted; arrays are (chip_steps,).

    Attributes:
        name: name of the node.
        neurons: its neurons.
        spikes: its own spikes, at the step in which it fires.
        effective: operations arriving at non-zero weights, at the step in which they arrive.
        connected: operations arriving at all stored weights.
        dense: operations of one inference if every source neuron fired in every step.
        neuron_updates: neurons computed.
        messages_in: non-zero messages arriving (before the pool; a direct input's values too),
            from sources that have at least one synapse into this node, once a synapse object.
        pooled_messages: the same after the pool.
    """

    name: str
    neurons: int
    spikes: Array
    effective: Array
    connected: Array
    dense: int
    neuron_updates: Array
    messages_in: Array
    pooled_messages: Array

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                value = value.astype(np.int64)
                value.setflags(write=False)
                object.__setattr__(self, field.name, value)
                if value.shape != self.spikes.shape:
                    raise CountError(
                        f"layer {self.name!r}: {field.name} has shape {value.shape}, spikes "
                        f"{self.spikes.shape}; every count needs one number a chip step"
                    )

    def per_inference(self, images: int) -> LayerRates:
        """Totals over the steps, per image of ``images``."""
        return {
            "name": self.name,
            "neurons": self.neurons,
            "spikes": int(self.spikes.sum()) / images,
            "synops_effective": int(self.effective.sum()) / images,
            "synops_connected": int(self.connected.sum()) / images,
            "synops_dense": float(self.dense),
            "neuron_updates": int(self.neuron_updates.sum()) / images,
            "messages_in": int(self.messages_in.sum()) / images,
            "pooled_messages": int(self.pooled_messages.sum()) / images,
        }

    def __add__(self, other: "LayerCounts") -> "LayerCounts":
        """Merge two batches' counts of the same layer."""
        if (self.name, self.neurons, self.dense) != (other.name, other.neurons, other.dense):
            raise CountError(
                f"layer {self.name!r}: cannot add counts of layer {other.name!r}; "
                "merge batches of one network only"
            )
        return LayerCounts(
            self.name,
            self.neurons,
            self.spikes + other.spikes,
            self.effective + other.effective,
            self.connected + other.connected,
            self.dense,
            self.neuron_updates + other.neuron_updates,
            self.messages_in + other.messages_in,
            self.pooled_messages + other.pooled_messages,
        )


@dataclass(frozen=True, eq=False)
class EventCounts:
    """Events of a network, summed over the images counted; ``a + b`` merges two batches.

    Attributes:
        num_steps: T.
        chip_steps: T + D, or of a staged network what its windows take.
        images: number of images counted, at least 1.
        input_spikes: non-zero input messages, (num_steps,); direct input to a staged network comes
            in the first step alone.
        layers: one row a node, in the graph's order.
    """

    num_steps: int
    chip_steps: int
    images: int
    input_spikes: Array
    layers: tuple[LayerCounts, ...]

    def __post_init__(self) -> None:
        if self.images < 1:
            raise CountError("counts: no images were counted; give at least one")
        if self.input_spikes.shape != (self.num_steps,):
            raise CountError(
                f"counts: input_spikes has shape {self.input_spikes.shape} for "
                f"{self.num_steps} steps; it needs one number a step"
            )
        for layer in self.layers:
            if layer.spikes.shape != (self.chip_steps,):
                raise CountError(
                    f"layer {layer.name!r}: counts of {layer.spikes.size} chip steps in a sample "
                    f"of {self.chip_steps}; count every layer over the same steps"
                )

    def per_inference(self) -> Rates:
        """Totals per inference; ``spikes`` are the neurons' own, the input's stand apart."""
        layers = [layer.per_inference(self.images) for layer in self.layers]
        return {
            "input_spikes": int(self.input_spikes.sum()) / self.images,
            "spikes": sum(row["spikes"] for row in layers),
            "synops": {
                "effective": sum(row["synops_effective"] for row in layers),
                "connected": sum(row["synops_connected"] for row in layers),
                "dense": sum(row["synops_dense"] for row in layers),
            },
            "neuron_updates": sum(row["neuron_updates"] for row in layers),
            "layers": layers,
        }

    def __add__(self, other: "EventCounts") -> "EventCounts":
        """Merge two batches.

        Raises:
            CountError: they differ in steps or layers.
        """
        mine, theirs = (
            (one.num_steps, one.chip_steps, [layer.name for layer in one.layers])
            for one in (self, other)
        )
        if mine != theirs:
            raise CountError(
                f"counts: cannot add T={mine[0]} ({mine[1]} chip steps, {len(mine[2])} layers) and "
                f"T={theirs[0]} ({theirs[1]}, {len(theirs[2])}); merge batches of one run only"
            )
        return EventCounts(
            self.num_steps,
            self.chip_steps,
            self.images + other.images,
            self.input_spikes + other.input_spikes,
            tuple(a + b for a, b in zip(self.layers, other.layers, strict=True)),
        )


@dataclass(frozen=True, eq=False)
class LocalCounts:
    """Events in the steps in which their senders worked, before they are put on the chip's clock.

    A gated node works in its T local steps, an ungated one in all chip steps.

    Attributes:
        input_spikes: non-zero input messages, (steps,).
        active: images that ran each step, (steps,).
        spikes: by node name, (steps,).
        arrived: by place among the graph's arrivals, (KINDS, steps of the sender).
    """

    input_spikes: Array
    active: Array
    spikes: Mapping[str, Array]
    arrived: tuple[Array, ...]

    @classmethod
    def nothing(cls, graph: FixedGraph, steps: int) -> "LocalCounts":
        """Zeros to count so many steps into."""
        return cls(
            np.zeros(steps, np.int64),
            np.zeros(steps, np.int64),
            {
                node.name: np.zeros(steps, np.int64)
                for node in graph.nodes
                if not isinstance(node, Readout)
            },
            tuple(np.zeros((KINDS, steps), np.int64) for _ in arrivals(graph)),
        )

    def add(self, other: "LocalCounts", begin: int = 0) -> None:
        """Add counts of steps ``begin`` on, in place."""
        pairs = [
            (self.input_spikes, other.input_spikes),
            (self.active, other.active),
            *((self.spikes[name], values) for name, values in other.spikes.items()),
            *zip(self.arrived, other.arrived, strict=True),
        ]
        for mine, theirs in pairs:
            end = min(begin + theirs.shape[-1], mine.shape[-1])
            mine[..., begin:end] += theirs[..., : max(0, end - begin)]


def local_steps(graph: FixedGraph, num_steps: int) -> int:
    """Steps in which a node works in a sample of T steps: T where gated, else T + D."""
    return num_steps if graph.gated else graph.chip_steps(num_steps)


def working_steps(graph: FixedGraph, name: str, num_steps: int) -> int:
    """Local steps that a node runs: all, but for a gated branch deeper than the output.

    The chip's clock stops at T + D, before such a branch has run T steps.
    """
    steps = local_steps(graph, num_steps)
    late = max(0, graph.depths[name] - graph.drain) if graph.gated else 0
    return max(0, steps - late)


def on_the_chip(graph: FixedGraph, num_steps: int, images: int, counts: LocalCounts) -> EventCounts:
    """Put local counts on the chip's clock.

    An operation is booked at the chip step in which it arrives: in a gated graph, local step t at
    index t + d(node). What would arrive after the last chip step is not counted.
    """
    sending = graph.input_steps(num_steps)
    given = np.zeros(num_steps, np.int64)
    given[:sending] = counts.input_spikes[:sending]
    return EventCounts(
        num_steps=num_steps,
        chip_steps=graph.chip_steps(num_steps),
        images=images,
        input_spikes=given,
        layers=tuple(_layer(graph, node, num_steps, counts) for node in graph.nodes),
    )


def _layer(graph: FixedGraph, node: Node, num_steps: int, counts: LocalCounts) -> LayerCounts:
    steps = graph.chip_steps(num_steps)
    totals = np.zeros((KINDS, steps), np.int64)
    dense = 0
    for arrival, arrived in zip(arrivals(graph), counts.arrived, strict=True):
        if arrival.synapse.target != node.name:
            continue
        source, kinds = arrival.synapse.source, list(arrival.kinds)
        first = arrival.delay + (graph.depths[source] if graph.gated else 0)
        totals[kinds] += _shifted(arrived[kinds], first, steps)
        if CONNECTED in kinds:
            sent = num_steps if graph.gated else steps
            if source == graph.input.name:
                sent = graph.input_steps(num_steps)
            elif source in graph.windows:
                sent = num_steps
            arriving = sent if graph.gated else max(0, min(sent, steps - arrival.delay))
            dense += int(arrival.connected.sum()) * arriving
    depth = graph.depths[node.name] if graph.gated else 0
    neurons = int(np.prod(node.shape, dtype=np.int64))
    spikes = counts.spikes.get(node.name, np.zeros_like(counts.active))
    return LayerCounts(
        name=node.name,
        neurons=neurons,
        spikes=_shifted(spikes, depth, steps),
        effective=totals[EFFECTIVE],
        connected=totals[CONNECTED],
        dense=dense,
        neuron_updates=_shifted(counts.active * neurons, depth, steps),
        messages_in=totals[ARRIVING],
        pooled_messages=totals[POOLED],
    )


def _shifted(values: Array, first: int, steps: int) -> Array:
    """Put ``values`` from step ``first`` on into so many steps; what falls behind is lost."""
    late = np.zeros((*values.shape[:-1], steps), np.int64)
    end = min(first + values.shape[-1], steps)
    late[..., first:end] = values[..., : max(0, end - first)]
    return late


def count_events(
    graph: FixedGraph, recording: Mapping[str, Messages], input_messages: Messages
) -> EventCounts:
    """Count every layer's events from what was recorded.

    Args:
        graph: the network.
        recording: messages of every node that sends, by name, (images, T + D, ...) in chip steps.
        input_messages: (images, T, ...).

    Raises:
        CountError: a node's recording is missing, has another shape, or holds messages outside
            its gate.
    """
    _check_shape(graph.input.name, input_messages, (*input_messages.shape[:2], *graph.input.shape))
    images, sending = input_messages.shape[:2]
    num_steps = graph.steps_of(sending)
    sent: dict[str, Messages] = {graph.input.name: input_messages}
    for node in graph.nodes:
        if isinstance(node, Readout):
            continue
        if node.name not in recording:
            raise CountError(f"node {node.name!r}: no recording of it; record every node")
        messages = recording[node.name]
        _check_shape(node.name, messages, (images, graph.chip_steps(num_steps), *node.shape))
        sent[node.name] = _in_gate(graph, node, messages, num_steps) if graph.gated else messages
    counts = LocalCounts.nothing(graph, local_steps(graph, num_steps))
    counts.active[:] = images
    counts.input_spikes[:sending] = count_nonzero(input_messages)
    for name, spikes in counts.spikes.items():
        spikes[:] = count_nonzero(sent[name])
    for arrival, arrived in zip(arrivals(graph), counts.arrived, strict=True):
        found = _arriving(graph, arrival, sent[arrival.synapse.source])
        arrived[:, : found.shape[1]] = found
    return on_the_chip(graph, num_steps, images, counts)


def _arriving(graph: FixedGraph, arrival: Arrival, messages: Messages) -> Array:
    tally = Tally(graph, arrival)
    shape = graph.node(arrival.synapse.source).shape
    found = np.zeros((KINDS, messages.shape[1]), np.int64)
    for image in messages:  # one at a time: turning the axes makes a copy
        found += tally(to_last(image[None], shape))
    return found


def _check_shape(name: str, messages: Messages, expected: tuple[int, ...]) -> None:
    if messages.shape != expected:
        raise CountError(
            f"node {name!r}: its messages have shape {messages.shape}, those of this run "
            f"{expected}; record every node over the same images and steps, in chip steps"
        )


def _in_gate(graph: FixedGraph, node: Node, spikes: Messages, num_steps: int) -> Messages:
    depth = graph.depths[node.name]
    if np.any(spikes[:, :depth]) or np.any(spikes[:, depth + num_steps :]):
        raise CountError(
            f"node {node.name!r}: spikes outside its gate (chip steps {depth + 1} to "
            f"{depth + num_steps}); the recording is not of this graph"
        )
    # of a side branch deeper than the output, the last steps are not on the chip's clock
    inside = np.zeros((len(spikes), num_steps, *spikes.shape[2:]), spikes.dtype)
    seen = spikes[:, depth : depth + num_steps]
    inside[:, : seen.shape[1]] = seen
    return inside
