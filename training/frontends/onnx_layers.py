"""The ONNX operators a Network can hold, each turned into its layers."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from spikeship.training.ann.network import Add
from spikeship.training.ann.sides import sides
from spikeship.training.frontends.pools import (
    MaxPool,
    average_for_max,
    global_average,
    max_pool,
)
from spikeship.training.frontends.refusal import RefusalError

Array = npt.NDArray[Any]
_LARGEST = 2**15


@dataclass(frozen=True)
class OnnxNode:
    """One node of a graph.

    Attributes:
        inputs: names of what it reads, "" where one is left out.
        attributes: its attributes by name; strings are str.
        constants: every value known to depend on no image, by name.
        shape: shape of the image-dependent value it reads, batch axis first, where known.
        max_pool: what becomes of max pools; see ``trace``.
    """

    inputs: Sequence[str]
    attributes: dict[str, Any]
    constants: dict[str, Array]
    shape: tuple[int, ...] | None
    max_pool: MaxPool = "keep"

    def weights(self, place: int, axes: int | None = None) -> Array:
        """Constant input of this place, as float32.

        Raises:
            RefusalError: it is no constant, has another number of axes, or holds NaN or infinity.
        """
        value = self.constants.get(self.inputs[place]) if place < len(self.inputs) else None
        if value is None:
            raise RefusalError(f"input {place} is no constant; export it with constant weights")
        if axes is not None and value.ndim != axes:
            raise RefusalError(f"input {place} has {value.ndim} axes, {axes} are known")
        with np.errstate(over="ignore"):
            numbers = value.astype(np.float32)
        if not np.isfinite(numbers).all():
            raise RefusalError(
                f"{self.inputs[place][:100]!r} holds {_not_finite(value)}; train it again"
            )
        return numbers

    def bias(self, place: int, axes: int | None = None) -> Array | None:
        """As :meth:`weights`, but None where the input is left out."""
        if place >= len(self.inputs) or not self.inputs[place]:
            return None
        return self.weights(place, axes)

    def whole(self, name: str, default: Sequence[int], least: int = 0) -> tuple[int, ...]:
        """Whole numbers of an attribute, one an axis.

        Raises:
            RefusalError: too many or too few, or numbers beyond what an image has.
        """
        given = self.attributes.get(name, default)
        fits = isinstance(given, list | tuple) and len(given) == len(default)
        if not fits or not all(isinstance(n, int) and least <= n <= _LARGEST for n in given):
            raise RefusalError(
                f"{name} is {given!r:.60}; give {len(default)} whole numbers from {least} to "
                f"{_LARGEST}"
            )
        return tuple(given)

    def number(self, name: str, default: float, least: float = 0.0) -> float:
        """A number of an attribute, above ``least``.

        Raises:
            RefusalError: it is none, or not finite.
        """
        given = self.attributes.get(name, default)
        if not isinstance(given, int | float) or not least < given < math.inf:
            raise RefusalError(f"{name} is {given!r:.60}; give a number above {least:g}")
        return given

    def only(self, **allowed: Sequence[Any]) -> None:
        """Refuse attributes with other values than these.

        Raises:
            RefusalError: an attribute has another value.
        """
        for name, values in allowed.items():
            if name in self.attributes and self.attributes[name] not in values:
                raise RefusalError(f"{name} is {self.attributes[name]!r:.60}; export it without")


def _not_finite(values: Array) -> str:
    if np.isnan(values).any():
        return "NaN"
    return "infinity" if np.isinf(values).any() else "numbers beyond 32-bit floats"


def _fill(layer: nn.Conv2d | nn.Linear, weight: Array, bias: Array | None) -> None:
    layer.weight = nn.Parameter(torch.tensor(weight))
    layer.bias = None if bias is None else nn.Parameter(torch.tensor(bias))


def _padding(node: OnnxNode) -> tuple[int, int]:
    node.only(auto_pad=("NOTSET", ""))
    pads = node.whole("pads", (0, 0, 0, 0))
    if pads[:2] != pads[2:]:
        raise RefusalError(f"pads {list(pads)}; pad both axes alike on both sides")
    return pads[0], pads[1]


def _conv(node: OnnxNode) -> list[nn.Module]:
    weight = node.weights(1, axes=4)
    groups = node.attributes.get("group", 1)
    if not isinstance(groups, int) or not 1 <= groups <= len(weight) or len(weight) % groups:
        raise RefusalError(f"group is {groups!r:.60}, of {len(weight)} channels; export it again")
    conv = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        weight.shape[2:],
        sides(node.whole("strides", (1, 1), 1)),
        _padding(node),
        sides(node.whole("dilations", (1, 1), 1)),
        groups,
        device="meta",  # draws no weights
    )
    _fill(conv, weight, node.bias(2, axes=1))
    return [conv]


def _linear(weight: Array, bias: Array | None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    _fill(linear, weight, bias)
    return linear


def _gemm(node: OnnxNode) -> list[nn.Module]:
    node.only(alpha=(1.0,), beta=(1.0,), transA=(0,))
    weight, bias = node.weights(1, axes=2), node.bias(2)
    if not node.attributes.get("transB", 0):
        weight = weight.T
    if bias is not None:
        if bias.size not in (1, len(weight)) or bias.shape[:-1] not in ((), (1,)):
            raise RefusalError(f"adds an array of shape {bias.shape}; give one number a unit")
        bias = np.broadcast_to(bias.reshape(-1), len(weight))
    return [_linear(weight, bias)]


def _matmul(node: OnnxNode) -> list[nn.Module]:
    weight = node.weights(1, axes=2)
    return [_linear(weight.T, None)]


def _kernel(node: OnnxNode) -> tuple[int, int]:
    axes = len(node.attributes["kernel_shape"])
    if axes != 2:
        raise RefusalError(f"pools {axes} axes, 2 are known")
    return sides(node.whole("kernel_shape", (1, 1), 1))


def _average_pool(node: OnnxNode) -> list[nn.Module]:
    kernel = _kernel(node)
    node.only(ceil_mode=(0,), dilations=([1, 1],))
    padding = _padding(node)
    if any(padding) and not node.attributes.get("count_include_pad", 0):
        raise RefusalError("padding that is not counted; leave out the padding")
    return [nn.AvgPool2d(kernel, sides(node.whole("strides", (1, 1), 1)), padding)]


def _max_pool(node: OnnxNode) -> list[nn.Module]:
    kernel = _kernel(node)
    node.only(auto_pad=("NOTSET", "", "VALID"), storage_order=(0,))
    pads = node.whole("pads", (0, 0, 0, 0))
    if pads[:2] != pads[2:]:
        raise RefusalError(f"pads {list(pads)}; pad both axes alike on both sides")
    make = max_pool if node.max_pool == "keep" else average_for_max
    pool = make(
        kernel,
        node.whole("strides", (1, 1), 1),
        pads[:2],
        node.whole("dilations", (1, 1), 1),
        bool(node.attributes.get("ceil_mode", 0)),
    )
    return [pool]


def _reduce_mean(node: OnnxNode) -> list[nn.Module]:
    axes = node.attributes.get("axes")
    if axes is None:
        given = node.bias(1)
        axes = [] if given is None else [int(axis) for axis in given]
    return global_average(node.shape, axes, bool(node.attributes.get("keepdims", 1)))


def _batch_norm(node: OnnxNode) -> list[nn.Module]:
    node.only(training_mode=(0,), spatial=(1,))
    factor, offset, mean, variance = (node.weights(place, axes=1) for place in range(1, 5))
    if (variance < 0).any():
        raise RefusalError(f"{node.inputs[4][:100]!r} holds a negative variance; train it again")
    norm = nn.BatchNorm2d(len(mean), node.number("epsilon", 1e-5))
    norm.weight, norm.bias = nn.Parameter(torch.tensor(factor)), nn.Parameter(torch.tensor(offset))
    norm.running_mean, norm.running_var = torch.tensor(mean), torch.tensor(variance)
    return [norm]


def _dropout(node: OnnxNode) -> list[nn.Module]:
    ratio = node.attributes.get("ratio", 0.5)
    given = node.bias(1)
    return [nn.Dropout(ratio if given is None else float(given))]


def _add(node: OnnxNode) -> list[nn.Module]:
    if node.inputs[0] == node.inputs[1]:
        raise RefusalError("adds a value to itself; scale the weights before it instead")
    return [Add()]


def _flatten(node: OnnxNode) -> list[nn.Module]:
    rank = len(node.shape) if node.shape else 0
    if node.attributes.get("axis", 1) not in (1, 1 - rank):
        raise RefusalError("flattens other axes; flatten all but the batch")
    return [] if rank == 2 else [nn.Flatten()]


def _reshape(node: OnnxNode) -> list[nn.Module]:
    if node.shape is None:
        return [nn.Flatten()]  # behind a refused node, where nothing can be said
    target = [int(n) for n in node.weights(1)]
    if not node.attributes.get("allowzero", 0):
        target = [
            node.shape[place] if n == 0 and place < len(node.shape) else n
            for place, n in enumerate(target)
        ]
    whole = math.prod(node.shape)
    if target.count(-1) == 1:
        target[target.index(-1)] = whole // max(1, -math.prod(target))
    if tuple(target) == node.shape:
        return []
    if target != [node.shape[0], whole // node.shape[0]]:
        raise RefusalError(f"turns shape {node.shape} into {target}; flatten all but the batch")
    return [nn.Flatten()]


LAYERS: dict[str, Callable[[OnnxNode], list[nn.Module]]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Relu": lambda node: [nn.ReLU()],
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda node: global_average(node.shape, (2, 3), True),
    "ReduceMean": _reduce_mean,
    "MaxPool": _max_pool,
    "BatchNormalization": _batch_norm,
    "Add": _add,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Dropout": _dropout,
    "Identity": lambda node: [],
}
KNOWN = ", ".join(LAYERS)
