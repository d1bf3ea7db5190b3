"""From an ONNX file, as torch's exporters write feed-forward networks, to a Network."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from spikeship.hw_models.errors import InputError, SpikeshipError
from spikeship.training.ann.network import INPUT, Layer, Network
from spikeship.training.frontends.onnx_layers import KNOWN, LAYERS, Array, OnnxNode
from spikeship.training.frontends.pools import MaxPool
from spikeship.training.frontends.refusal import (
    RefusalError,
    UnsupportedLayerError,
    check_input,
    first_line,
    free_name,
)

_SCOPES = "pkg.torch.onnx.name_scopes"


class OnnxError(SpikeshipError, ValueError):
    """A file that holds no network we can read, in one line: which, why, and what to do."""


def from_onnx(path: Path, *, max_pool: MaxPool = "refuse") -> Network:
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
    """
    path = Path(path)
    model, constants, paths = _read(path)
    graph = model.graph
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise OnnxError(
            f"{path}: has {len(inputs)} inputs and {len(graph.output)} outputs; export a network "
            "from one tensor to one"
        )
    dims = [dim.dim_value for dim in inputs[0].type.tensor_type.shape.dim]
    if len(dims) < 2 or min(dims[1:]) < 1:
        raise OnnxError(
            f"{path}: its input {inputs[0].name!r} has no fixed shape behind the batch axis; "
            "export it with one"
        )
    # any number would do where the batch axis is free; 2 is never taken for a fixed 1
    shape = (dims[0] or 2, *dims[1:])
    building = _Building(
        {entry.domain: entry.version for entry in model.opset_import},
        constants,
        {name: name for name in constants},
        {inputs[0].name: INPUT},
        {inputs[0].name: shape},
        paths,
        _readers(graph),
        max_pool,
    )
    for node in _needed(graph):
        building.add(node)
    if building.problems:
        raise UnsupportedLayerError(
            f"{path}: cannot take {'; '.join(building.problems)} (known are {KNOWN})"
        )
    if not building.layers:
        raise OnnxError(f"{path}: holds no layers; export a network that computes something")
    return Network(building.layers, shape[1:]).eval()


def _read(path: Path) -> tuple[Any, dict[str, Array], dict[str, tuple[str, str]]]:
    """Model, its stored arrays, and the paths of its nodes."""
    try:
        # otherwise the ending of the name would decide on the format
        model = onnx.load(path, format="protobuf")
        graph = model.graph
        constants = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer
        }
        names = [
            name
            for node in graph.node
            for name in (node.op_type, node.name, *node.input, *node.output)
        ]
        if not all(isinstance(name, str) and name.isprintable() for name in (*names, *constants)):
            raise InputError("a name is no text")
        paths = _paths(graph)
    except FileNotFoundError as error:
        raise OnnxError(f"{path}: {error.filename or path} is missing; check the path") from error
    # damage can show in any part of the decoder
    except Exception as error:
        raise OnnxError(
            f"{path}: not a whole ONNX file ({first_line(error)}); export it again"
        ) from error
    if not graph.output:
        raise OnnxError(f"{path}: not an ONNX file, or one without a network; export it again")
    return model, constants, paths


