"""From any feed-forward nn.Module to a Network, by torch.fx."""

import copy
import itertools
import math
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from spikeship.training.network import INPUT, Add, Layer, Network

SUPPORTED = "Conv2d, Linear, BatchNorm2d, ReLU, AvgPool2d, Dropout, Flatten, Identity and sums"
_Shapes = dict[fx.Node, tuple[int, ...]]
_SAMPLES = 2  # tells a batch axis of any size from one fixed at 1


class UnsupportedLayerError(ValueError):
    """Parts of a network that have no place in a Network: all of them, by name, in one line."""


class TraceError(ValueError):
    """A module that cannot be followed, or does not fit its input, in one line."""


@torch.no_grad()
def trace(model: nn.Module, input_shape: Sequence[int]) -> Network:
    """Turn a module into the Network that it computes in eval mode.

    Layers are called by their module path, those written as functions by the name torch.fx gives
    them. The weights are copies. The result is run against the module on one random batch.

    Args:
        model: a feed-forward network of layers and functions that SUPPORTED names, each layer
            used once; its forward takes one tensor and returns one.
        input_shape: shape of one sample, (channel, height, width) or (features,).

    Raises:
        UnsupportedLayerError: parts that a Network cannot hold, all of them by name.
        TraceError: a forward that depends on its values, or another input shape is needed.
    """
    shape = tuple(int(n) for n in input_shape)
    if not shape or min(shape) < 1:
        raise TraceError(f"input shape {shape} holds nothing; give (channel, height, width)")
    own = copy.deepcopy(model).cpu().float().eval()
    graph = _symbolic(own)
    nodes = _needed(graph)
    run = _Run(fx.GraphModule(own, graph))
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(_SAMPLES, *shape, generator=generator)
    failure: Exception | None = None
    try:
        expected = run.run(sample.clone())
        if not isinstance(expected, Tensor):
            raise TypeError(f"it returns a {type(expected).__name__}, not a tensor")
        if not any(node.target is functional.dropout for node in nodes):
            # the graph has lost what += does to other names of the same tensor
            expected = own(sample.clone())
    except Exception as error:
        failure = error
    # even after a failure, as what a Network cannot hold may be the reason for it
    layers = _layers(own, nodes, run.shapes)
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


def _symbolic(model: nn.Module) -> fx.Graph:
    try:
        graph = fx.Tracer().trace(model)
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
    """Runs a graph, without its dropouts, and notes the shape of every tensor."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.extra_traceback = False
        self.shapes: _Shapes = {}
        self.at = ""

    def run_node(self, n: fx.Node) -> Any:
        self.at = str(n.target) if n.op == "call_module" else n.name
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.shapes[n] = tuple(result.shape)
        return result

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target is functional.dropout:
            # by default it drops in eval mode too
            return args[0] if args else kwargs["input"]
        return super().call_function(target, args, kwargs)


class RefusalError(Exception):
    """Why one node cannot become a layer, and the fix; collected into UnsupportedLayerError."""


def _layers(model: nn.Module, nodes: Sequence[fx.Node], shapes: _Shapes) -> list[Layer]:
    paths = [str(node.target) for node in nodes if node.op == "call_module"]
    complete = nodes[-1] in shapes
    taken = {INPUT, *paths}
    values: dict[fx.Node, str] = {}
    layers: list[Layer] = []
    problems: dict[str, str] = {}
    for node in nodes:
        if node.op == "placeholder":
            values[node] = INPUT
            continue
        if node.op == "get_attr":
            continue  # a parameter
        if node.op == "call_module":
            path = name = str(node.target)
            kind = type(model.get_submodule(path)).__name__
            if path == INPUT:
                name = free_name(path, taken)
        else:
            if node not in shapes:
                if not complete:
                    values[node] = node.name  # behind the node that failed, or a size
                continue
            path = name = free_name(node.name, taken)
            kind = getattr(node.target, "__name__", str(node.target))
        try:
            if paths.count(path) > 1:
                raise RefusalError("applied more than once; give each use a module of its own")
            module, sources = _convert(model, node, shapes)
            inputs = tuple(values[source] for source in sources if source in values)
            if len(inputs) != len(sources):
                raise RefusalError("reads a constant; use a layer that holds it")
            if module is None:
                values[node] = inputs[0]
                continue
            check_input(module, [shapes[source] for source in sources if source in shapes])
            layers.append(Layer(name, module, inputs))
        except RefusalError as refusal:
            problems[name] = f"{name} ({kind}): {refusal}"
        taken.add(name)
        values[node] = name
    if problems:
        raise UnsupportedLayerError(
            f"cannot take {'; '.join(problems.values())} (known are {SUPPORTED})"
        )
    if not layers:
        raise TraceError("the module has no layers; give one that computes something")
    return layers


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return ``name``, with a number behind it where it is in ``taken``."""
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
    return next(candidate for candidate in candidates if candidate not in taken)


