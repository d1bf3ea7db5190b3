"""What one more core would buy: a layer cut once more, for each layer that it could help."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.cost.core_work import CoreWork, Kept, core_work
from spikeship.hw_models.cost.mesh import chip_and_tile
from spikeship.hw_models.cost.step_time import StepTimes, step_times
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.layer import core_limits, layers
from spikeship.hw_models.placement.placement import Core, PlacedLayer, Placement, Range
from spikeship.hw_models.placement.splits import Split, bounds, cells

Place = tuple[int, tuple[int, int]]  # chip, tile


@dataclass(frozen=True)
class OneMore:
    """The next larger split of a layer.

    Attributes:
        layer: its name.
        split: channel groups, row tiles and column tiles.
        cores: how many more than before; 1 where the layer can be cut so.
        seconds: that a sample's chip steps take less; negative where they take longer.
        chips: that are needed beyond those there are.
        static_w: power that these draw whatever they do.
        static_j: static energy of a sample that the placement then has more, the time that is
            saved included; negative where it has less.
    """

    layer: str
    split: tuple[int, int, int]
    cores: int
    seconds: float
    chips: int
    static_w: float
    static_j: float

    def to_json(self) -> dict[str, Any]:
        """The keys of the estimate's bottleneck."""
        return {
            "one_more_core_s": self.seconds,
            "one_more_cores": self.cores,
            "one_more_split": list(self.split),
            "one_more_layer": self.layer,
            "one_more_chips": self.chips,
            "one_more_static_w": self.static_w,
            "one_more_static_j": self.static_j,
        }


NOTHING: dict[str, None] = dict.fromkeys(OneMore("", (1, 1, 1), 1, 0.0, 0, 0.0, 0.0).to_json())


def one_more_core(
    graph: FixedGraph,
    placement: Placement,
    chip: ChipSpec,
    traffic: Traffic,
    num_steps: int,
    names: Sequence[str],
    *,
    work: CoreWork,
    times: StepTimes,
    active: NDArray[np.float64] | None = None,
) -> OneMore | None:
    """Cut each of some layers once more along each axis: what saves most for each core it adds.

    The added cores take the next free places of the mesh, on a further chip where there is none
    left. A cut that leads a layer or its neighbour beyond its axons is no choice; axons are counted
    as if every layer were cut evenly, as ``place`` cuts them.

    Args:
        graph: the network.
        placement: its cores.
        chip: the chip it was placed on.
        traffic: what its neurons send, at this T.
        num_steps: T.
        names: the layers to try.
        work: of the placement.
        times: its steps'.
        active: share of the images that run each local step, (steps,); all by default.

    Returns:
        None where no layer can be cut.
    """
    hopes = {name: _hope(name, work, times) for name in names}
    axons = _Axons(graph, placement, chip)
    kept = Kept()
    best: OneMore | None = None
    for name in sorted(hopes, key=lambda name: -hopes[name]):
        if best is not None and best.seconds / best.cores >= hopes[name]:
            break
        old = _named(placement, name)
        for split in _larger(old, cells(graph.node(name).shape)):
            if not axons.keep(name, split):
                continue
            cut = _cut(old, cells(graph.node(name).shape), split, placement, chip)
            changed = tuple(cut if one is old else one for one in placement.layers)
            tried = replace(placement, layers=changed)
            new = core_work(graph, tried, chip, traffic, num_steps, active=active, kept=kept)
            found = _bought(placement, chip, cut, times, step_times(new, chip))
            if best is None or found.seconds / found.cores > best.seconds / best.cores:
                best = found
    return best


def _bought(
    placement: Placement, chip: ChipSpec, cut: PlacedLayer, before: StepTimes, after: StepTimes
) -> OneMore:
    chips = max(0, 1 + max(core.chip for core in cut.cores) - placement.chips)
    watts = chip.static_power.value
    static = watts * ((placement.chips + chips) * after.total - placement.chips * before.total)
    return OneMore(
        layer=cut.name,
        split=(cut.channel_groups, cut.row_tiles, cut.column_tiles),
        cores=len(cut.cores) - len(_named(placement, cut.name).cores),
        seconds=before.total - after.total,
        chips=chips,
        static_w=watts * chips,
        static_j=static,
    )


def _hope(name: str, work: CoreWork, times: StepTimes) -> float:
    """The most that cutting this layer can save: no other layer's core gets faster by it."""
    others = times.compute[~work.of_layer(name)]
    rest = others.max(axis=0, initial=0.0)
    return float((np.maximum(times.compute.max(axis=0), times.link) - rest).sum())


def _named(placement: Placement, name: str) -> PlacedLayer:
    return next(one for one in placement.layers if one.name == name)


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
    layer: PlacedLayer,
    shape: tuple[int, int, int],
    split: tuple[int, int, int],
    placement: Placement,
    chip: ChipSpec,
) -> PlacedLayer:
    """The layer with another split: its old places first, then free ones."""
    axes: list[list[Range]] = []
    for size, pieces in zip(shape, split, strict=True):
        edges = [int(n) for n in bounds(size, pieces)]
        axes.append(list(zip(edges, edges[1:], strict=False)))
    blocks = [(c, y, x) for c in axes[0] for y in axes[1] for x in axes[2]]
    places = [(core.chip, core.tile) for core in layer.cores]
    places += islice(_free(placement, chip), len(blocks) - len(places))
    cores = tuple(_core(layer, *block, place) for block, place in zip(blocks, places, strict=True))
    groups, rows, columns = split
    return replace(layer, channel_groups=groups, row_tiles=rows, column_tiles=columns, cores=cores)


def _free(placement: Placement, chip: ChipSpec) -> Iterator[Place]:
    """Places on the mesh that no core has, in the order in which cores are placed."""
    taken = Counter((core.chip, core.tile) for layer in placement.layers for core in layer.cores)
    for index in count():
        place = chip_and_tile(index, chip)
        if taken[place] > 0:
            taken[place] -= 1
        else:
            yield place


def _core(layer: PlacedLayer, channels: Range, rows: Range, columns: Range, place: Place) -> Core:
    on_chip, tile = place
    core = replace(layer.cores[0], channels=channels, rows=rows, columns=columns)
    held = core.neurons * layer.compartments
    return replace(core, chip=on_chip, tile=tile, compartments=held)


class _Axons:
    """Whether axons keep their limits where one layer is cut anew."""

    def __init__(self, graph: FixedGraph, placement: Placement, chip: ChipSpec) -> None:
        nobody = {synapse.source: np.zeros((1, 1, 1)) for synapse in graph.synapses}
        made = layers(graph, chip, placement.rules, nobody)
        self.limits = core_limits(chip)
        self.layers = {layer.name: layer for layer in made}
        self.splits = {
            one.name: Split(one.channel_groups, one.row_tiles, one.column_tiles)
            for one in placement.layers
        }

    def keep(self, name: str, split: tuple[int, int, int]) -> bool:
        """Whether the layer and its neighbours keep the limits that they keep now."""
        changed = {**self.splits, name: Split(*split)}
        links = (*self.layers[name].incoming, *self.layers[name].outgoing)
        ends = {end for link in links for end in (link.synapse.source, link.synapse.target)}
        for one in ({name} | ends) & set(self.layers):
            layer = self.layers[one]
            now = layer.axons(self.splits[one], self.splits)
            for limit, loads in layer.axons(changed[one], changed).items():
                if loads.max() > max(self.limits[limit].value, now[limit].max()):
                    return False
        return True