@dataclass
class _Building:
    """What is known of the graph's values so far, and the layers made from them.

    Attributes:
        opsets: version of each operator set.
        constants: values that depend on no image.
        origins: name of the stored array each of them was computed from.
        values: layer that gives each other value; the first value of a layer is its own result,
            later ones pass through nodes that change nothing.
        shapes: shapes of these values, batch axis first, where known.
        paths: module path and own name of each node, by its first result.
        readers: how often each value is read.
        max_pool: what becomes of max pools.
        hidden: values computed from shapes that a refused layer keeps from being known.
        layers: layers made so far.
        problems: what was refused so far.
    """

    opsets: dict[str, int]
    constants: dict[str, Array]
    origins: dict[str, str]
    values: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    paths: dict[str, tuple[str, str]]
    readers: dict[str, int]
    max_pool: MaxPool
    hidden: set[str] = field(default_factory=set)
    layers: list[Layer] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def add(self, proto: Any) -> None:
        """Evaluate a node, make a layer of it, or note why neither is possible."""
        if self._evaluated(proto) or self._hidden(proto):
            return
        result = proto.output[0]
        try:
            missing = [
                name
                for name in proto.input
                if name
                and name not in self.constants
                and name not in self.values
                and name not in self.hidden
            ]
            if missing:
                raise RefusalError(f"reads {missing[0]!r}, which nothing before it gives")
            layers = self._layers(proto)
        except RefusalError as refusal:
            name = proto.name or result
            self.problems.append(f"node {name!r} ({proto.op_type}): {refusal}")
            self.values[result] = result
            return
        if not layers:
            source = next(name for name in proto.input if name in self.values)
            self.values[result] = self.values[source]
            if source in self.shapes:
                self.shapes[result] = self.shapes[source]
        else:
            self.values[result] = layers[-1].name
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
        graph = onnx.GraphProto()
        graph.node.append(proto)
        for name in feeds:
            graph.input.add(name=name)
        for name in proto.output:
            graph.output.add(name=name)
        try:
            results = ReferenceEvaluator(graph, opsets=self.opsets).run(None, feeds)
        # whatever it cannot compute is then refused as a layer
        except Exception:
            return False
        self.constants |= dict(zip(proto.output, results, strict=True))
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
        taken = {INPUT, *(layer.name for layer in self.layers)}
        name = free_name(self._name(proto), taken)
        layers = [Layer(name, modules[0], tuple(self.values[source] for source in known))]
        for module in modules[1:]:
            behind = free_name(f"{name}.{type(module).__name__.lower()}", taken)
            layers.append(Layer(behind, module, (layers[-1].name,)))
        return layers

    def _add_bias(self, node: OnnxNode, source: str) -> None:
        """Put a constant that is added to a bias-free Linear into it."""
        name = self.values[source]
        linear = next((layer.module for layer in self.layers if layer.name == name), None)
        constant = node.weights(1 - node.inputs.index(source))
        fits = (
            isinstance(linear, nn.Linear)
            and linear.bias is None
            and self.readers[source] == 1
            and source == next(value for value, layer in self.values.items() if layer == name)
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
        path, own = self.paths[proto.output[0]]
        beside = [
            other
            for value, (other, _) in self.paths.items()
            if value != proto.output[0] and value not in self.constants
        ]
        if path and not any(other == path or other.startswith(f"{path}.") for other in beside):
            return path
        return f"{path}.{own}" if path else own


def _paths(graph: Any) -> dict[str, tuple[str, str]]:
    """Module path and own name of every node, by the name of its first result."""
    paths = {}
    for node in graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key == _SCOPES), None)
        path, own = "", node.name or node.op_type.lower()
        if scopes is not None:
            # of torch.export: "['', 'block', 'block.relu', 'relu_1']"
            *modules, own = ast.literal_eval(scopes)
            path = modules[-1] if modules else ""
        elif node.name.startswith("/"):
            # of TorchScript: "/block/block.0/Relu", where a list repeats its own name
            *parts, own = node.name[1:].split("/")
            for before, part in zip(["", *parts], parts, strict=False):
                part = part.removeprefix(f"{before}.") if before else part
                path = f"{path}.{part}" if path else part
        # a layer's name is a path, whose separator is the dot
        paths[node.output[0]] = (path.replace("/", "."), own.replace("/", "."))
    return paths


def _readers(graph: Any) -> dict[str, int]:
    """How many nodes and outputs read each value."""
    readers: dict[str, int] = {}
    names = [name for node in graph.node for name in node.input]
    for name in (*names, *(value.name for value in graph.output)):
        readers[name] = readers.get(name, 0) + 1
    return readers


def _needed(graph: Any) -> list[Any]:
    """Nodes that the output depends on, in order."""
    wanted = {graph.output[0].name}
    nodes = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def _attribute(entry: Any) -> Any:
    value = onnx.helper.get_attribute_value(entry)
    return value.decode(errors="replace") if isinstance(value, bytes) else value


@torch.no_grad()
def _result_shape(
    modules: Sequence[nn.Module], shapes: Sequence[tuple[int, ...]]
) -> tuple[int, ...]:
    try:
        result = modules[0].eval()(*(torch.zeros(shape) for shape in shapes))
        for module in modules[1:]:
            result = module.eval()(result)
    except (RuntimeError, ValueError) as error:
        raise RefusalError(
            f"does not fit shape {shapes[0][1:]} ({first_line(error)}); export it again"
        ) from error
    return tuple(result.shape)
