"""From any feed-forward nn.Module to a Network, by torch.fx."""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from spikeship.hw_models.errors import SpikeshipError, first_line
from spikeship.training.ann.network import INPUT, Layer, Network
from spikeship.training.frontends.fx_layers import (
    LEAVES,
    SUPPORTED,
    Seen,
    average_max_pools,
    layers_of,
)
from spikeship.training.frontends.pools import MaxPool
from spikeship.training.frontends.refusal import (
    Names,
    RefusalError,
    UnsupportedLayerError,
    check_input,
)

_SAMPLES = 2  # tells a batch axis of any size from one fixed at 1


class TraceError(SpikeshipError, ValueError):
    """A module that cannot be followed, or does not fit its input, in one line."""


@torch.no_grad()
def trace(model: nn.Module, input_shape: Sequence[int], *, max_pool: MaxPool = "keep") -> Network:
    """Turn a module into the Network that it computes in eval mode.

    Layers are called by their module path, those written as functions by the name torch.fx gives
    them. The weights are copies. The result is run against the module on one random batch.

    Args:
        model: a feed-forward network of layers and functions that SUPPORTED names, each layer
            used once; its forward takes one tensor and returns one.
        input_shape: shape of one sample, (channel, height, width) or (features,).
        max_pool: ``keep`` max pools, which only staged timing has. ``average`` puts an average
            pool of the same kernel where that is the stride: the result is then another network,
            which must be fine-tuned before it is converted.

    Raises:
        UnsupportedLayerError: parts that a Network cannot hold, all of them by name.
        TraceError: a forward that depends on its values, or another input shape is needed.
    """
    shape = tuple(int(n) for n in input_shape)
    if not shape or min(shape) < 1:
        raise TraceError(f"input shape {shape} holds nothing; give (channel, height, width)")
    own = copy.deepcopy(model).cpu().float().eval()
    graph = _symbolic(own)
    differs = max_pool == "average" and average_max_pools(own, graph)
    nodes = _needed(graph)
    run = _Run(fx.GraphModule(own, graph))
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(_SAMPLES, *shape, generator=generator)
    failure: Exception | None = None
    try:
        expected = run.run(sample.clone())
        if not isinstance(expected, Tensor):
            raise TypeError(f"it returns a {type(expected).__name__}, not a tensor")
        if not (differs or any(node.target is functional.dropout for node in nodes)):
            # the graph has lost what += does to other names of the same tensor
            expected = own(sample.clone())
    except Exception as error:
        failure = error
    # even after a failure, as what a Network cannot hold may be the reason for it
    layers = _layers(own, nodes, run.seen)
    if failure is not None:
        raise TraceError(
            f"{run.at or 'the module'} cannot take what an input of shape {shape} leads to "
            f"({first_line(failure)}); give the input shape that the module was made for"
        ) from failure
    network = Network(layers, shape).eval()
    result = network(sample)
    atol = 1e-5 * max(1.0, float(expected.abs().max()))
    if not torch.allclose(result, expected, rtol=1e-4, atol=atol, equal_nan=True):
        raise TraceError(
            "the layers do not add up to what the module computes; write hooks and changes in "
            "place as plain layers"
        )
    return network.train(model.training)


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)


def _symbolic(model: nn.Module) -> fx.Graph:
    try:
        graph = _Tracer().trace(model)
    # a forward may fail in any way when it is given a proxy
    except Exception as error:
        raise TraceError(
            f"the forward of {type(model).__name__} cannot be followed ({first_line(error)}); "
            "write it without decisions on values, or export it to ONNX"
        ) from error
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        names = ", ".join(node.name for node in inputs) or "none"
        raise TraceError(
            f"the forward of {type(model).__name__} takes {len(inputs)} inputs ({names}); wrap it "
            "in a module that takes one tensor"
        )
    return graph


