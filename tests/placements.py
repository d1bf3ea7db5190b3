"""Placements, costs and a network made by hand, for tests of what they cost."""

from itertools import product
from typing import Any

import numpy as np

from spikeship.hw_models.chips.spec import ChipSpec, Constant, EventCosts
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.placement.placement import Core, PlacedLayer, Placement, Rules

Ranges = list[tuple[int, int]]
Cuts = tuple[Ranges, Ranges, Ranges]  # of channels, rows and columns
KINDS = tuple(EventCosts.__dataclass_fields__)


def network(hidden: int = 4) -> FixedGraph:
    """Three inputs, ``hidden`` neurons that read two of them, and a readout of two."""
    weight = np.zeros((hidden, 3), dtype=np.int16)
    weight[:, :2] = 1
    return FixedGraph(
        Input("input", (3,), signed=False),
        (Neuron("h", (hidden,), np.array(1)), Readout("out", (2,))),
        (
            Dense(name="f1", source="input", target="h", weight=weight),
            Dense(name="f2", source="h", target="out", weight=np.ones((2, hidden), dtype=np.int16)),
        ),
    )


def constant(value: float, low: float | None = None, high: float | None = None) -> Constant:
    ends = (value if low is None else low, value if high is None else high)
    return Constant(value, *ends, "", "test", "assumed")


def costs(**prices: float) -> EventCosts:
    """Costs without a spread; what is not named is free."""
    assert set(prices) <= set(KINDS)
    return EventCosts(**{kind: constant(prices.get(kind, 0.0)) for kind in KINDS})


def halves(neurons: int, pieces: int) -> Ranges:
    """A flat layer in so many equal pieces."""
    size, rest = divmod(neurons, pieces)
    assert rest == 0
    return [(i * size, (i + 1) * size) for i in range(pieces)]


def flat(channels: Ranges) -> Cuts:
    return channels, [(0, 1)], [(0, 1)]


def layer(
    name: str, cuts: Cuts, where: list[tuple[int, tuple[int, int]]], compartments: int = 1
) -> PlacedLayer:
    """A layer cut so, its cores one after another at (chip, tile), starting anew at the end."""
    cores = []
    for i, (channels, rows, columns) in enumerate(product(*cuts)):
        chip, tile = where[i % len(where)]
        sizes = [end - begin for begin, end in (channels, rows, columns)]
        held = compartments * int(np.prod(sizes))
        cores.append(Core(name, channels, rows, columns, chip, tile, held, 0, 0, 0, 0))
    pieces: Any = [len(ranges) for ranges in cuts]
    return PlacedLayer(name, *pieces, compartments, "none", tuple(cores))


def placement(chip: ChipSpec, *layers: PlacedLayer) -> Placement:
    chips = 1 + max(core.chip for one in layers for core in one.cores)
    return Placement(chip.name, Rules(), layers, chips, (), ())


def on_one_core(graph: FixedGraph, chip: ChipSpec) -> Placement:
    """Every layer whole, each on a core of its own at the same router."""
    placed = []
    for node in graph.nodes:
        channels, *rest = node.shape
        rows, columns = rest or (1, 1)
        cuts: Cuts = ([(0, channels)], [(0, rows)], [(0, columns)])
        placed.append(layer(node.name, cuts, [(0, (0, 0))], chip.compartments(node)))
    return placement(chip, *placed)
