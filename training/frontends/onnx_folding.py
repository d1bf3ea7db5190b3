"""What of an ONNX graph depends on no image, computed while reading it.

Exporters write shapes and rearranged weights as nodes. They are run by ONNX's reference, and only
operators of this list, whose results can be told in size beforehand: a file of some bytes could
otherwise ask for any time and memory.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from spikeship.training.frontends.onnx_file import KINDS, Array, OnnxError, array_of
from spikeship.training.frontends.refusal import RefusalError

# numbers that may be read and made in all, beside sixteen times what is stored
_WORK = 2**27
_ROUNDS = 16
_Feeds = Sequence[Array | None]


def _first(feeds: _Feeds, node: Any) -> int:
    return 0 if feeds[0] is None else feeds[0].size


def _all(feeds: _Feeds, node: Any) -> int:
    return sum(feed.size for feed in feeds if feed is not None)


def _broadcast(feeds: _Feeds, node: Any) -> int:
    shape: tuple[int, ...] = np.broadcast_shapes(*(f.shape for f in feeds if f is not None))
    return math.prod(shape)


def _gathered(feeds: _Feeds, node: Any) -> int:
    data, places = _array(feeds, 0), _array(feeds, 1)
    axis = next((int(entry.i) for entry in node.attribute if entry.name == "axis"), 0)
    rows: int = data.size // max(1, data.shape[axis])
    return rows * places.size


def _filled(feeds: _Feeds, node: Any) -> int:
    return math.prod(_whole(_array(feeds, 0)))


def _expanded(feeds: _Feeds, node: Any) -> int:
    return math.prod(np.broadcast_shapes(_array(feeds, 0).shape, _whole(_array(feeds, 1))))


def _tiled(feeds: _Feeds, node: Any) -> int:
    return _array(feeds, 0).size * math.prod(_whole(_array(feeds, 1)))


def _ranged(feeds: _Feeds, node: Any) -> int:
    start, limit, delta = (_array(feeds, place).item() for place in range(3))
    return max(0, int(math.ceil((limit - start) / delta)))


def _array(feeds: _Feeds, place: int) -> Array:
    feed = feeds[place]
    if feed is None:
        raise ValueError(f"input {place} is left out")
    return feed


def _whole(values: Array) -> tuple[int, ...]:
    if values.size > 32:
        raise ValueError(f"{values.size} axes")
    sides = tuple(int(side) for side in values.reshape(-1))
    if min(sides, default=0) < 0:
        raise ValueError(f"shape {sides}")
    return sides


# how many numbers an operator gives at most
_SIZES: dict[str, Callable[[_Feeds, Any], int]] = {
    **dict.fromkeys(
        (
            "Abs",
            "Cast",
            "CastLike",
            "Ceil",
            "DequantizeLinear",
            "Exp",
            "Flatten",
            "Floor",
            "Identity",
            "Log",
            "Neg",
            "Not",
            "Reciprocal",
            "ReduceMax",
            "ReduceMean",
            "ReduceMin",
            "ReduceProd",
            "ReduceSum",
            "Reshape",
            "Shape",
            "Size",
            "Slice",
            "Split",
            "Sqrt",
            "Squeeze",
            "Transpose",
            "Unsqueeze",
        ),
        _first,
    ),
    **dict.fromkeys(
        (
            "Add",
            "And",
            "Div",
            "Equal",
            "Greater",
            "GreaterOrEqual",
            "Less",
            "LessOrEqual",
            "Max",
            "Min",
            "Mod",
            "Mul",
            "Or",
            "Pow",
            "Sub",
            "Where",
        ),
        _broadcast,
    ),
    "Concat": _all,
    "ConstantOfShape": _filled,
    "Expand": _expanded,
    "Gather": _gathered,
    "Range": _ranged,
    "Tile": _tiled,
}


class Folding:
    """Computes what depends on no image, within a limit for a whole file.

    Args:
        opsets: version of each operator set.
        stored: how many numbers the file stores.
    """

    def __init__(self, opsets: Mapping[str, int], stored: int) -> None:
        self._opsets = dict(opsets)
        self._left = _WORK + _ROUNDS * stored

    def results(self, node: Any, feeds: Mapping[str, Array]) -> list[Array] | None:
        """Results of a node, in the order of its outputs; None if it is not computed here.

        Args:
            node: as ONNX writes it.
            feeds: its inputs by name.

        Raises:
            RefusalError: more would be made than a network takes.
        """
        if node.domain not in ("", "ai.onnx"):
            return None
        try:
            if node.op_type == "Constant":
                return [_constant(node)]
            if node.op_type not in _SIZES or not _plain(node):
                return None
            given = [feeds[name] if name else None for name in node.input]
            size = _SIZES[node.op_type](given, node)
            work = size if node.op_type in ("Shape", "Size") else size + _all(given, node)
        except OnnxError as error:
            raise RefusalError(str(error)) from error
        # not well formed: refused as a layer
        except Exception:
            return None
        if work > self._left:
            raise RefusalError(
                f"would make {size:,} numbers, more than a network of this size takes; store them "
                "as weights"
            )
        self._left -= work
        graph = onnx.GraphProto()
        graph.node.append(node)
        for name in feeds:
            graph.input.add(name=name)
        for name in node.output:
            graph.output.add(name=name)
        try:
            results: Any = ReferenceEvaluator(graph, opsets=self._opsets).run(None, dict(feeds))
        except Exception:
            return None
        return [np.asarray(result) for result in results]


def _plain(node: Any) -> bool:
    """Whether attributes ask for numbers alone, and no more results than are named."""
    for entry in node.attribute:
        if entry.name == "to" and entry.i not in KINDS:
            return False
        if entry.name == "num_outputs" and entry.i != len(node.output):
            return False
        if entry.name == "value" and array_of(entry.t, "value").size != 1:
            return False
    return True


def _constant(node: Any) -> Array:
    """The array of a Constant; KeyError where it is of another kind."""
    (entry,) = node.attribute
    if entry.name == "value":
        return array_of(entry.t, f"Constant {node.output[0][:100]!r}")
    kind = {"value_float": np.float32, "value_floats": np.float32}.get(entry.name, np.int64)
    if entry.name not in ("value_float", "value_floats", "value_int", "value_ints"):
        raise KeyError(entry.name)
    return np.array(onnx.helper.get_attribute_value(entry), kind)
