"""place: a graph onto the cores of a chip."""

from collections.abc import Mapping

import numpy as np

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.cost.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.assumptions import EVEN_RATE, assumptions
from spikeship.hw_models.placement.demand import injected
from spikeship.hw_models.placement.known import on_so_many
from spikeship.hw_models.placement.layer import Layer, Splits, core_limits, layers
from spikeship.hw_models.placement.mesh import chip_and_tile
from spikeship.hw_models.placement.misfits import Problem, misfits
from spikeship.hw_models.placement.options import Options
from spikeship.hw_models.placement.placement import (
    Core,
    LimitName,
    PlacedLayer,
    Placement,
    PlacementError,
    Rules,
)
from spikeship.hw_models.placement.settle import settle
from spikeship.hw_models.placement.splits import Floats, bounds, cells
from spikeship.hw_models.placement.spread import spread


def place(
    graph: FixedGraph,
    chip: ChipSpec,
    *,
    rules: Rules = Rules(),  # noqa: B008  (frozen)
    traffic: Traffic | None = None,
    max_chips: int | None = None,
    cores: int | None = None,
    layer_cores: Mapping[str, int] | None = None,
) -> Placement:
    """Place every layer of a graph on cores of a chip.

    Each layer takes the fewest cores that keep all limits of a core, cut so that its busiest core
    is the fastest and then so that the fewest messages are sent. Spare cores of the chips that are
    taken anyway go one by one to the layer whose busiest core is the slowest, while that helps.
    The same arguments always give the same placement.

    Args:
        graph: the network.
        chip: the chip; it may be another than the one the network was quantized for.
        rules: how axons and kernels are counted.
        traffic: how often each neuron sends; without, all send equally often.
        max_chips: chips there are; None for as many as it takes.
        cores: cores to use in all, instead of whole chips.
        layer_cores: cores of each of some layers, as a known mapping has them; the others then
            take the fewest.

    Returns:
        The placement; what does not fit is in its ``misfits``.

    Raises:
        PlacementError: ``max_chips`` or ``cores`` is below 1, the traffic is of another graph, or a
            layer cannot lie on so many cores.
    """
    for name, value in (("max_chips", max_chips), ("cores", cores)):
        if value is not None and value < 1:
            raise PlacementError(f"{name}: {value} is no number of them; give 1 or more")
    problem = Problem(graph, rules, _rates(graph, traffic))
    made = layers(graph, chip, rules, problem.rates)
    limits = core_limits(chip)
    splits = settle(made, limits)
    fewest = sum(split.cores for split in splits.values())
    per_chip = chip.cores_per_chip.value
    wanted = cores if cores is not None else -(-fewest // per_chip) * per_chip
    found = misfits(problem, chip, made, splits, max_chips=max_chips, cores=cores)
    if found:
        final = splits
    elif layer_cores is not None:
        final = on_so_many(made, limits, splits, layer_cores)
    else:
        final = spread(made, chip, splits, wanted)
    used = sum(split.cores for split in final.values())
    lines = assumptions(graph, chip, rules, traffic is not None, used)
    if cores is not None and used < cores:
        lines += (f"{used:,} of {cores:,} cores are used: no more would make a step shorter",)
    return Placement(
        chip=chip.name,
        rules=rules,
        layers=_placed(made, final, splits, chip),
        chips=-(-used // per_chip),
        misfits=found,
        assumptions=lines,
        injected=tuple(s.name for s in graph.synapses if injected(graph, s, chip)),
    )


def _rates(graph: FixedGraph, traffic: Traffic | None) -> dict[str, Floats]:
    """Messages that every neuron sends in a mean step, with one value where all send alike."""
    rates = {}
    for synapse in graph.synapses:
        name = synapse.source
        if traffic is None:
            rates[name] = np.full((1, 1, 1), EVEN_RATE)
        elif name not in rates:
            rates[name] = _mean(traffic, name, graph.node(name).shape)
    return rates


def _mean(traffic: Traffic, name: str, shape: tuple[int, ...]) -> Floats:
    sent = traffic.messages.get(name)
    if sent is None or sent.shape[1:] != shape:
        raise PlacementError(
            f"traffic of node {name!r}: {None if sent is None else sent.shape[1:]} where the graph "
            f"has {shape}; record the graph that is placed"
        )
    if not any(sent.strides[1:]):  # the same for all, said once
        return np.full((1, 1, 1), float(sent.reshape(len(sent), -1)[:, 0].mean()))
    return np.asarray(sent.mean(axis=0, dtype=np.float64).reshape(cells(shape)))


def _placed(
    made: tuple[Layer, ...], splits: Splits, fewest: Splits, chip: ChipSpec
) -> tuple[PlacedLayer, ...]:
    placed = []
    first = 0
    for layer in made:
        split = splits[layer.name]
        grew = split != fewest[layer.name]
        placed.append(
            PlacedLayer(
                name=layer.name,
                channel_groups=split.groups,
                row_tiles=split.rows,
                column_tiles=split.columns,
                compartments=layer.compartments,
                limit="time" if grew else _limit(layer, fewest, chip),
                cores=_cores(layer, splits, chip, first),
            )
        )
        first += split.cores
    return tuple(placed)


def _limit(layer: Layer, splits: Splits, chip: ChipSpec) -> LimitName:
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
