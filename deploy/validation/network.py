"""A workload's description as the network, its event counts and its cores."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from spikeship.deploy.validation.fields import RowError
from spikeship.deploy.validation.layers import Layer
from spikeship.deploy.validation.rows import Workload
from spikeship.deploy.validation.synapses import connect
from spikeship.hw_models.graph import AnySynapse, FixedGraph, GraphError, Input, Neuron

INPUT = "input"
SEED = 1
MOST_WEIGHTS = 400_000_000  # of a workload: what a small machine builds
MOST_LAYERS = 10_000


@dataclass(frozen=True, eq=False)
class Network:
    """A workload's network.

    Attributes:
        graph: with weights of the right shapes and widths; their values say nothing.
        layer_of: by node, the layer of the description it came from, and its place in its chain.
        cores: by node, where they are known.
    """

    graph: FixedGraph
    layer_of: Mapping[str, tuple[Layer, int]]
    cores: Mapping[str, int]


def build(workload: Workload) -> Network:
    """Make the network of a workload.

    Raises:
        RowError: its layers do not fit each other, or are too many.
    """
    _check_size(workload)
    making = _Making(workload)
    try:
        for layer in workload.layers:
            making.add(layer)
        graph = FixedGraph(
            Input(INPUT, workload.input_shape, "spikes", signed=False),
            tuple(making.nodes),
            tuple(making.synapses),
            workload.steps,
        )
    except GraphError as error:
        raise RowError(f"its layers make no network: {error}") from None
    known = making.layer_of.items()
    cores = {name: layer.cores for name, (layer, _) in known if layer.cores is not None}
    return Network(graph, making.layer_of, cores)


class _Making:
    """A network being made, layer by layer."""

    def __init__(self, workload: Workload) -> None:
        self.reset = workload.reset
        self.nodes: list[Neuron] = []
        self.synapses: list[AnySynapse] = []
        self.layer_of: dict[str, tuple[Layer, int]] = {}
        self.ends = {INPUT: [INPUT]}  # by layer, the last nodes of its chains
        self.shapes = {INPUT: workload.input_shape}
        self.depths = {INPUT: 0}
        self.rng = np.random.default_rng(SEED)

    def add(self, layer: Layer) -> None:
        """Add a layer, or all chains of it."""
        fed = [end for source in layer.sources for end in self.ends[source]]
        for copy, place in product(range(layer.copies), range(layer.depth)):
            sources = fed if place == 0 else [_name(layer, copy, place - 1)]
            self._add_node(layer, _name(layer, copy, place), sources, place)
        self.ends[layer.name] = [
            _name(layer, copy, layer.depth - 1) for copy in range(layer.copies)
        ]

    def _add_node(self, layer: Layer, name: str, sources: list[str], place: int) -> None:
        least = 2 if layer.pool > 1 and layer.connect != "conv" else 1
        self.depths[name] = max(self.depths[source] for source in sources) + least
        for source in sources:
            delay = self.depths[name] - self.depths[source]  # all ways in take equally long
            shape = self.shapes[source]
            self.synapses.append(connect(layer, source, name, shape, delay, self.rng))
        self.shapes[name] = layer.shape
        self.nodes.append(Neuron(name, layer.shape, np.array(64), reset=self.reset))
        self.layer_of[name] = (layer, place)


def _check_size(workload: Workload) -> None:
    layers = sum(layer.depth * layer.copies for layer in workload.layers)
    if layers > MOST_LAYERS:
        raise RowError(f"it has {layers:,} layers; give at most {MOST_LAYERS:,}")
    ends = {INPUT: (workload.input_shape, 1)}
    weights = 0
    for layer in workload.layers:
        size = math.prod(layer.shape)
        fed = [
            (shape, copies * layer.copies)
            for shape, copies in (ends[name] for name in layer.sources)
        ]
        fed.append((layer.shape, (layer.depth - 1) * layer.copies))
        for shape, times in fed:
            inputs = math.prod(shape) // layer.pool**2
            per_neuron = {"dense": inputs, "sparse": layer.fan_in, "conv": shape[0]}[layer.connect]
            kernel = math.prod(layer.kernel) if layer.connect == "conv" else 1
            outputs = layer.shape[0] if layer.connect == "conv" else size
            weights += times * per_neuron * kernel * outputs
        ends[layer.name] = (layer.shape, layer.copies)
    if weights > MOST_WEIGHTS:
        raise RowError(f"it has {weights:,} weights; give at most {MOST_WEIGHTS:,}")


def _name(layer: Layer, copy: int, place: int) -> str:
    numbers = [copy] * (layer.copies > 1) + [place] * (layer.depth > 1)
    return ".".join([layer.name, *map(str, numbers)])
