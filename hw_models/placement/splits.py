"""Splits: how a node's neurons are cut into blocks, and what lies in each block."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.graph import Shape

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Cells = tuple[int, int, int]  # channels, rows, columns


def cells(shape: Shape) -> Cells:
    """Return a node's shape with three axes, its neurons in the same order: (N,) as (N, 1, 1)."""
    if len(shape) == 1:
        return (shape[0], 1, 1)
    return (shape[0], prod(shape[1:-1]), shape[-1])


@dataclass(frozen=True, order=True)
class Split:
    """Channel groups times row tiles times column tiles; a core holds one of their blocks."""

    groups: int = 1
    rows: int = 1
    columns: int = 1

    @property
    def cores(self) -> int:
        """Blocks."""
        return self.groups * self.rows * self.columns

    @property
    def pieces(self) -> Cells:
        """Pieces of each axis."""
        return (self.groups, self.rows, self.columns)


def bounds(size: int, pieces: int) -> Ints:
    """Where ``pieces`` pieces of an axis start, and its end; their sizes differ by at most 1."""
    return np.arange(pieces + 1, dtype=np.int64) * size // pieces


def sizes(size: int, pieces: int) -> Ints:
    """Sizes of the pieces of an axis."""
    return np.diff(bounds(size, pieces))


def piece_counts(size: int) -> Ints:
    """Numbers of pieces to try: for every largest piece the fewest that reach it."""
    return np.unique(-(-size // np.arange(1, size + 1, dtype=np.int64)))


def outer(vectors: Any) -> NDArray[Any]:
    """Product of three vectors, one along each axis."""
    first, second, third = vectors
    return np.asarray(first[:, None, None] * second[None, :, None] * third[None, None, :])


class Field:
    """A quantity of every neuron of a node, summed over blocks without going through them.

    Args:
        values: by neuron; an axis of length 1 stands for the same value all along it.
        shape: the node's.
    """

    def __init__(self, values: NDArray[Any], shape: Cells) -> None:
        assert all(n in (1, size) for n, size in zip(values.shape, shape, strict=True))
        self.shape = shape
        self.values = values
        totals = values
        for axis, n in enumerate(values.shape):
            if n > 1:
                totals = np.cumsum(totals, axis=axis)
                totals = np.concatenate([np.zeros_like(totals.take([0], axis)), totals], axis)
        self._totals = totals

    @property
    def uniform(self) -> bool:
        """Whether every neuron has the same."""
        return self.values.size == 1

    def total(self) -> Any:
        """Sum over the node."""
        return self.blocks(Split()).item()

    def blocks(self, split: Split) -> NDArray[Any]:
        """Sum over each block, (groups, row tiles, column tiles)."""
        result = self._totals
        for axis, (size, pieces) in enumerate(zip(self.shape, split.pieces, strict=True)):
            if self.values.shape[axis] > 1:
                result = np.diff(result.take(bounds(size, pieces), axis), axis=axis)
            else:
                along = [1, 1, 1]
                along[axis] = pieces
                result = result * sizes(size, pieces).reshape(along)
        return np.asarray(result)


def labels(shape: Cells, split: Split) -> Ints:
    """Index of the block that each neuron lies in, flat in torch's order."""
    along = [
        np.repeat(np.arange(pieces, dtype=np.int64), sizes(size, pieces))
        for size, pieces in zip(shape, split.pieces, strict=True)
    ]
    group, row, column = np.ix_(*along)
    index: Ints = (group * split.rows + row) * split.columns + column
    return index.ravel()
