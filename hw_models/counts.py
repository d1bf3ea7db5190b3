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

from spikeship.hw_models.fanout import fanout as fanout
from spikeship.hw_models.graph import Array, FixedGraph, Input, Node, Readout

Messages = NDArray[Any]


class CountError(ValueError):
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
        name: name of the node. neurons: its neurons.
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
        num_steps: T. chip_steps: T + D.
        images: number of images counted, at least 1.
        input_spikes: non-zero input messages, (num_steps,).
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


def count_layer(
    graph: FixedGraph,
    node: Node,
    sources: Mapping[str, Messages],
    spikes: Messages | None = None,
) -> LayerCounts:
    """Count one node's events over a batch.

    An operation is booked at the chip step in which it arrives: in a gated graph, local step t at
    index t + d(node). What would arrive after the last chip step is not counted.

    Args:
        graph: the network.
        node: the receiving node.
        sources: messages of every node it reads, by name (others may be there too). Gated graphs:
            (images, T, ...) in local steps. Ungated graphs: (images, T + D, ...) in chip
            steps, but the input's (images, T, ...).
        spikes: the node's own spikes, in the same steps as its messages; None for a readout.

    Raises:
        CountError: a source is missing, or the arrays differ in images or steps.
    """
    images, num_steps = _extent(graph, node, sources)
    steps = graph.chip_steps(num_steps)
    totals = {
        key: np.zeros(steps, dtype=np.int64)
        for key in ("spikes", "effective", "connected", "messages_in", "pooled_messages")
    }
    dense = 0
    for synapse in graph.incoming(node.name):
        effective, connected = fanout(graph, synapse)
        reached = connected > 0
        messages = sources[synapse.source]
        first = synapse.delay + (graph.depths[synapse.source] if graph.gated else 0)
        counted = min(messages.shape[1], max(0, steps - first))
        dense += int(connected.sum()) * (num_steps if graph.gated else counted)
        for local in range(counted):
            now, step = messages[:, local], first + local
            events = np.count_nonzero(now, axis=0)
            totals["effective"][step] += np.vdot(events, effective)
            totals["connected"][step] += np.vdot(events, connected)
            totals["messages_in"][step] += events[reached].sum()
            totals["pooled_messages"][step] += _pooled_messages(now, reached, synapse.pool)
    depth = graph.depths[node.name] if graph.gated else 0
    if spikes is not None:
        expected = (images, num_steps if graph.gated else steps, *node.shape)
        if spikes.shape != expected:
            raise CountError(
                f"node {node.name!r}: spikes have shape {spikes.shape}, its messages ask for "
                f"{expected}; record every node over the same images and steps"
            )
        own = np.count_nonzero(spikes.reshape(images, expected[1], -1), axis=(0, 2))
        totals["spikes"][depth : depth + len(own)] = own[: max(0, steps - depth)]
    neurons = int(np.prod(node.shape, dtype=np.int64))
    updates = np.zeros(steps, dtype=np.int64)
    updates[depth : depth + num_steps if graph.gated else steps] = neurons * images
    return LayerCounts(
        name=node.name, neurons=neurons, dense=dense, neuron_updates=updates, **totals
    )


def _pooled_messages(now: Messages, reached: NDArray[np.bool_], pool: int) -> int:
    """Non-zero messages (images, ...) of one step after the sum-pool, where they lead on."""
    if pool == 1:
        return int(np.count_nonzero(now[:, reached]))
    images, channels, height, width = now.shape
    windows = now.reshape(images, channels, height // pool, pool, width // pool, pool)
    sums = windows.sum(axis=(3, 5), dtype=np.int64)
    return int(np.count_nonzero(sums[:, reached[:, ::pool, ::pool]]))


def _extent(graph: FixedGraph, node: Node, sources: Mapping[str, Messages]) -> tuple[int, int]:
    """Images and T that a node's sources agree on."""
    found: set[tuple[int, int]] = set()
    for synapse in graph.incoming(node.name):
        source = graph.node(synapse.source)
        if source.name not in sources:
            raise CountError(
                f"node {node.name!r}: the messages of its source {source.name!r} are missing; "
                "record every node"
            )
        messages = sources[source.name]
        if messages.ndim != 2 + len(source.shape) or messages.shape[2:] != source.shape:
            raise CountError(
                f"node {source.name!r}: messages have shape {messages.shape}; give "
                f"(images, steps, {', '.join(map(str, source.shape))})"
            )
        drain = 0 if graph.gated or isinstance(source, Input) else graph.drain
        found.add((messages.shape[0], messages.shape[1] - drain))
    if len(found) != 1:
        raise CountError(
            f"node {node.name!r}: its sources differ in (images, T): {sorted(found)}; "
            "record every node over the same images and steps"
        )
    return found.pop()


def count_events(
    graph: FixedGraph, recording: Mapping[str, Messages], input_messages: Messages
) -> EventCounts:
    """Count every layer's events from what was recorded.

    Args:
        graph: the network.
        recording: spikes of every neuron by name, (images, T + D, ...) in chip steps.
        input_messages: (images, T, ...).

    Raises:
        CountError: a neuron's recording is missing, has another length, or holds spikes outside
            its gate.
    """
    num_steps = input_messages.shape[1]
    sources: dict[str, Messages] = {graph.input.name: input_messages}
    for node in graph.nodes:
        if isinstance(node, Readout):
            continue
        if node.name not in recording:
            raise CountError(f"node {node.name!r}: no recording of it; record every neuron")
        spikes = recording[node.name]
        if spikes.shape[1] != graph.chip_steps(num_steps):
            raise CountError(
                f"node {node.name!r}: {spikes.shape[1]} chip steps recorded where T={num_steps} "
                f"takes {graph.chip_steps(num_steps)}; record in chip steps"
            )
        sources[node.name] = _in_gate(graph, node, spikes, num_steps) if graph.gated else spikes
    return EventCounts(
        num_steps=num_steps,
        chip_steps=graph.chip_steps(num_steps),
        images=len(input_messages),
        input_spikes=np.count_nonzero(
            input_messages.reshape(len(input_messages), num_steps, -1), axis=(0, 2)
        ),
        layers=tuple(
            count_layer(graph, node, sources, sources.get(node.name)) for node in graph.nodes
        ),
    )


def _in_gate(graph: FixedGraph, node: Node, spikes: Messages, num_steps: int) -> Messages:
    depth = graph.depths[node.name]
    if np.any(spikes[:, :depth]) or np.any(spikes[:, depth + num_steps :]):
        raise CountError(
            f"node {node.name!r}: spikes outside its gate (chip steps {depth + 1} to "
            f"{depth + num_steps}); the recording is not of this graph"
        )
    return spikes[:, depth : depth + num_steps]
