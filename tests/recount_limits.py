"""Counts again which limits a placement breaks: from its file, the graph and the chip.

Like ``recount``, without any code of the placement.
"""

from collections.abc import Callable
from copy import copy
from itertools import product
from typing import Any

import numpy as np
from recount import AXES, Counted, cores_of, injected_by_host, three, weight_width

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import AnySynapse, Delta, Dense, FixedGraph, SigmaDelta

Recount = Callable[[FixedGraph, dict[str, Any], ChipSpec], Counted]
Broken = dict[tuple[str, str], tuple[int, int]]  # layer and limit: need, have
GRADED_BITS = 24  # of a graded message, its sign among them


def broken_limits(
    graph: FixedGraph,
    data: dict[str, Any],
    chip: ChipSpec,
    recount: Recount,
    *,
    cores: int | None = None,
    max_chips: int | None = None,
    some: bool = False,
) -> Broken:
    """What is broken, what it takes at least, and what there is.

    Args:
        graph: the network.
        data: the file.
        chip: the chip.
        recount: counts what every core takes.
        cores, max_chips: what there is of them.
        some: whether neurons of the first channel alone stand for all: a large network.
    """
    found = _of_cores(graph, data, chip, recount, some)
    for synapse in graph.synapses:
        if not injected_by_host(graph, synapse, chip):
            for at, need, have in _of_synapse(graph, synapse, chip):
                if need > have:
                    found[at] = (max(need, found.get(at, (0, 0))[0]), have)
    used, there = len(cores_of(data)), [10**9]
    there += [] if cores is None else [cores]
    there += [] if max_chips is None else [max_chips * chip.cores_per_chip.value]
    if used > min(there):
        found["", "cores"] = (used, min(there))
    return found


def core_loads(counted: Counted, chip: ChipSpec) -> dict[str, tuple[Any, int]]:
    """Per limit of a core: what each core takes, and what there is."""
    limits = {
        "neurons": (counted.compartments, chip.compartments_per_core.value),
        "synaptic memory": (counted.synapse_bits, chip.synaptic_memory.value),
        "input axons": (counted.input_axons, chip.input_axons.value),
        "output axons": (counted.output_axons, chip.output_axons.value),
    }
    if chip.core_memory is not None:
        both = counted.synapse_bits + counted.state_bits
        limits["state memory"] = (both, chip.core_memory.value)
    return limits


def _of_cores(
    graph: FixedGraph, data: dict[str, Any], chip: ChipSpec, recount: Recount, some: bool
) -> Broken:
    layer_of = np.array([core["layer"] for core in cores_of(data)])
    found: Broken = {}
    loads = core_loads(recount(graph, data, chip), chip)
    for node in graph.nodes:
        here = layer_of == node.name
        over = [name for name, (load, have) in loads.items() if load[here].max() > have]
        if over:
            least = _least(graph, data, chip, recount, node.name, some)
            for name in over:
                load, have = loads[name]
                # where another split would keep it, what the fullest core takes
                need = least[name] if least[name] > have else int(load[here].max())
                found[node.name, name] = (need, have)
    return found


def _least(
    graph: FixedGraph,
    data: dict[str, Any],
    chip: ChipSpec,
    recount: Recount,
    layer: str,
    some: bool,
) -> dict[str, int]:
    """What the fullest core of a layer takes at least, each axis cut into neurons or not at all."""
    shape = three(graph.node(layer).shape)
    near = copy(graph)  # nothing else loads the layer's cores
    touching = tuple(s for s in graph.synapses if layer in (s.source, s.target))
    object.__setattr__(near, "synapses", touching)
    found: dict[str, int] = {}
    for cut in [(True,) * 3] if some else product((False, True), repeat=3):
        pieces = [
            [[i, i + 1] for i in range(1 if some and not axis else n)] if fine else [[0, n]]
            for axis, (n, fine) in enumerate(zip(shape, cut, strict=True))
        ]
        cores = [
            {"layer": layer, **dict(zip(AXES, block, strict=True))} for block in product(*pieces)
        ]
        layers = [
            {**row, "cores": cores} if row["name"] == layer else row for row in data["layers"]
        ]
        anew = {**data, "layers": layers}
        here = np.array([core["layer"] == layer for core in cores_of(anew)])
        for name, (load, _) in core_loads(recount(near, anew, chip), chip).items():
            found[name] = min(int(load[here].max()), found.get(name, 10**18))
    return found


def _of_synapse(
    graph: FixedGraph, synapse: AnySynapse, chip: ChipSpec
) -> list[tuple[tuple[str, str], int, int]]:
    last = synapse.delay
    if isinstance(synapse, Dense) and synapse.delays is not None:
        last += int(np.max(synapse.delays, initial=0))
    rows = [
        ((synapse.target, "delay"), last - 1, chip.max_delay.value),
        ((synapse.target, "weight bits"), weight_width(synapse), chip.weight_bits.value),
    ]
    if isinstance(graph.node(synapse.source), Delta | SigmaDelta) and chip.message_bits.value == 1:
        rows.append(((synapse.source, "graded messages"), GRADED_BITS, 1))
    return rows
