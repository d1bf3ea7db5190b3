"""Wires: the axons that a synapse takes between the blocks of its source and of its target.

An axon starts at a core of the source and ends at a core of the target. What it stands for is the
rule's: one source neuron; or, as a population axon, the neurons of one source core that share a
position of a kernel, or a dense block. The input is one source core. A sparse or one-to-one
synapse has an axon a source neuron under either rule.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Sparse,
    pooled_shape,
)
from spikeship.hw_models.placement.placement import AxonRule
from spikeship.hw_models.placement.splits import (
    Cells,
    Field,
    Ints,
    Split,
    bounds,
    cells,
    labels,
    outer,
    sizes,
)


class Wire(ABC):
    """A synapse between two nodes as they may be split.

    Attributes:
        synapse: the synapse.
        source, target: shapes of its ends.
        population: whether axons are shared where the synapse's kind allows it.
        copies: 2 where ON and OFF channels of the input carry its messages, else 1; no core sends
            those.
    """

    def __init__(
        self, synapse: AnySynapse, source: Cells, target: Cells, rule: AxonRule, copies: int
    ) -> None:
        self.synapse, self.source, self.target = synapse, source, target
        self.population, self.copies = rule == "population", copies
        self._known: dict[Any, Ints] = {}

    @abstractmethod
    def inputs(self, target: Split, source: Split) -> Ints:
        """Axons that end at each core of the target."""

    @abstractmethod
    def outputs(self, source: Split, target: Split) -> Ints:
        """Axons that start at each core of the source."""

    def _once(self, key: Any, make: Callable[[], Ints]) -> Ints:
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]


class FactoredWire(Wire):
    """A wire whose axons are a product of one factor an axis: channels, rows, columns."""

    @abstractmethod
    def entering(self, axis: int, pieces: int, source: Split) -> Ints:
        """Factor of the axons into each piece of one axis of the target."""

    @abstractmethod
    def leaving(self, axis: int, pieces: int, target: Split) -> Ints:
        """Factor of the axons out of each piece of one axis of the source."""

    def inputs(self, target: Split, source: Split) -> Ints:
        """Axons that end at each core of the target."""
        return outer([self.entering(axis, target.pieces[axis], source) for axis in range(3)])

    def outputs(self, source: Split, target: Split) -> Ints:
        """Axons that start at each core of the source."""
        return outer([self.leaving(axis, source.pieces[axis], target) for axis in range(3)])


class ConvWire(FactoredWire):
    """A convolution: a block of its target reads a block of its source, halo included."""

    def __init__(self, synapse: Conv, source: Cells, *rest: Any) -> None:
        super().__init__(synapse, source, *rest)
        self._reach = [_channel_reach(synapse, source[0])]
        for i in range(2):
            self._reach.append(conv_taps(synapse, i, source[1 + i], self.target[1 + i]) > 0)

    def entering(self, axis: int, pieces: int, source: Split) -> Ints:
        """Factor of the axons into each piece of one axis of the target."""
        if axis:
            return self._once((axis, pieces), lambda: self._read(axis, pieces).sum(axis=1))
        shared = source.groups if self.population else 0
        return self._once(
            ("in", pieces, shared), lambda: self.copies * self._channels(pieces, shared).sum(axis=1)
        )

    def leaving(self, axis: int, pieces: int, target: Split) -> Ints:
        """Factor of the axons out of each piece of one axis of the source."""
        other = target.pieces[axis]
        key = ("out", axis, pieces, other)
        if axis or not self.population:
            return self._once(key, lambda: _sums(self._read(axis, other).sum(axis=0), pieces))
        return self._once(key, lambda: self._channels(other, pieces).sum(axis=0))

    def _read(self, axis: int, pieces: int) -> NDArray[np.bool_]:
        """Which positions of the source each piece of the target reads, (pieces, positions)."""
        reach = self._reach[axis]
        return np.logical_or.reduceat(reach, bounds(len(reach), pieces)[:-1], axis=0)

    def _channels(self, pieces: int, shared: int) -> NDArray[np.bool_]:
        """Which source channels each piece reads; with ``shared`` which of so many groups."""
        read = self._read(0, pieces)
        if not shared:
            return read
        return np.logical_or.reduceat(read, bounds(self.source[0], shared)[:-1], axis=1)


class DenseWire(FactoredWire):
    """All to all: every core of the target reads every neuron of the source."""

    def entering(self, axis: int, pieces: int, source: Split) -> Ints:
        """Factor of the axons into each piece of one axis of the target."""
        if axis:
            return np.ones(pieces, np.int64)
        read = source.cores if self.population else int(np.prod(self.source))
        return np.full(pieces, self.copies * read)

    def leaving(self, axis: int, pieces: int, target: Split) -> Ints:
        """Factor of the axons out of each piece of one axis of the source."""
        along = np.ones(pieces, np.int64) if self.population else sizes(self.source[axis], pieces)
        return along if axis else along * target.cores


class OneToOneWire(FactoredWire):
    """Every source neuron reaches one target neuron, which reads its pool window alone."""

    def entering(self, axis: int, pieces: int, source: Split) -> Ints:
        """Factor of the axons into each piece of one axis of the target."""
        along = sizes(self.target[axis], pieces)
        return along if axis else along * self.copies * self.synapse.pool**2

    def leaving(self, axis: int, pieces: int, target: Split) -> Ints:
        """Factor of the axons out of each piece of one axis of the source."""
        return sizes(self.source[axis], pieces)


class SparseWire(Wire):
    """A matrix: counted from its entries for each split."""

    def __init__(self, synapse: Sparse, *rest: Any) -> None:
        super().__init__(synapse, *rest)
        self._rows = np.repeat(np.arange(synapse.rows), np.diff(synapse.indptr))
        self._columns = synapse.indices
        self._window = synapse.pool**2
        self._read = len(np.unique(self._columns)) * self._window * self.copies
        self._last: tuple[Split, Ints] | None = None

    def inputs(self, target: Split, source: Split) -> Ints:
        """Axons that end at each core of the target."""
        found = np.bincount(self._reached(target)[0], minlength=target.cores)
        return np.asarray(found * self._window * self.copies).reshape(target.pieces)

    def outputs(self, source: Split, target: Split) -> Ints:
        """Axons that start at each core of the source."""
        found = np.bincount(self._reached(target)[1], minlength=self._pooled_size)
        side = self.synapse.pool
        grid = found.reshape(self.source if side == 1 else self._pooled)
        grid = grid.repeat(side, axis=1).repeat(side, axis=2) if side > 1 else grid
        return Field(grid, self.source).blocks(source)

    @property
    def read(self) -> int:
        """Source neurons that are read: all cores of either end together have as many axons."""
        return self._read

    @property
    def _pooled(self) -> Cells:
        return cells(pooled_shape(self.source, self.synapse.pool, self.synapse.name))

    @property
    def _pooled_size(self) -> int:
        return int(np.prod(self._pooled))

    def _reached(self, target: Split) -> tuple[Ints, Ints]:
        """Every pair of a core of the target and a (pooled) source that it reads, once."""
        if self._last is None or self._last[0] != target:
            core = labels(self.target, target)[self._rows]
            self._last = (target, np.unique(core * self._pooled_size + self._columns))
        found = self._last[1]
        return found // self._pooled_size, found % self._pooled_size


def wire(graph: FixedGraph, synapse: AnySynapse, rule: AxonRule, copies: int) -> Wire:
    """Return the wire of a synapse."""
    ends = cells(graph.node(synapse.source).shape), cells(graph.node(synapse.target).shape)
    if isinstance(synapse, Sparse) and _one_to_one(synapse):
        return OneToOneWire(synapse, *ends, rule, copies)
    made: Wire = _WIRES[type(synapse)](synapse, *ends, rule, copies)
    return made


_WIRES: dict[type, Any] = {
    Conv: ConvWire,
    Dense: DenseWire,
    Identity: OneToOneWire,
    Sparse: SparseWire,
}


def conv_taps(synapse: Conv, side: int, source: int, target: int) -> Ints:
    """Kernel taps that lead from each source position (column) to each target one (row).

    Args:
        synapse: the convolution.
        side: 0 for rows, 1 for columns.
        source: the source's positions along that side, before the pool.
        target: the target's.
    """
    taps = np.zeros((target, source // synapse.pool), np.int64)
    for tap in range(synapse.weight.shape[2 + side]):
        read = np.arange(target) * synapse.stride[side] - synapse.padding[side]
        read = read + tap * synapse.dilation[side]
        inside = (read >= 0) & (read < taps.shape[1])
        taps[np.nonzero(inside)[0], read[inside]] += 1
    return taps.repeat(synapse.pool, axis=1)


def _channel_reach(synapse: Conv, source: int) -> NDArray[np.bool_]:
    group = np.arange(synapse.groups)
    written = group.repeat(len(synapse.weight) // synapse.groups)
    return np.asarray(written[:, None] == group.repeat(source // synapse.groups)[None, :])


def _one_to_one(synapse: Sparse) -> bool:
    return (
        synapse.rows == synapse.columns == len(synapse.indices)
        and bool(np.all(np.diff(synapse.indptr) == 1))
        and int(np.bincount(synapse.indices).max(initial=0)) <= 1
    )


def _sums(values: Ints, pieces: int) -> Ints:
    return np.add.reduceat(values, bounds(len(values), pieces)[:-1])
