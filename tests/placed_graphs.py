"""Small graphs to place, and what to look at in a placement."""

from typing import Any, Literal

import numpy as np

from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import (
    Conv,
    Dense,
    FixedGraph,
    Input,
    Neuron,
)
from spikeship.hw_models.placement.layer import core_limits, layers
from spikeship.hw_models.placement.placement import PlacedLayer, Placement, Rules
from spikeship.hw_models.placement.splits import Split
from spikeship.hw_models.placer.settle import settle

LOIHI1, LOIHI2 = chips.get("loihi1"), chips.get("loihi2")
CORE_BITS = 128 * 1024 * 8
Reset = Literal["subtract", "zero"]


def fewest(graph: FixedGraph, chip: ChipSpec, rules: Rules = Rules()) -> list[Split]:  # noqa: B008
    """The splits before spare cores are given away, by node."""
    rates = {synapse.source: np.full((1, 1, 1), 0.1) for synapse in graph.synapses}
    splits = settle(layers(graph, chip, rules, rates), core_limits(chip))
    return [splits[node.name] for node in graph.nodes]


def held(placed: Placement, name: str = "n") -> PlacedLayer:
    return next(layer for layer in placed.layers if layer.name == name)


def bits(layer: PlacedLayer) -> int:
    return sum(core.synapse_bits for core in layer.cores)


def dense_graph(inputs: int, outputs: int, reset: Reset = "zero", **fields: Any) -> FixedGraph:
    fc = Dense(
        name="fc",
        source="input",
        target="n",
        weight=np.zeros((outputs, inputs), dtype=np.int16),
        **fields,
    )
    source = Input("input", (inputs,), signed=False)
    return FixedGraph(source, (Neuron("n", (outputs,), np.array(1), reset=reset),), (fc,))


def conv_graph(
    channels: int,
    outputs: int,
    side: int,
    reset: Reset = "zero",
    signed: bool = False,
    **fields: Any,
) -> FixedGraph:
    conv = Conv(
        name="conv", source="input", target="n", padding=(1, 1),
        weight=np.zeros((outputs, channels, 3, 3), dtype=np.int16), **fields,
    )  # fmt: skip
    source = Input("input", (channels, side, side), signed=signed)
    node = Neuron("n", (outputs, side, side), np.array(1), reset=reset)
    return FixedGraph(source, (node,), (conv,))


def chain(*sizes: int, **fields: Any) -> FixedGraph:
    """Dense layers n1, n2, ... of these sizes behind an input of the first."""
    names = ["input", *(f"n{i}" for i in range(1, len(sizes)))]
    synapses = tuple(
        Dense(
            name=f"fc{i}",
            source=names[i - 1],
            target=names[i],
            weight=np.zeros((sizes[i], sizes[i - 1]), np.int16),
            **fields,
        )
        for i in range(1, len(sizes))
    )
    nodes = tuple(
        Neuron(name, (n,), np.array(1), reset="zero")
        for name, n in zip(names[1:], sizes[1:], strict=True)
    )
    return FixedGraph(Input("input", (sizes[0],), signed=False), nodes, synapses)
