"""The torch.fx nodes a Network can hold, each turned into its layers."""

import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.fx.node import map_aggregate
from torch.nn import functional

from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.network import Add
from spikeship.training.frontends.pools import (
    adaptive_average,
    average_for_max,
    global_average,
    max_pool,
)
from spikeship.training.frontends.refusal import RefusalError, UnsupportedLayerError

SUPPORTED = (
    "Conv2d, Linear, BatchNorm2d, ReLU, ClippedReLU, QCFS, AvgPool2d, AdaptiveAvgPool2d, means "
    "over height and width, Dropout, Flatten, Identity and sums"
)
# modules of ours, which torch.fx would otherwise look into
LEAVES = (Add, ClippedReLU, QCFS)
_Shape = tuple[int, ...] | None
# names of a function's arguments, and what makes its layers from them and the input's shape
_Reader = tuple[tuple[str, ...], Callable[[dict[str, Any], _Shape], list[nn.Module]]]


@dataclass
class Seen:
    """What a run of a graph has shown.

    Attributes:
        shapes: shape of every tensor, batch axis first.
        values: every other result, such as a size.
    """

    shapes: dict[fx.Node, tuple[int, ...]] = field(default_factory=dict)
    values: dict[fx.Node, Any] = field(default_factory=dict)


def layers_of(model: nn.Module, node: fx.Node, seen: Seen) -> tuple[list[nn.Module], list[fx.Node]]:
    """Give the layers a node stands for, one behind the other, and the nodes the first reads.

    Raises:
        RefusalError: there are none that compute the same.
    """
    arguments = [*node.args, *node.kwargs.values()]
    sources = [argument for argument in arguments[:1] if isinstance(argument, fx.Node)]
    shape = seen.shapes.get(sources[0]) if sources else None
    if node.op == "call_module":
        module = model.get_submodule(str(node.target))
        if type(module) is Add:
            return [Add()], _summed(arguments)
        if type(module) in (nn.Flatten, nn.Identity):
            return _reshape(node, sources, seen), sources
        if type(module) in _MODULES:
            return _MODULES[type(module)](module, shape), sources
    elif node.target in _SUMS:
        return [Add()], _summed(arguments)
    elif node.target in _RESHAPES:
        return _reshape(node, sources, seen), sources
    elif node.target in _FUNCTIONS:
        names, make = _FUNCTIONS[node.target]
        given = dict(zip(names, node.args, strict=False)) | node.kwargs
        argument = given.pop("input", None)
        known = {name: _value(value, seen) for name, value in given.items() if name in names}
        sources = [argument] if isinstance(argument, fx.Node) else []
        return make(known, seen.shapes.get(sources[0]) if sources else None), sources
    raise RefusalError("not known; replace it")


def average_max_pools(model: nn.Module, graph: fx.Graph) -> bool:
    """Put average pools for the max pools of a module and its graph, where they may stand.

    Returns:
        Whether the graph now differs from the module, for a pool written as a function.

    Raises:
        UnsupportedLayerError: pools that no average stands for, by name.
    """
    differs = False
    refused: list[str] = []
    for node in graph.nodes:
        try:
            if node.op == "call_module":
                module = model.get_submodule(str(node.target))
                if type(module) is nn.MaxPool2d:
                    pool = average_for_max(*(getattr(module, name) for name in _MAX_POOL[1:]))
                    model.set_submodule(str(node.target), pool)
            # one whose sizes are computed too stays
            elif node.target in _MAX_POOLS and len(node.all_input_nodes) == 1:
                given = dict(zip(_MAX_POOL, node.args, strict=False)) | node.kwargs
                source = given.pop("input")
                node.args = (source, average_for_max(**given).kernel_size)
                node.target, node.kwargs = functional.avg_pool2d, {}
                differs = True
        except RefusalError as refusal:
            name = node.target if node.op == "call_module" else node.name
            refused.append(f"{name} (MaxPool2d): {refusal}")
    if refused:
        raise UnsupportedLayerError(f"cannot take {'; '.join(refused)}")
    return differs


def _summed(arguments: Sequence[Any]) -> list[fx.Node]:
    sources = [argument for argument in arguments if isinstance(argument, fx.Node)]
    if len(sources) != 2 or sources[0] is sources[1] or len(arguments) > 2:
        raise RefusalError("sums something else than two layers' results; use a plain x + y")
    return sources


