"""What one more core for the layer that decides the time would buy."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.cost.core_work import core_work
from spikeship.hw_models.cost.step_time import step_times
from spikeship.hw_models.cost.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.placement import Core, PlacedLayer, Placement, Range
from spikeship.hw_models.placement.splits import bounds, cells


@dataclass(frozen=True)
class OneMore:
    """The next larger split of a layer.

    Attributes:
        layer: its name. split: channel groups, row tiles and column tiles.
        cores: how many more than before; 1 where the layer can be cut so.
        seconds: that a sample's chip steps take less; negative where they take longer.
    """

    layer: str
    split: tuple[int, int, int]
    cores: int
    seconds: float


def one_more_core(
    graph: FixedGraph,
    placement: Placement,
    chip: ChipSpec,
    traffic: Traffic,
    num_steps: int,
    layer: str,
    *,
    now: float,
    active: NDArray[np.float64] | None = None,
) -> OneMore | None:
    """Cut a layer once more along each axis and keep what saves most for each core it adds.

    The cores that are added share the router of the layer's last one. Output axons of the cores
    that feed the layer are not checked again.

    Args:
        graph: the network.
        placement: its cores.
        chip: the chip it was placed on.
        traffic: what its neurons send, at this T.
        num_steps: T.
        layer: name of the layer.
        now: seconds that a sample's chip steps take as it is placed.
        active: share of the images that run each local step, (steps,); all by default.

    Returns:
        None where the layer has one neuron a core.
    """
    old = next(one for one in placement.layers if one.name == layer)
    shape = cells(graph.node(layer).shape)
    found = []
    for split in _larger(old, shape):
        cut = _cut(old, shape, split)
        layers = tuple(cut if one.name == layer else one for one in placement.layers)
        tried = replace(placement, layers=layers)
        work = core_work(graph, tried, chip, traffic, num_steps, active=active)
        saved = now - step_times(work, chip).total
        found.append(OneMore(layer, split, len(cut.cores) - len(old.cores), saved))
    return max(found, key=lambda one: one.seconds / one.cores, default=None)


def _larger(layer: PlacedLayer, shape: tuple[int, int, int]) -> list[tuple[int, int, int]]:
    """The splits with one more piece along one axis."""
    old = (layer.channel_groups, layer.row_tiles, layer.column_tiles)
    found = []
    for axis, size in enumerate(shape):
        if old[axis] < size:
            pieces = list(old)
            pieces[axis] += 1
            found.append((pieces[0], pieces[1], pieces[2]))
    return found


def _cut(
    layer: PlacedLayer, shape: tuple[int, int, int], split: tuple[int, int, int]
) -> PlacedLayer:
    axes: list[list[Range]] = []
    for size, pieces in zip(shape, split, strict=True):
        edges = [int(n) for n in bounds(size, pieces)]
        axes.append(list(zip(edges, edges[1:], strict=False)))
    regions = [(c, y, x) for c in axes[0] for y in axes[1] for x in axes[2]]
    cores = tuple(_core(layer, i, *region) for i, region in enumerate(regions))
    groups, rows, columns = split
    return replace(layer, channel_groups=groups, row_tiles=rows, column_tiles=columns, cores=cores)


def _core(layer: PlacedLayer, index: int, channels: Range, rows: Range, columns: Range) -> Core:
    like = layer.cores[min(index, len(layer.cores) - 1)]
    core = replace(like, channels=channels, rows=rows, columns=columns)
    return replace(core, compartments=core.neurons * layer.compartments)
