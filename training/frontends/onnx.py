"""From an ONNX file, as torch's exporters write feed-forward networks, to a Network."""

import ast
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import nn

from spikeship.hw_models.errors import first_line
from spikeship.hw_models.names import LONGEST
from spikeship.training.ann.network import INPUT, Layer, Network
from spikeship.training.frontends.onnx_file import Array, OnnxError, OnnxGraph, read_graph
from spikeship.training.frontends.onnx_folding import Folding
from spikeship.training.frontends.onnx_layers import KNOWN, LAYERS, OnnxNode
from spikeship.training.frontends.pools import MaxPool
from spikeship.training.frontends.refusal import (
    Names,
    RefusalError,
    UnsupportedLayerError,
    check_input,
    plain_name,
)

_SCOPES = "pkg.torch.onnx.name_scopes"
_MOST_REFUSED = 50
_LONGEST_SCOPES = 10_000
_MOST_VALUES = 2**28


def from_onnx(path: Path, *, max_pool: MaxPool = "keep") -> Network:
    """Read a feed-forward network, in eval mode; its weights are copies.

    Layers are called by the torch module path that the exporter left in the names of weights or
    nodes, else by the node's name. What depends on no image (weights that are transposed, shapes
    that are put together) is computed while reading.

    Args:
        path: ONNX file of one input, (batch, *sample), and one output; the batch axis may be
            fixed or not. Weights in a file beside it are read too.
        max_pool: what becomes of max pools; see ``trace``.

    Raises:
        UnsupportedLayerError: operators or attributes a Network cannot hold, all of them by the
            name of their node.
        OnnxError: the file is missing, damaged or not ONNX, or has not one input and one output.
        MemoryClaimError: its arrays would take more memory than they may.
    """
    path = Path(path)
    graph = read_graph(path)
    # any number would do where the batch axis is free; 2 is never taken for a fixed 1
    shape = (graph.shape[0] or 2, *graph.shape[1:])
    building = _Building(graph, shape, max_pool)
    for node in _needed(graph):
        building.add(node)
    if building.problems:
        told = building.problems[:_MOST_REFUSED]
        more = len(building.problems) - len(told)
        raise UnsupportedLayerError(
            f"{path}: cannot take {'; '.join(told)}{f'; and {more} more' if more else ''} "
            f"(known are {KNOWN})"
        )
    if not building.layers:
        raise OnnxError(f"{path}: holds no layers; export a network that computes something")
    if building.values.get(graph.output) != building.layers[-1].name:
        raise OnnxError(
            f"{path}: its output {graph.output[:100]!r} is not what its last layer gives; export "
            "the network alone"
        )
    return Network(building.layers, shape[1:]).eval()