def _value(argument: Any, seen: Seen) -> Any:
    """Give an argument with its sizes filled in.

    Raises:
        RefusalError: it depends on what the network computes.
    """

    def known(part: Any) -> Any:
        if not isinstance(part, fx.Node):
            return part
        if part not in seen.values:
            raise RefusalError(f"is given {part.name}, which is no fixed number; write the number")
        return seen.values[part]

    return map_aggregate(argument, known)


def _conv(module: nn.Conv2d) -> list[nn.Module]:
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
    return [module]


def _batch_norm(module: nn.BatchNorm2d) -> list[nn.Module]:
    if module.running_mean is None:
        raise RefusalError("keeps no running statistics; use track_running_stats=True")
    return [module]


def _pool(module: nn.AvgPool2d) -> list[nn.Module]:
    if module.ceil_mode or module.divisor_override is not None:
        raise RefusalError("ceil_mode or divisor_override; leave them out")
    if not module.count_include_pad and torch.as_tensor(module.padding).any():
        raise RefusalError("padding that is not counted; leave out the padding")
    return [nn.AvgPool2d(module.kernel_size, module.stride, module.padding)]


def _mean(given: dict[str, Any], shape: _Shape) -> list[nn.Module]:
    axes = given.get("dim")
    axes = [axes] if isinstance(axes, int) else list(axes or ())
    return global_average(shape, axes, bool(given.get("keepdim", False)))


def _reshape(node: fx.Node, sources: Sequence[fx.Node], seen: Seen) -> list[nn.Module]:
    if node not in seen.shapes or not sources:
        return [nn.Flatten()]
    before, after = seen.shapes[sources[0]], seen.shapes[node]
    if before == after:
        return []
    if after != (before[0], math.prod(before[1:])):
        raise RefusalError(
            f"turns shape {before[1:]} into {after[1:]}; flatten all axes but the batch"
        )
    return [nn.Flatten()]


_MODULES: dict[type[nn.Module], Callable[[Any, _Shape], list[nn.Module]]] = {
    nn.Conv2d: lambda module, shape: _conv(module),
    nn.Linear: lambda module, shape: [module],
    nn.BatchNorm2d: lambda module, shape: _batch_norm(module),
    # new ones, as the old might work in place
    nn.ReLU: lambda module, shape: [nn.ReLU()],
    nn.Dropout: lambda module, shape: [nn.Dropout(module.p)],
    ClippedReLU: lambda module, shape: [module],
    QCFS: lambda module, shape: [module],
    nn.AvgPool2d: lambda module, shape: _pool(module),
    nn.AdaptiveAvgPool2d: lambda module, shape: adaptive_average(shape, module.output_size),
    nn.MaxPool2d: lambda module, shape: [
        max_pool(*(getattr(module, name) for name in _MAX_POOL[1:]))
    ],
}
_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_RESHAPES = (torch.flatten, torch.reshape, "flatten", "view", "reshape")
_RELU: _Reader = (("input",), lambda given, shape: [nn.ReLU()])
_MEAN: _Reader = (("input", "dim", "keepdim"), _mean)
_MAX_POOL: tuple[str, ...] = (
    "input",
    "kernel_size",
    "stride",
    "padding",
    "dilation",
    "ceil_mode",
    "return_indices",
)
_MAX_POOLS = (functional.max_pool2d, torch.max_pool2d)
_FUNCTIONS: dict[Any, _Reader] = {
    functional.relu: _RELU,
    torch.relu: _RELU,
    torch.relu_: _RELU,
    "relu": _RELU,
    "relu_": _RELU,
    "mean": _MEAN,
    torch.mean: _MEAN,
    functional.dropout: (
        ("input", "p", "training", "inplace"),
        lambda given, shape: [nn.Dropout(given.get("p", 0.5))],
    ),
    functional.adaptive_avg_pool2d: (
        ("input", "output_size"),
        lambda given, shape: adaptive_average(shape, given["output_size"]),
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
        lambda given, shape: _pool(nn.AvgPool2d(**given)),
    ),
    **dict.fromkeys(_MAX_POOLS, (_MAX_POOL, lambda given, shape: [max_pool(**given)])),
}