def _needed(graph: fx.Graph) -> list[fx.Node]:
    """Nodes the output depends on, in order, without the output itself."""
    output = next(node for node in graph.nodes if node.op == "output")
    if not isinstance(output.args[0], fx.Node):
        raise TraceError("the forward returns several values; wrap it in a module returning one")
    needed = {output}
    for node in reversed(graph.nodes):
        if node in needed:
            needed.update(node.all_input_nodes)
    return [node for node in graph.nodes if node in needed and node is not output]


class _Run(fx.Interpreter):
    """Runs a graph, without its dropouts, and notes shapes and sizes."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.seen = Seen()
        self.at = ""

    def run_node(self, n: fx.Node) -> Any:
        self.at = str(n.target) if n.op == "call_module" else n.name
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.seen.shapes[n] = tuple(result.shape)
        else:
            self.seen.values[n] = result
        return result

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is functional.dropout:
            # by default it drops in eval mode too
            return args[0] if args else kwargs["input"]
        return super().call_function(target, args, kwargs)


def _layers(model: nn.Module, nodes: Sequence[fx.Node], seen: Seen) -> list[Layer]:
    """The layers of a module's nodes, in order.

    Raises:
        UnsupportedLayerError: some have no spiking form: all of them, by name.
        TraceError: there are none.
    """
    gathered = _Gathered(model, nodes, seen)
    for node in nodes:
        gathered.take(node)
    if gathered.problems:
        raise UnsupportedLayerError(
            f"cannot take {'; '.join(gathered.problems.values())} (known are {SUPPORTED})"
        )
    if not gathered.layers:
        raise TraceError("the module has no layers; give one that computes something")
    return gathered.layers


class _Gathered:
    """Layers of the nodes so far, and what is wrong with some.

    Attributes:
        layers: in order.
        problems: of the nodes without a spiking form, by name.
    """

    def __init__(self, model: nn.Module, nodes: Sequence[fx.Node], seen: Seen) -> None:
        self.layers: list[Layer] = []
        self.problems: dict[str, str] = {}
        self._model, self._seen = model, seen
        self._uses = Counter(str(node.target) for node in nodes if node.op == "call_module")
        self._complete = nodes[-1] in seen.shapes
        self._names = Names([INPUT, *self._uses])
        self._values: dict[fx.Node, str] = {}

    def take(self, node: fx.Node) -> None:
        """Take the next node."""
        if node.op == "placeholder":
            self._values[node] = INPUT
        elif node.op == "call_module":
            path = str(node.target)
            name = self._names.free(path) if path == INPUT else path
            kind = type(self._model.get_submodule(path)).__name__
            self._apply(node, path, name, kind)
        elif node.op != "get_attr":  # that is a parameter
            if node in self._seen.shapes:
                name = self._names.free(node.name)
                kind = getattr(node.target, "__name__", str(node.target))
                self._apply(node, name, name, kind)
            elif not self._complete:
                self._values[node] = node.name  # behind the node that failed, or a size

    def _apply(self, node: fx.Node, path: str, name: str, kind: str) -> None:
        try:
            self._values[node] = self._add(node, path, name)
        except RefusalError as refusal:
            self.problems[name] = f"{name} ({kind}): {refusal}"
            self._values[node] = name

    def _add(self, node: fx.Node, path: str, name: str) -> str:
        """Add the layers of a node; the name of the last, or of what it hands on.

        Raises:
            RefusalError: it has no spiking form.
        """
        shapes = self._seen.shapes
        if self._uses[path] > 1:
            raise RefusalError("applied more than once; give each use a module of its own")
        modules, sources = layers_of(self._model, node, self._seen)
        inputs = tuple(self._values[source] for source in sources if source in self._values)
        if len(inputs) != len(sources):
            raise RefusalError("reads a constant; use a layer that holds it")
        if not modules:
            return inputs[0]
        first, *others = modules
        check_input(first, [shapes[source] for source in sources if source in shapes])
        self.layers.append(Layer(name, first, inputs))
        for module in others:
            before = name
            name = self._names.free(f"{name}.{type(module).__name__.lower()}")
            self.layers.append(Layer(name, module, (before,)))
        return name