@dataclass
class _Building:
    """What is known of the graph's values so far, and the layers made from them.

    Attributes:
        graph: what the file holds.
        shape: of the input, batch axis first.
        max_pool: what becomes of max pools.
        constants: values that depend on no image.
        origins: name of the stored array each of them was computed from.
        values: layer that gives each other value.
        firsts: value that each layer gives by itself, before nodes that change nothing.
        shapes: shapes of these values, batch axis first, where known.
        paths: module path and own name of each node, by its first result.
        readers: how often each value is read.
        hidden: values computed from shapes that a refused layer keeps from being known.
        layers: layers made so far.
        problems: what was refused so far.
    """

    graph: OnnxGraph
    shape: tuple[int, ...]
    max_pool: MaxPool
    constants: dict[str, Array] = field(init=False)
    origins: dict[str, str] = field(init=False)
    values: dict[str, str] = field(init=False)
    firsts: dict[str, str] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(init=False)
    paths: "_Paths" = field(init=False)
    readers: Counter[str] = field(init=False)
    hidden: set[str] = field(default_factory=set)
    layers: list[Layer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.constants = dict(self.graph.constants)
        self.origins = {name: name for name in self.constants}
        self.values = {self.graph.input: INPUT}
        self.shapes = {self.graph.input: self.shape}
        self.paths = _Paths(self.graph.nodes)
        self.readers = Counter(name for node in self.graph.nodes for name in node.input)
        self.readers[self.graph.output] += 1
        self._names = Names([INPUT])
        self._modules: dict[str, nn.Module] = {}
        self._folding = Folding(
            self.graph.opsets, sum(array.size for array in self.constants.values())
        )

    def add(self, proto: Any) -> None:
        """Evaluate a node, make a layer of it, or note why neither is possible."""
        result = proto.output[0]
        try:
            if self._evaluated(proto) or self._hidden(proto):
                return
            missing = [
                name
                for name in proto.input
                if name
                and name not in self.constants
                and name not in self.values
                and name not in self.hidden
            ]
            if missing:
                raise RefusalError(f"reads {missing[0][:100]!r}, which nothing before it gives")
            layers = self._layers(proto)
        except RefusalError as refusal:
            name = proto.name or result
            self.problems.append(f"node {name[:100]!r} ({proto.op_type[:40]}): {refusal}")
            self.values[result] = result
            return
        if not layers:
            source = next(name for name in proto.input if name in self.values)
            self.values[result] = self.values[source]
            if source in self.shapes:
                self.shapes[result] = self.shapes[source]
        else:
            self.values[result] = layers[-1].name
            self.firsts[layers[-1].name] = result
            self._modules |= {layer.name: layer.module for layer in layers}
            self.layers += layers

    def _evaluated(self, proto: Any) -> bool:
        """Compute the results of a node that depends on no image, as far as that can be done."""
        feeds: dict[str, Array] = {}
        for place, name in enumerate(proto.input):
            if name in self.constants:
                feeds[name] = self.constants[name]
            elif name in self.values and (proto.op_type, place) == ("CastLike", 1):
                feeds[name] = np.zeros((), np.float32)
            elif name in self.shapes and proto.op_type == "Shape":
                feeds[name] = np.broadcast_to(np.float32(0), self.shapes[name])
            elif name:
                return False
        if not feeds and proto.op_type != "Constant":
            return False
        results = self._folding.results(proto, feeds)
        if results is None:
            return False
        self.constants |= dict(zip(proto.output, results, strict=False))
        self.paths.leave_out(proto)
        origin = next((self.origins[name] for name in proto.input if name in self.origins), None)
        if origin is not None:
            self.origins |= dict.fromkeys(proto.output, origin)
        return True

    def _hidden(self, proto: Any) -> bool:
        """Whether a node works on shapes that a refused layer keeps from being known."""
        of_image = [name for name in proto.input if name in self.values]
        if of_image:
            # only Shape leads from an image to what is none
            hidden = proto.op_type == "Shape" and of_image[0] not in self.shapes
        else:
            hidden = bool(self.hidden.intersection(proto.input))
        if hidden:
            self.hidden.update(proto.output)
        return hidden

    def _layers(self, proto: Any) -> list[Layer]:
        known = [name for name in proto.input if name in self.values]
        shapes = [self.shapes[name] for name in known if name in self.shapes]
        if proto.op_type not in LAYERS or proto.domain not in ("", "ai.onnx"):
            raise RefusalError("not known; replace it")
        if not known:
            raise RefusalError("reads no image and cannot be computed; export it again")
        node = OnnxNode(
            list(proto.input),
            {entry.name: _attribute(entry) for entry in proto.attribute},
            self.constants,
            shapes[0] if shapes else None,
            self.max_pool,
        )
        if proto.op_type == "Add" and len(known) == 1:
            self._add_bias(node, known[0])
            return []
        try:
            modules = LAYERS[proto.op_type](node)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise RefusalError(f"not well formed ({first_line(error)}); export it again") from error
        if not modules:
            return []
        check_input(modules[0], shapes)
        if len(shapes) == len(known):
            self.shapes[proto.output[0]] = _result_shape(modules, shapes)
        name = self._names.free(plain_name(self._name(proto), proto.op_type.lower()))
        layers = [Layer(name, modules[0], tuple(self.values[source] for source in known))]
        for module in modules[1:]:
            behind = self._names.free(f"{name}.{type(module).__name__.lower()}")
            layers.append(Layer(behind, module, (layers[-1].name,)))
        return layers

    def _add_bias(self, node: OnnxNode, source: str) -> None:
        """Put a constant that is added to a bias-free Linear into it."""
        name = self.values[source]
        linear = self._modules.get(name)
        constant = node.weights(1 - node.inputs.index(source))
        fits = (
            isinstance(linear, nn.Linear)
            and linear.bias is None
            and self.readers[source] == 1
            and source == self.firsts[name]
            and constant.shape in ((linear.out_features,), (1, linear.out_features))
        )
        if not fits:
            raise RefusalError("adds a constant; make it the bias of the layer before it")
        assert isinstance(linear, nn.Linear)
        linear.bias = nn.Parameter(torch.tensor(constant.reshape(-1)))

    def _name(self, proto: Any) -> str:
        for name in proto.input:
            for candidate in (name, self.origins.get(name, "")):
                if name in self.constants and candidate.endswith(".weight"):
                    return candidate.removesuffix(".weight")
        path, own = self.paths.of(proto)
        if path and self.paths.alone(path):
            return path
        return f"{path}.{own}" if path else own


class _Paths:
    """Module path and own name of every node, and which paths one node has to itself.

    Args:
        nodes: all of a graph.
    """

    def __init__(self, nodes: Iterable[Any]) -> None:
        self._paths = {node.output[0]: _path(node) for node in nodes}
        # how many nodes lie at a path or within it
        self._within: Counter[str] = Counter()
        for path, _ in self._paths.values():
            self._within.update(_outer(path))

    def of(self, node: Any) -> tuple[str, str]:
        """Module path and own name of a node."""
        return self._paths[node.output[0]]

    def leave_out(self, node: Any) -> None:
        """Count a node no more, as it computes no layer."""
        self._within.subtract(_outer(self.of(node)[0]))

    def alone(self, path: str) -> bool:
        """Whether no more than one node lies at a path or within it."""
        return self._within[path] <= 1


def _outer(path: str) -> list[str]:
    """A path and all around it, from the outermost in."""
    parts = path.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))] if path else []