def _convert(
    model: nn.Module, node: fx.Node, shapes: _Shapes
) -> tuple[nn.Module | None, list[fx.Node]]:
    """Give the layer a node stands for, None where it changes nothing, and what it reads."""
    arguments = [*node.args, *node.kwargs.values()]
    sources = [argument for argument in arguments[:1] if isinstance(argument, fx.Node)]
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if type(module) in (nn.Flatten, nn.Identity):
            return _reshape(node, sources, shapes), sources
        if type(module) in _MODULES:
            return _MODULES[type(module)](module), sources
    elif node.target in _SUMS:
        sources = [argument for argument in arguments[:2] if isinstance(argument, fx.Node)]
        if len(sources) != 2 or sources[0] is sources[1] or len(arguments) > 2:
            raise RefusalError("sums something else than two layers' results; use a plain x + y")
        return Add(), sources
    elif node.target in _RESHAPES:
        return _reshape(node, sources, shapes), sources
    elif node.target in _FUNCTIONS:
        names, make = _FUNCTIONS[node.target]
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        argument = given.pop("input")
        return make(given), [argument] if isinstance(argument, fx.Node) else []
    raise RefusalError("not known; replace it")


def _conv(module: nn.Conv2d) -> nn.Module:
    if module.padding_mode != "zeros":
        raise RefusalError(f"padding_mode {module.padding_mode!r}; use 'zeros'")
    if module.padding == "valid":
        module.padding = (0, 0)
    elif module.padding == "same":
        total = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(both % 2 for both in total):
            raise RefusalError(
                "padding 'same' that is not the same on both sides; use an odd kernel"
            )
        module.padding = tuple(both // 2 for both in total)
    return module


def _batch_norm(module: nn.BatchNorm2d) -> nn.Module:
    if module.running_mean is None:
        raise RefusalError("keeps no running statistics; use track_running_stats=True")
    return module


def _pool(module: nn.AvgPool2d) -> nn.Module:
    if module.ceil_mode or module.divisor_override is not None:
        raise RefusalError("ceil_mode or divisor_override; leave them out")
    if not module.count_include_pad and torch.as_tensor(module.padding).any():
        raise RefusalError("padding that is not counted; leave out the padding")
    return nn.AvgPool2d(module.kernel_size, module.stride, module.padding)


def _reshape(node: fx.Node, sources: Sequence[fx.Node], shapes: _Shapes) -> nn.Module | None:
    if node not in shapes or not sources:
        return nn.Flatten()
    before, after = shapes[sources[0]], shapes[node]
    if before == after:
        return None
    if after != (before[0], math.prod(before[1:])):
        raise RefusalError(
            f"turns shape {before[1:]} into {after[1:]}; flatten all axes but the batch"
        )
    return nn.Flatten()


def check_input(module: nn.Module, shapes: Sequence[tuple[int, ...]]) -> None:
    """Check that a layer can read results of these shapes, batch axis first.

    Raises:
        RefusalError: it cannot, or would give them another meaning than a Network does.
    """
    if isinstance(module, nn.Linear) and any(len(shape) != 2 for shape in shapes):
        raise RefusalError(f"reads shape {shapes[0][1:]}; put a Flatten before it")
    if isinstance(module, (nn.Conv2d, nn.AvgPool2d)) and any(len(shape) != 4 for shape in shapes):
        raise RefusalError(f"reads shape {shapes[0][1:]}; give it (channel, height, width)")
    if isinstance(module, Add) and len(set(shapes)) > 1:
        raise RefusalError(f"sums shapes {shapes[0][1:]} and {shapes[1][1:]}; make them alike")


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


_MODULES: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Conv2d: _conv,
    nn.Linear: lambda module: module,
    nn.BatchNorm2d: _batch_norm,
    # new ones, as the old might work in place
    nn.ReLU: lambda module: nn.ReLU(),
    nn.Dropout: lambda module: nn.Dropout(module.p),
    nn.AvgPool2d: _pool,
}
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_RESHAPES = (torch.flatten, torch.reshape, "flatten", "view", "reshape")
_RELU = (("input",), lambda given: nn.ReLU())
_FUNCTIONS: dict[Any, tuple[tuple[str, ...], Callable[[dict[str, Any]], nn.Module]]] = {
    functional.relu: _RELU,
    torch.relu: _RELU,
    torch.relu_: _RELU,
    "relu": _RELU,
    "relu_": _RELU,
    functional.dropout: (
        ("input", "p", "training", "inplace"),
        lambda given: nn.Dropout(given.get("p", 0.5)),
    ),
    functional.avg_pool2d: (
        (
            "input",
            "kernel_size",
            "stride",
            "padding",
            "ceil_mode",
            "count_include_pad",
            "divisor_override",
        ),
        lambda given: _pool(nn.AvgPool2d(**given)),
    ),
}
