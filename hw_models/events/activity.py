"""What the engine recorded, kept small: spikes as bits, put in chip steps when they are read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.graph import FixedGraph, Readout
from spikeship.hw_models.graph.layout import from_last

BYTE = 255


@dataclass(frozen=True, eq=False)
class Piece:
    """Some images' values over some local steps, in the engine's order.

    Attributes:
        images: which.
        begin: first local step.
        values: (images, steps, neurons); 0/1 values as bits, packed along the neurons.
        packed: whether they are.
    """

    images: slice
    begin: int
    values: NDArray[Any]
    packed: bool


def piece(images: slice, begin: int, values: NDArray[Any]) -> Piece:
    """Keep a copy of values (images, steps, neurons); spikes (uint8) in an eighth of the bytes."""
    if values.dtype == np.uint8:
        return Piece(images, begin, np.packbits(values, axis=-1), packed=True)
    return Piece(images, begin, values.copy(), packed=False)


def sending(messages: NDArray[Any]) -> NDArray[np.float32]:
    """How many images send a message: (images, ...) that are not 0, as (...)."""
    total = np.zeros(messages.shape[1:], np.float32)
    for begin in range(0, len(messages), BYTE):  # their number fits a byte
        some = (messages[begin : begin + BYTE] != 0).view(np.uint8)
        total += some.sum(axis=0, dtype=np.uint8)
    return total


class Activity(Mapping[str, NDArray[Any]]):
    """By node name (images, T + D, *shape) in chip steps, unpacked each time it is asked for.

    Args:
        graph: the graph.
        images: how many.
        num_steps: T.
        pieces: by node name.
        start: of states, by node name what they are before the node's first step, (neurons,) or
            one; they keep their last value after it, as a readout does. None for messages, which
            are 0 outside the node's steps.
    """

    def __init__(
        self,
        graph: FixedGraph,
        images: int,
        num_steps: int,
        pieces: Mapping[str, list[Piece]],
        start: Mapping[str, Any] | None = None,
    ) -> None:
        self.graph = graph
        self.images = images
        self.num_steps = num_steps
        self.pieces = pieces
        self.start = start

    def __iter__(self) -> Iterator[str]:
        """Names of the nodes, in the graph's order."""
        return iter(self.pieces)

    def __len__(self) -> int:
        """How many nodes were recorded."""
        return len(self.pieces)

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a node's values in a fresh array."""
        graph, pieces = self.graph, self.pieces[name]
        node = graph.node(name)
        neurons = int(np.prod(node.shape, dtype=np.int64))
        total = graph.chip_steps(self.num_steps)
        depth = graph.depths[name] if graph.gated else 0
        dtype = np.uint8 if pieces[0].packed else pieces[0].values.dtype
        chip = np.zeros((self.images, total, neurons), dtype)
        if self.start is not None:
            chip[:] = self.start[name]
        for part in pieces:
            values = part.values
            if part.packed:
                values = np.unpackbits(values, axis=-1, count=neurons)
            begin = depth + part.begin
            end = min(begin + values.shape[1], total)
            chip[part.images, begin:end] = values[:, : max(0, end - begin)]
        if graph.gated and (self.start is not None or isinstance(node, Readout)):
            last = min(depth + self.num_steps, total)
            chip[:, last:] = chip[:, last - 1 : last]
        return from_last(chip, node.shape)

    def sending(self, name: str) -> NDArray[np.float32]:
        """How many images send a message from each neuron in each step, (T + D, *shape)."""
        node = self.graph.node(name)
        neurons = int(np.prod(node.shape, dtype=np.int64))
        total = self.graph.chip_steps(self.num_steps)
        depth = self.graph.depths[name] if self.graph.gated else 0
        found = np.zeros((total, neurons), np.float32)
        for part in self.pieces[name]:
            values = part.values
            if part.packed:
                values = np.unpackbits(values, axis=-1, count=neurons)
            begin = depth + part.begin
            end = min(begin + values.shape[1], total)
            found[begin:end] += sending(values[:, : max(0, end - begin)])
        return from_last(found, node.shape)


class Joined(Mapping[str, NDArray[Any]]):
    """Recordings of different images as one, put together each time a node is asked for."""

    def __init__(self, parts: Sequence[Mapping[str, NDArray[Any]]]) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[str]:
        """Names of the nodes."""
        return iter(self.parts[0])

    def __len__(self) -> int:
        """How many nodes were recorded."""
        return len(self.parts[0])

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a node's values over all images."""
        return np.concatenate([part[name] for part in self.parts])