def _path(node: Any) -> tuple[str, str]:
    scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), None)
    path, own = "", node.name or node.op_type.lower()
    if scopes is not None:
        # of torch.export: "['', 'block', 'block.relu', 'relu_1']"
        names = _scopes(scopes)
        if names:
            *modules, own = names
            path = modules[-1] if modules else ""
    elif node.name.startswith("/"):
        # of TorchScript: "/block/block.0/Relu", where a list repeats its own name
        *parts, own = node.name[1:].split("/")
        for before, part in zip(["", *parts], parts, strict=False):
            part = part.removeprefix(f"{before}.") if before else part
            path = f"{path}.{part}" if path else part
    # a layer's name is a path, whose separator is the dot
    return path.replace("/", ".")[:LONGEST], own.replace("/", ".")


def _scopes(text: str) -> list[str]:
    """Names in a list as Python writes it; none where it is something else."""
    try:
        names = ast.literal_eval(text) if len(text) <= _LONGEST_SCOPES else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    whole = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return names if whole else []


def _needed(graph: OnnxGraph) -> list[Any]:
    """Nodes that the output depends on, in order."""
    wanted = {graph.output}
    nodes = []
    for node in reversed(graph.nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def _attribute(entry: Any) -> Any:
    value = onnx.helper.get_attribute_value(entry)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _result_shape(
    modules: Sequence[nn.Module], shapes: Sequence[tuple[int, ...]]
) -> tuple[int, ...]:
    """Shape of what layers give, worked out without a value in memory."""
    values = [torch.empty(shape, device="meta") for shape in shapes]
    try:
        for module in modules:
            meta = {
                name: value.to("meta")
                for name, value in (*module.named_parameters(), *module.named_buffers())
            }
            values = [torch.func.functional_call(module.eval(), meta, tuple(values))]
    except (RuntimeError, ValueError, TypeError) as error:
        raise RefusalError(
            f"does not fit shape {shapes[0][1:]} ({first_line(error)}); export it again"
        ) from error
    if values[0].numel() > _MOST_VALUES:
        raise RefusalError(
            f"gives {values[0].numel():,} values, {_MOST_VALUES:,} are taken; export a smaller "
            "network"
        )
    return tuple(values[0].shape)
