"""Regions: a layer's neurons cut into blocks, one a core, and what a source position meets in each.

Shapes are seen as (channels, rows, columns); a flat node of N neurons is (N, 1, 1).
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.graph import Array, Conv, FixedGraph
from spikeship.hw_models.placement.placement import PlacedLayer, Placement, PlacementError, Range
from spikeship.hw_models.placement.splits import cells

Steps = NDArray[np.float64]  # (cores or flows, steps)


@dataclass(frozen=True, eq=False)
class Regions:
    """A layer cut along its three axes; region i is the i-th of their product, columns fastest.

    Attributes:
        channels, rows, columns: half-open ranges that follow each other and cover the axis.
    """

    channels: tuple[Range, ...]
    rows: tuple[Range, ...]
    columns: tuple[Range, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many ranges each axis has."""
        return (len(self.channels), len(self.rows), len(self.columns))

    @property
    def count(self) -> int:
        """How many regions there are."""
        return len(self.channels) * len(self.rows) * len(self.columns)

    @cached_property
    def sizes(self) -> Array:
        """Neurons of every region, (count,)."""
        axes = [np.diff(np.array(ranges)).ravel() for ranges in self._axes]
        return np.asarray(np.einsum("c,y,x->cyx", *axes).ravel(), dtype=np.int64)

    @cached_property
    def of_neuron(self) -> Array:
        """Region of every neuron, flat, in torch's order."""
        axes = [
            np.repeat(np.arange(len(ranges)), np.diff(np.array(ranges)).ravel())
            for ranges in self._axes
        ]
        index = np.ravel_multi_index(np.ix_(*axes), self.shape)
        return np.asarray(index.ravel(), dtype=np.int64)

    def sums(self, messages: NDArray[np.floating[Any]]) -> Steps:
        """Messages (steps, *shape) summed over every region, (count, steps)."""
        sent = messages.reshape(len(messages), *cells(messages.shape[1:]))
        down = inside(self.rows, sent.shape[2]).astype(np.float64)
        across = inside(self.columns, sent.shape[3]).astype(np.float64)
        found = np.zeros((*self.shape, len(sent)))
        for group, (low, high) in enumerate(self.channels):
            total = sent[:, low:high].sum(axis=1, dtype=np.float64)
            found[group] = np.matmul(down, total @ across.T).transpose(1, 2, 0)
        return found.reshape(self.count, -1)

    @property
    def _axes(self) -> tuple[tuple[Range, ...], ...]:
        return (self.channels, self.rows, self.columns)


def regions(graph: FixedGraph, layer: PlacedLayer) -> Regions:
    """The regions of a placed layer, in the order of its cores.

    Raises:
        PlacementError: they are not the product of ranges that cover the node.
    """
    found = Regions(
        channels=tuple(dict.fromkeys(core.channels for core in layer.cores)),
        rows=tuple(dict.fromkeys(core.rows for core in layer.cores)),
        columns=tuple(dict.fromkeys(core.columns for core in layer.cores)),
    )
    ordered = [(c, y, x) for c in found.channels for y in found.rows for x in found.columns]
    if ordered != [(core.channels, core.rows, core.columns) for core in layer.cores]:
        raise PlacementError(
            f"layer {layer.name!r}: its cores are no product of channel groups, rows and columns "
            "in order; place the network anew"
        )
    sides = cells(graph.node(layer.name).shape)
    for size, ranges in zip(sides, (found.channels, found.rows, found.columns), strict=True):
        edges = [0, *(high for _, high in ranges)]
        if [low for low, _ in ranges] != edges[:-1] or edges[-1] != size:
            raise PlacementError(
                f"layer {layer.name!r}: cores hold {ranges} of an axis of {size}; the placement is "
                "not of this graph: place it anew"
            )
    return found


def all_regions(graph: FixedGraph, placement: Placement) -> dict[str, Regions]:
    """The regions of every layer by name.

    Raises:
        PlacementError: the placement is not of this graph.
    """
    names = [node.name for node in graph.nodes]
    if [layer.name for layer in placement.layers] != names:
        raise PlacementError(
            f"placement of layers {[layer.name for layer in placement.layers]} is not of this "
            f"graph, which has {names}; place the graph that is estimated"
        )
    return {layer.name: regions(graph, layer) for layer in placement.layers}


def inside(ranges: tuple[Range, ...], size: int) -> NDArray[np.bool_]:
    """Which positions of an axis lie in each range, (ranges, size)."""
    position = np.arange(size)
    return np.array([(position >= low) & (position < high) for low, high in ranges])


def axis_taps(synapse: Conv, axis: int, size: int, ranges: tuple[Range, ...]) -> Array:
    """Kernel taps by which a source position reaches each range of a convolution's output.

    Args:
        synapse: the convolution.
        axis: 0 for rows, 1 for columns.
        size: source positions along the axis, before the pool.
        ranges: of output positions.

    Returns:
        int64 (ranges, size).
    """
    kernel, stride = synapse.weight.shape[2 + axis], synapse.stride[axis]
    tap = np.arange(kernel)[:, None]
    pooled = np.arange(size)[None, :] // synapse.pool
    reach = pooled + synapse.padding[axis] - synapse.dilation[axis] * tap
    output = np.where(reach % stride == 0, reach // stride, -1)
    taps = [((output >= low) & (output < high)).sum(axis=0) for low, high in ranges]
    return np.array(taps, dtype=np.int64).reshape(len(ranges), size)


@dataclass(frozen=True)
class Segment:
    """Source channels that each reach so many output channels of a range."""

    channels: Range
    outputs: int


def segments(synapse: Conv, outputs: Range) -> list[Segment]:
    """Source channels that lead into a range of a convolution's output channels."""
    out, per_group = synapse.weight.shape[:2]
    share = out // synapse.groups
    found: list[Segment] = []
    for group in range(outputs[0] // share, -(-outputs[1] // share)):
        low, high = max(outputs[0], group * share), min(outputs[1], (group + 1) * share)
        first, last = group * per_group, (group + 1) * per_group
        if found and found[-1].outputs == high - low:
            first = found.pop().channels[0]
        found.append(Segment((first, last), high - low))
    return found
