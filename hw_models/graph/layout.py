"""The engine's order of axes: channels last, as its convolutions and kernels read them fastest.

Everything outside the engine keeps torch's order (channel, height, width). Flat shapes are the
same in both.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.graph.checks import Array, Shape


def last_shape(shape: Shape) -> Shape:
    """(channel, height, width) as (height, width, channel); other shapes stay."""
    return (*shape[1:], shape[0]) if len(shape) == 3 else shape


def to_last(values: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Turn (..., *shape) to (..., *last_shape(shape)), contiguous."""
    if len(shape) == 3:
        values = np.moveaxis(values, -3, -1)
    return np.ascontiguousarray(values)


def from_last(values: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Turn (..., neurons) in the engine's order to (..., *shape), contiguous."""
    values = values.reshape(*values.shape[:-1], *last_shape(shape))
    if len(shape) == 3:
        values = np.moveaxis(values, -1, -3)
    return np.ascontiguousarray(values)


def permutation(shape: Shape) -> Array:
    """For every flat position in the engine's order, the flat position in torch's."""
    return to_last(np.arange(_size(shape)).reshape(shape), shape).reshape(-1)


def per_neuron(values: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Broadcast parameters to ``shape`` and flatten them in the engine's order."""
    return to_last(np.broadcast_to(values, shape), shape).reshape(-1)


def _size(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))
