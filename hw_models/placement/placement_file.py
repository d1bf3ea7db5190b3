"""Placement files: a placement as a JSON object, and back."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from itertools import product
from typing import Any, get_args

from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.placement.placement import (
    AxonRule,
    Core,
    Kernels,
    LimitName,
    Misfit,
    PlacedLayer,
    Placement,
    PlacementError,
    Range,
    Rules,
)

FORMAT, VERSION = "spikeship placement", 1


def to_json(placement: Placement) -> dict[str, Any]:
    """Everything as plain lists, numbers and strings, with the format's version."""
    return {"format": FORMAT, "version": VERSION, **asdict(placement)}


def from_json(data: Any) -> Placement:
    """Read what :func:`to_json` gave, after JSON made lists of its tuples.

    Raises:
        PlacementError: it is something else, of another version, or damaged.
    """
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise PlacementError("no placement: 'format' is missing; write it with to_json")
    if type(data.get("version")) is not int or data["version"] != VERSION:
        raise PlacementError(
            f"placement of version {data.get('version')!r}, where this reads {VERSION}; place "
            "the network anew"
        )
    found = Placement(
        chip=_get(data, "chip", str),
        rules=_rules(_get(data, "rules", Mapping)),
        layers=tuple(_layer(each) for each in _get(data, "layers", list | tuple)),
        chips=_count(data, "chips"),
        misfits=tuple(_misfit(each) for each in _get(data, "misfits", list | tuple)),
        assumptions=_texts(data, "assumptions"),
        injected=_texts(data, "injected"),
    )
    wrong = contradiction(found)
    if wrong is not None:
        raise PlacementError(f"damaged placement: {wrong}; place the network anew")
    return found


def _get(data: Any, key: str, kind: Any) -> Any:
    if not isinstance(data, Mapping) or not isinstance(data.get(key), kind):
        raise PlacementError(
            f"damaged placement: {key!r} is missing or of a wrong kind; place the network anew"
        )
    return data[key]


def _count(data: Any, key: str) -> int:
    value = _get(data, key, int)
    if isinstance(value, bool) or value < 0:
        raise PlacementError(f"damaged placement: {key!r} is {value!r}; place the network anew")
    return int(value)


def _texts(data: Any, key: str) -> tuple[str, ...]:
    values = _get(data, key, list | tuple)
    if not all(isinstance(value, str) for value in values):
        raise PlacementError(f"damaged placement: {key!r} is no list of strings; place anew")
    return tuple(values)


def _choice(data: Any, key: str, choices: Any) -> Any:
    value = _get(data, key, str)
    if value not in get_args(choices):
        raise PlacementError(
            f"damaged placement: {key!r} is {value!r}, not one of {', '.join(get_args(choices))}"
        )
    return value


def _two_counts(data: Any, key: str) -> tuple[int, int]:
    values = _get(data, key, list | tuple)
    if len(values) != 2 or not all(type(value) is int and value >= 0 for value in values):
        raise PlacementError(f"damaged placement: {key!r} is {values!r}, not two counts")
    return (values[0], values[1])


def _range(data: Any, key: str) -> Range:
    low, high = _two_counts(data, key)
    if low >= high:
        raise PlacementError(f"damaged placement: {key!r} is {low}..{high}, an empty range")
    return (low, high)


def _rules(data: Any) -> Rules:
    return Rules(_choice(data, "axons", AxonRule), _choice(data, "kernels", Kernels))


def _layer(data: Any) -> PlacedLayer:
    return PlacedLayer(
        name=_get(data, "name", str),
        channel_groups=_count(data, "channel_groups"),
        row_tiles=_count(data, "row_tiles"),
        column_tiles=_count(data, "column_tiles"),
        compartments=_count(data, "compartments"),
        limit=_choice(data, "limit", LimitName),
        cores=tuple(_core(each) for each in _get(data, "cores", list | tuple)),
    )


def _core(data: Any) -> Core:
    return Core(
        layer=_get(data, "layer", str),
        channels=_range(data, "channels"),
        rows=_range(data, "rows"),
        columns=_range(data, "columns"),
        chip=_count(data, "chip"),
        tile=_two_counts(data, "tile"),
        compartments=_count(data, "compartments"),
        synapse_bits=_count(data, "synapse_bits"),
        state_bits=_count(data, "state_bits"),
        input_axons=_count(data, "input_axons"),
        output_axons=_count(data, "output_axons"),
    )


def _misfit(data: Any) -> Misfit:
    return Misfit(
        layer=_get(data, "layer", str),
        limit=_choice(data, "limit", LimitName),
        need=_count(data, "need"),
        have=_count(data, "have"),
        change=_get(data, "change", str),
        assumed=_get(data, "assumed", bool),
    )


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
