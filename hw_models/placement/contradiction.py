"""Contradiction: what in a placement cannot be, whatever graph it is of."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING

from spikeship.hw_models import chips

if TYPE_CHECKING:
    from spikeship.hw_models.chips.spec import ChipSpec
    from spikeship.hw_models.placement.placement import PlacedLayer, Placement


def contradiction(placement: Placement) -> str | None:
    """Return the first part of a placement that another part or its chip contradicts.

    Loads are taken as they are: they follow from the graph.
    """
    if placement.chip not in chips.CHIPS:
        return f"'chip' is {placement.chip!r}, not one of {', '.join(chips.CHIPS)}"
    if not placement.layers:
        return "'layers' is empty"
    names = [layer.name for layer in placement.layers]
    for name, times in Counter(names).items():
        if times > 1:
            return f"'layers' has {name!r} {times} times"
    for layer in placement.layers:
        wrong = _split(layer)
        if wrong is not None:
            return f"layer {layer.name!r}: {wrong}"
    for misfit in placement.misfits:
        if misfit.layer not in (*names, ""):
            return f"'misfits' names a layer {misfit.layer!r}, which it does not place"
        if misfit.need <= misfit.have:
            return f"'misfits' says that {misfit.need:,} exceed {misfit.have:,}"
    return _seats(placement, chips.CHIPS[placement.chip])


def _split(layer: PlacedLayer) -> str | None:
    """What is wrong with how a layer is cut."""
    pieces = (layer.channel_groups, layer.row_tiles, layer.column_tiles)
    if min(pieces) < 1 or len(layer.cores) != pieces[0] * pieces[1] * pieces[2]:
        return f"{' x '.join(map(str, pieces))} pieces on {len(layer.cores)} cores"
    if layer.compartments < 1:
        return f"'compartments' is {layer.compartments}"
    cuts: list[list[tuple[int, int]]] = [
        sorted({(core.channels, core.rows, core.columns)[axis] for core in layer.cores})
        for axis in range(3)
    ]
    for axis, cut in zip(("channels", "rows", "columns"), cuts, strict=True):
        if [low for low, _ in cut] != [0, *(high for _, high in cut[:-1])]:
            return f"its {axis} do not follow each other from 0 on"
    if tuple(map(len, cuts)) != pieces:
        ranges = " x ".join(str(len(cut)) for cut in cuts)
        return f"{ranges} ranges in {' x '.join(map(str, pieces))} pieces"
    for core, block in zip(layer.cores, product(*cuts), strict=True):
        if core.layer != layer.name:
            return f"it has a core of layer {core.layer!r}"
        if (core.channels, core.rows, core.columns) != block:
            return "its cores are not in order, or two hold the same neurons"
        if core.compartments != core.neurons * layer.compartments:
            return f"{core.compartments} compartments for {core.neurons} neurons on a core"
    return None


def _seats(placement: Placement, chip: ChipSpec) -> str | None:
    """What is wrong with where the cores are."""
    cores = [core for layer in placement.layers for core in layer.cores]
    used = {core.chip for core in cores}
    if used != set(range(placement.chips)):
        return f"'chips' is {placement.chips}, where its cores are on {len(used)}, {max(used)} last"
    width, each = chip.mesh_width.value, chip.cores_per_tile.value
    rows = -(-chip.cores_per_chip.value // (width * each))
    for core in cores:
        if core.tile[0] >= width or core.tile[1] >= rows:
            return f"'tile' is {core.tile}, where a chip has {width} x {rows} tiles"
    for (number, tile), here in Counter((core.chip, core.tile) for core in cores).items():
        if here > each:
            return f"{here} cores on tile {tile} of chip {number}, which has {each}"
    return None
