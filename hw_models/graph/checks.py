"""What the parts of a FixedGraph share: their types, and the checks made when one is made."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.names import name_problem

Shape = tuple[int, ...]
Array = NDArray[np.int64]
Encoding = Literal["poisson", "direct", "spikes"]
Timing = Literal["pipelined", "staged"]
Overflow = Literal["proved", "observed", "unchecked"]
MAX_MESSAGE = 2**15 - 1  # what the engines carry from an input; Loihi 2 would take 32 bits
MAX_GRADED = 2**23 - 1  # what the 24 bits of a sigma-delta neuron's message hold


class GraphError(SpikeshipError, ValueError):
    """A graph that no chip could run; the message names the object, the reason and the fix."""


def require(condition: bool, message: str) -> None:
    """Raise GraphError with the message unless the condition holds."""
    if not condition:
        raise GraphError(message)


def check_name(kind: str, name: object) -> None:
    """Refuse a name that cannot be shown, stored and written into code."""
    problem = name_problem(name)
    require(problem is None, f"{kind} {str(name)[:60]!r}: {problem}; give it another name")


def plain_shape(name: str, shape: Any) -> Shape:
    """Return a node's shape as a tuple of plain integers, of one neuron at least."""
    plain = tuple(int(n) for n in shape)
    require(
        len(plain) > 0 and min(plain) > 0,
        f"node {name!r}: shape {plain} holds no neurons; give one or more axes, each of 1 or more",
    )
    return plain


def per_neuron(owner: Any, key: str) -> None:
    """Store a node's field as an array that broadcasts to its shape: int64, a scale float64."""
    shape: Shape = owner.shape
    where = f"node {owner.name!r}"
    given = np.asarray(getattr(owner, key))
    require(
        key == "scale" or given.dtype.kind in "iub",
        f"{where}: {key} must be integers, got {given.dtype}; quantize it first",
    )
    value = given.astype(np.float64 if key == "scale" else np.int64)
    if value.ndim == 0:
        value = value.reshape((1,) * len(shape))
    fits = value.ndim == len(shape) and all(
        a in (1, b) for a, b in zip(value.shape, shape, strict=True)
    )
    require(fits, f"{where}: {key} has shape {value.shape}, which does not fit {shape}")
    value.setflags(write=False)
    object.__setattr__(owner, key, value)


def within(owner: Any, limits: dict[str, tuple[int, int]]) -> None:
    """Refuse a node with a field beyond its limits."""
    for key, (low, high) in limits.items():
        value = np.asarray(getattr(owner, key))
        require(
            value.size == 0 or (int(value.min()) >= low and int(value.max()) <= high),
            f"neuron {owner.name!r}: {key} must lie in {low}..{high}, "
            f"got {value_range(value)}; choose another scale",
        )


def value_range(values: NDArray[Any]) -> str:
    """Say the smallest and the largest of some values."""
    return f"{values.min()}..{values.max()}" if values.size else "(none)"


def frozen_ints(values: Any) -> Array:
    """Return values as a read-only int64 array."""
    result = np.ascontiguousarray(values, dtype=np.int64)
    result.setflags(write=False)
    return result
