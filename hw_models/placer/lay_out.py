"""Laying out: splits on the cores of chips, in the order of the layers."""

from collections.abc import Mapping, Sequence

import numpy as np

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.cost.mesh import chip_and_tile
from spikeship.hw_models.placement.layer import Layer, Splits, core_limits
from spikeship.hw_models.placement.placement import Core, LimitName, PlacedLayer
from spikeship.hw_models.placement.splits import bounds
from spikeship.hw_models.placer.options import Options


def lay_out(
    made: Sequence[Layer], splits: Splits, chip: ChipSpec, why: Mapping[str, LimitName]
) -> tuple[PlacedLayer, ...]:
    """Give every block of every split a core, one after the other.

    Args:
        made: the layers.
        splits: theirs.
        chip: the chip.
        why: what forced each layer's number of cores.
    """
    placed = []
    first = 0
    for layer in made:
        split = splits[layer.name]
        placed.append(
            PlacedLayer(
                name=layer.name,
                channel_groups=split.groups,
                row_tiles=split.rows,
                column_tiles=split.columns,
                compartments=layer.compartments,
                limit=why[layer.name],
                cores=_cores(layer, splits, chip, first),
            )
        )
        first += split.cores
    return tuple(placed)


def deciding(layer: Layer, splits: Splits, chip: ChipSpec) -> LimitName:
    """The limit that asks for the most cores; among equals the fullest one."""
    split = splits[layer.name]
    if split.cores == 1:
        return "none"
    limits = core_limits(chip)
    options = Options(layer, limits, splits)
    loads = layer.loads(split, splits)
    return max(
        limits,
        key=lambda name: (options.least(name), loads[name].max() / limits[name].value),
    )


def _cores(layer: Layer, splits: Splits, chip: ChipSpec, first: int) -> tuple[Core, ...]:
    split = splits[layer.name]
    loads = layer.loads(split, splits)
    edges = [
        [(int(low), int(high)) for low, high in zip(cut[:-1], cut[1:], strict=True)]
        for cut in (bounds(n, p) for n, p in zip(layer.shape, split.pieces, strict=True))
    ]
    neurons = loads["neurons"] // layer.compartments
    cores = []
    for index, at in enumerate(np.ndindex(split.pieces)):
        on_chip, tile = chip_and_tile(first + index, chip)
        cores.append(
            Core(
                layer=layer.name,
                channels=edges[0][at[0]],
                rows=edges[1][at[1]],
                columns=edges[2][at[2]],
                chip=on_chip,
                tile=tile,
                compartments=int(loads["neurons"][at]),
                synapse_bits=int(loads["synaptic memory"][at]),
                state_bits=int(neurons[at]) * layer.state_bits,
                input_axons=int(loads["input axons"][at]),
                output_axons=int(loads["output axons"][at]),
            )
        )
    return tuple(cores)
