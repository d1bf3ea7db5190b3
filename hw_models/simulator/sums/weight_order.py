"""Weights of a dense synapse in the engine's order of axes, in the type a backend wants."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.graph import Shape
from spikeship.hw_models.graph.layout import permutation

CHUNK = 2**22  # weights turned at a time: a large matrix must not be held twice


def in_order(
    weight: NDArray[np.int16],
    source: Shape,
    target: Shape,
    convert: Callable[[NDArray[np.int16]], NDArray[Any]],
    kind: Any,
    *,
    turned: bool = False,
) -> NDArray[Any]:
    """Return a matrix whose both ends are flattened in the engine's order.

    Args:
        weight: (out, in), both ends in torch's order.
        source: shape of the (pooled) source.
        target: shape of the target.
        convert: applied to some rows of weights at a time.
        kind: dtype of the result.
        turned: return (in, out).

    Returns:
        The converted weights, (out, in) or (in, out), contiguous.
    """
    rows, columns = permutation(target), permutation(source)
    result = np.empty(weight.shape[::-1] if turned else weight.shape, kind)
    into = result.T if turned else result
    size = max(1, CHUNK // max(1, len(columns)))
    for begin in range(0, len(rows), size):
        some = rows[begin : begin + size]
        into[begin : begin + size] = convert(weight[some[:, None], columns])
    return result
