"""Spreading: spare cores for the slowest layers."""

from collections.abc import Iterator, Mapping, Sequence

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.placement.layer import Layer, core_limits
from spikeship.hw_models.placement.options import Options
from spikeship.hw_models.placement.splits import Split


def spread(
    layers: Sequence[Layer], chip: ChipSpec, splits: Mapping[str, Split], cores: int
) -> dict[str, Split]:
    """Give further cores to the slowest layer, over and over, as long as steps get shorter.

    A step takes as long as the busiest core and then the barrier, which grows with the tiles.

    Args:
        layers: the layers.
        chip: the chip.
        splits: where to start from.
        cores: of all layers together, at most.

    Returns:
        The splits with the shortest step on the way; of equal ones the first.
    """
    return min(_ways(layers, chip, dict(splits), cores), key=lambda way: way[0])[1]


def _ways(
    layers: Sequence[Layer], chip: ChipSpec, splits: dict[str, Split], cores: int
) -> Iterator[tuple[float, dict[str, Split]]]:
    """Give the time of a step, and the splits, after each layer that was given more cores."""
    by_name = {layer.name: layer for layer in layers}
    times = {name: layer.busiest(splits[name], splits) for name, layer in by_name.items()}
    while True:
        used = sum(split.cores for split in splits.values())
        yield max(times.values()) + _barrier(chip, used), splits
        slowest = max(layers, key=lambda layer: times[layer.name])
        more = _faster(slowest, by_name, chip, splits, cores - used)
        if more is None:
            return
        splits = {**splits, slowest.name: more}
        for name in (slowest.name, *_neighbours(slowest, by_name)):
            times[name] = by_name[name].busiest(splits[name], splits)


def _barrier(chip: ChipSpec, cores: int) -> float:
    return chip.barrier(-(-cores // chip.cores_per_tile.value)).value


def _faster(
    layer: Layer,
    layers: Mapping[str, Layer],
    chip: ChipSpec,
    splits: Mapping[str, Split],
    spare: int,
) -> Split | None:
    """The fewest further cores with which a layer is faster, its neighbours within their limits.

    A neighbour may get slower, as it receives from more cores: then its turn comes next.
    """
    limits = core_limits(chip)
    now = splits[layer.name]
    slow = layer.busiest(now, splits)
    for equal in Options(layer, limits, splits).by_cores(now.cores + 1, now.cores + spare):
        timed = sorted((layer.busiest(split, splits), split) for split in equal)
        for time, split in timed:
            changed = {**splits, layer.name: split}
            # itself too: in a loop it is its own neighbour
            touched = (layer, *(layers[name] for name in _neighbours(layer, layers)))
            if time < slow and all(_keeps(one, chip, changed) for one in touched):
                return split
    return None


def _keeps(layer: Layer, chip: ChipSpec, splits: Mapping[str, Split]) -> bool:
    """Whether a layer's axons keep their limits; nothing else depends on its neighbours."""
    limits = core_limits(chip)
    axons = layer.axons(splits[layer.name], splits)
    return all(loads.max() <= limits[name].value for name, loads in axons.items())


def _neighbours(layer: Layer, layers: Mapping[str, Layer]) -> list[str]:
    found = [link.synapse.source for link in layer.incoming]
    found += [link.synapse.target for link in layer.outgoing]
    return [name for name in dict.fromkeys(found) if name in layers and name != layer.name]
