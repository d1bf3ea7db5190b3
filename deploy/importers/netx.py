"""lava-dl's ``.net`` files to a FixedGraph, as netx runs them on Lava.

Where file and netx disagree, netx as it runs is right, and a note says so. The graph is ungated:
every node runs in every chip step. A node is named after its group, ``layer_3``.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from spikeship.deploy.importers import netx_neurons as neurons
from spikeship.deploy.importers import netx_synapses as links
from spikeship.deploy.importers.netx_file import Layer, NetFile, NetxError, read_net
from spikeship.deploy.importers.netx_weights import WeightError
from spikeship.hw_models import fixed
from spikeship.hw_models.graph import (
    AnySynapse,
    Delta,
    FixedGraph,
    GraphError,
    Identity,
    Input,
    Neuron,
    Node,
    Shape,
    SigmaDelta,
)
from spikeship.hw_models.graph.checks import MAX_MESSAGE

__all__ = ["NetxError", "read_netx"]

INPUT = "input"
UNREAD = ("pool", "convT", "unpool", "average", "concat", "dense_comp")
WEIGHT, BIAS = 64, 0  # of the input's transform, where the file says none


def read_netx(path: Path, *, layers: int | None = None) -> FixedGraph:
    """Read a network that lava-dl exported.

    Args:
        path: the ``.net`` file.
        layers: read only the first so many groups, as netx's ``num_layers``.

    Returns:
        An ungated graph with ``spikes`` input. ``metadata["netx"]`` says where it came from and,
        for a network whose input layer has neurons, how images become their input;
        ``metadata["notes"]`` holds a line for all that netx leaves out or changes.

    Raises:
        NetxError: damaged, foreign, or with a part that netx, the chip or the engines could not
            run; one line names file, layer, reason and fix.
    """
    net = read_net(Path(path), layers)
    reader = _Reader(net)
    for layer in net.layers:
        try:
            reader.read(layer)
        except (WeightError, GraphError) as error:
            raise layer.error(str(error)) from error
    return reader.graph()


class _Reader:
    """Walks the layers; holds what was made of those already read."""

    def __init__(self, net: NetFile) -> None:
        self.net = net
        self.input: Input | None = None
        self.bare_shape: Shape | None = None  # of an input layer without neurons
        self.transform: dict[str, int] | None = None
        self.flattened = False  # whether a flatten layer waits for its dense layer
        self.nodes: list[Node] = []
        self.synapses: list[AnySynapse] = []

    def read(self, layer: Layer) -> None:
        """Read one layer.

        Raises:
            NetxError, WeightError, GraphError: the layer cannot be run.
        """
        kind = layer.kind
        if kind == "input":
            self._read_input(layer)
        elif kind == "flatten":
            self.flattened = True
        elif kind == "conv":
            self._read_conv(layer)
        elif kind in ("dense", "dense_rec"):
            self._read_dense(layer, recurrent=kind == "dense_rec")
        else:
            reason = "which netx cannot run" if kind in UNREAD else "which is unknown"
            first = f"; --layers {layer.index} reads what comes before it" if layer.index else ""
            raise layer.error(
                f"type {kind!r}, {reason}: input, conv, flatten, dense and dense_rec are read"
                + first
            )

    def graph(self) -> FixedGraph:
        """The graph of all layers read.

        Raises:
            NetxError: nothing that computes, or parts that do not fit together.
        """
        path = self.net.path
        if self.input is None:
            raise NetxError(f"{path}: no layer read has neurons or weights; read more layers")
        about: dict[str, Any] = {"file": path.name, "layers": len(self.net.layers)}
        if self.transform is not None:
            about["input"] = self.transform
        try:
            graph = FixedGraph(
                input=self.input,
                nodes=tuple(self.nodes),
                synapses=tuple(self.synapses),
                num_steps=self.net.num_steps,
                gated=False,
                metadata={"netx": about, "notes": list(self.net.notes)},
            )
            return _proved(graph)
        except GraphError as error:
            raise NetxError(f"{path}: {error}") from error

    def _read_input(self, layer: Layer) -> None:
        if self.input is not None or layer.index > 0:
            raise layer.error("an input that is not the first layer; netx leaves it unconnected")
        if "neuron" not in layer:
            self.bare_shape = layer.shape("shape", (1, 2, 3)) if "shape" in layer else None
            return
        shape = layer.shape("shape", (1, 3))
        node = neurons.input_node(layer, shape)
        top = neurons.DELTA_INPUT if isinstance(node, Delta) else MAX_MESSAGE
        self.input = Input(INPUT, shape, "spikes", top, signed=True)
        self.transform = {
            key: layer.first(key) if key in layer else default
            for key, default in (("weight", WEIGHT), ("bias", BIAS))
        }
        self.synapses.append(Identity(name=layer.name, source=INPUT, target=layer.name, delay=0))
        self.nodes.append(node)

    def _read_conv(self, layer: Layer) -> None:
        shape = layer.shape("shape", (3,))
        if not self.nodes and (self.bare_shape is None or len(self.bare_shape) != 3):
            raise layer.error(
                "a convolution with no (c, h, w) input shape before it; add an input layer to the "
                "file that says it"
            )
        source = self._source(self.bare_shape or ())
        self.synapses.append(links.convolution(layer, source))
        self.nodes.append(neurons.output_of(layer, shape, last=self._is_last(layer)))

    def _read_dense(self, layer: Layer, *, recurrent: bool) -> None:
        size = int(np.prod(layer.shape("shape", (1, 2, 3)), dtype=np.int64))
        weight = links.matrix(layer, "weight", size)
        back = links.matrix(layer, "weight_rec", size) if recurrent else None
        self._check_flat(layer, weight.shape[1])
        spikes_in = not isinstance(self._last, Delta | SigmaDelta)
        self.synapses += links.dense(layer, self._source((weight.shape[1],)), weight, back)
        node = neurons.output_of(layer, (size,), last=self._is_last(layer))
        if recurrent and isinstance(node, SigmaDelta) and spikes_in:
            raise layer.error(
                "recurrent sigma-delta neurons behind plain spikes, whose graded messages netx "
                "would turn into spikes; put sigma-delta neurons before them"
            )
        self.nodes.append(node)
        self.flattened = False

    def _check_flat(self, layer: Layer, columns: int) -> None:
        """Refuse a matrix that does not fit what comes before it, or a (c, h, w) layer as it is."""
        shape = self.nodes[-1].shape if self.nodes else self.bare_shape
        if shape is None:
            return
        size = int(np.prod(shape, dtype=np.int64))
        if columns != size:
            raise layer.error(f"weights for {columns} inputs follow {size} outputs; export again")
        if self.nodes and len(shape) > 1 and not self.flattened:
            raise layer.error(
                f"a dense layer right behind one of shape {shape}; netx wants a flatten layer "
                "between them"
            )

    @property
    def _last(self) -> Node | None:
        return self.nodes[-1] if self.nodes else None

    def _source(self, shape: Shape) -> str:
        """Name of what feeds the next layer: the last node, or an input of spikes made for it."""
        if self._last is not None:
            return self._last.name
        self.input = Input(INPUT, shape, "spikes", max_message=1, signed=False)
        return INPUT

    def _is_last(self, layer: Layer) -> bool:
        return layer.index == len(self.net.layers) - 1


def _proved(graph: FixedGraph) -> FixedGraph:
    """Say of every neuron layer whose weights prove it that its input stays within 24 bits."""

    def said(node: Node) -> Node:
        proof = (
            isinstance(node, Neuron)
            and node.du == fixed.DECAY_UNITY - 1
            and graph.bounded(node.name)
            and graph.input_bound(node.name) <= fixed.INPUT_LIMIT
        )
        return replace(node, overflow="proved") if proof and isinstance(node, Neuron) else node

    return replace(graph, nodes=tuple(said(node) for node in graph.nodes))
