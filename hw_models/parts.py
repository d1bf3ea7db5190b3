"""The parts of a FixedGraph: input, neurons, readout and synapses, each checked when it is made.

Shapes are torch's: ``(channel, height, width)`` or ``(features,)``. Fields carry Lava's names. A
synapse is named after the layer its weights came from, a neuron after the activation it stands
for, the readout after the last weighted layer.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed

Shape = tuple[int, ...]
Array = NDArray[np.int64]
Encoding = Literal["poisson", "direct", "spikes"]
Overflow = Literal["proved", "observed", "unchecked"]
MAX_MESSAGE = 2**15 - 1  # what the engines carry; Loihi 2 would take 32 bits


class GraphError(ValueError):
    """A graph that no chip could run; the message names the object, the reason and the fix."""


def require(condition: bool, message: str) -> None:
    """Raise GraphError with the message unless the condition holds."""
    if not condition:
        raise GraphError(message)


def _per_neuron(owner: object, name: str, key: str, shape: Shape) -> None:
    """Store field ``key`` as an array that broadcasts to ``shape``: int64, a scale float64."""
    given = np.asarray(getattr(owner, key))
    require(
        key == "scale" or given.dtype.kind in "iub",
        f"node {name!r}: {key} must be integers, got {given.dtype}; quantize it first",
    )
    value = given.astype(np.float64 if key == "scale" else np.int64)
    if value.ndim == 0:
        value = value.reshape((1,) * len(shape))
    fits = value.ndim == len(shape) and all(
        a in (1, b) for a, b in zip(value.shape, shape, strict=True)
    )
    require(fits, f"node {name!r}: {key} has shape {value.shape}, which does not fit {shape}")
    value.setflags(write=False)
    object.__setattr__(owner, key, value)


@dataclass(frozen=True, eq=False)
class Input:
    """Where messages enter.

    Attributes:
        name: name of the node.
        shape: ``(channel, height, width)`` or ``(features,)``.
        encoding: how an image becomes messages; ``spikes`` takes them as they arrive.
        max_message: largest magnitude of a message (1 for spikes, 127 for 8-bit direct input).
        signed: whether messages may be negative.
        scale: real input = message * scale (folded into the first weights already).
    """

    name: str
    shape: Shape
    encoding: Encoding = "poisson"
    max_message: int = 1
    signed: bool = True
    scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        require(
            1 <= self.max_message <= MAX_MESSAGE,
            f"input {self.name!r}: max_message must lie in 1..{MAX_MESSAGE}",
        )
        require(
            self.encoding in ("poisson", "direct", "spikes"),
            f"input {self.name!r}: unknown encoding {self.encoding!r}; poisson, direct or spikes",
        )


@dataclass(frozen=True, eq=False)
class Neuron:
    """Leaky integrate-and-fire neurons, one population.

    Per local step, with ``a`` the sum of the synapses' results::

        u = tz(u * (4096 - (du + 1))) + (a << 6)
        v = saturate(tz(v * (4096 - dv)) + u + (bias_mant << bias_exp))
        s = v > vth << 6
        v = v - (vth << 6) where s, or 0 with ``reset="zero"``

    Attributes:
        name: name of the node.
        shape: shape of the population.
        vth: threshold, weight units, per neuron or broadcast (17 bits).
        du: decay of the current (4095: none kept, pure integration).
        dv: decay of the potential (0: no leak), per neuron or broadcast.
        bias_mant: bias mantissa, signed 13 bits. bias_exp: its exponent, 0..7.
        v0: potential at the start of a sample, in units of v (64 to a weight unit).
        reset: ``subtract`` (soft) or ``zero`` (hard).
        scale: real = integer weight * scale, per channel or one.
        overflow: whether the bound on ``a`` is proved, observed on data, or unchecked.
    """

    name: str
    shape: Shape
    vth: Array
    du: int = 4095
    dv: Array = field(default_factory=lambda: np.zeros((), np.int64))
    bias_mant: Array = field(default_factory=lambda: np.zeros((), np.int64))
    bias_exp: Array = field(default_factory=lambda: np.zeros((), np.int64))
    v0: Array = field(default_factory=lambda: np.zeros((), np.int64))
    reset: Literal["subtract", "zero"] = "subtract"
    scale: NDArray[np.float64] = field(default_factory=lambda: np.ones(()))
    overflow: Overflow = "unchecked"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        for key in ("vth", "dv", "bias_mant", "bias_exp", "v0", "scale"):
            _per_neuron(self, self.name, key, self.shape)
        limits = {
            "vth": (0, fixed.VTH_MAX),
            "bias_mant": (fixed.BIAS_MANT_MIN, fixed.BIAS_MANT_MAX),
            "bias_exp": (0, fixed.BIAS_EXP_MAX),
            "v0": (-fixed.STATE_RAIL, fixed.STATE_RAIL),
            "du": (0, 4095),
            "dv": (0, 4095),
        }
        for key, (low, high) in limits.items():
            value = np.asarray(getattr(self, key))
            require(
                value.size == 0 or (int(value.min()) >= low and int(value.max()) <= high),
                f"neuron {self.name!r}: {key} must lie in {low}..{high}, "
                f"got {_range(value)}; choose another scale",
            )
        require(bool(np.all(self.scale > 0)), f"neuron {self.name!r}: scale must be positive")
        require(
            self.reset in ("subtract", "zero"),
            f"neuron {self.name!r}: unknown reset {self.reset!r}; subtract or zero",
        )

    @property
    def bias(self) -> Array:
        """Effective bias in units of v, broadcastable to the shape."""
        return fixed.effective_bias(self.bias_mant, self.bias_exp).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Readout:
    """The accumulator at the end: ``v += a + bias``; no leak, threshold or spike. Weight units.

    One ``scale`` for all classes, or the largest potential would not be the largest score.
    """

    name: str
    shape: Shape
    bias: Array = field(default_factory=lambda: np.zeros((), np.int64))
    scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        _per_neuron(self, self.name, "bias", self.shape)
        require(self.scale > 0, f"readout {self.name!r}: scale must be positive")


@dataclass(frozen=True, eq=False, kw_only=True)
class Synapse:
    """What carries messages from one node to another.

    Attributes:
        name: name of the layer the weights came from.
        source: name of the node it reads. target: name of the node it feeds.
        delay: Lava steps from a message to its arrival, at least 1.
        pool: side of the square sum-pool applied to the messages first (1: none).
        weight_exp: power of two applied to the sum (floor for negative exponents).
        num_weight_bits: width of the weights, 1..8.
    """

    name: str
    source: str
    target: str
    delay: int = 1
    pool: int = 1
    weight_exp: int = 0
    num_weight_bits: int = 8

    def _check_common(self, weights: Any) -> None:
        where = f"synapse {self.name!r}"
        require(self.delay >= 1, f"{where}: delay must be at least 1 step, got {self.delay}")
        require(self.pool >= 1, f"{where}: pool must be at least 1, got {self.pool}")
        require(-8 <= self.weight_exp <= 7, f"{where}: weight_exp must lie in -8..7")
        require(1 <= self.num_weight_bits <= 8, f"{where}: num_weight_bits must lie in 1..8")
        require(
            fixed.fits_weights(weights, self.num_weight_bits),
            f"{where}: weights {_range(weights)} are not what "
            f"{self.num_weight_bits} bits hold (-256..254 and even where signs are mixed, "
            "0..255 or -255..0 else); quantize them first",
        )


def _range(values: NDArray[Any]) -> str:
    return f"{values.min()}..{values.max()}" if values.size else "(none)"


def _frozen_ints(values: Any) -> Array:
    result = np.ascontiguousarray(values, dtype=np.int64)
    result.setflags(write=False)
    return result


@dataclass(frozen=True, eq=False, kw_only=True)
class Conv(Synapse):
    """Cross-correlation as torch defines it; ``weight`` is (out, in / groups, height, width).

    With a delay of 1 Lava's Conv carries it, which knows no exponent; with a longer delay, or an
    exponent, Lava runs it as a sparse matrix.
    """

    weight: NDArray[np.int16]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _weights(self.name, self.weight))
        for key, least in (("stride", 1), ("padding", 0), ("dilation", 1)):
            object.__setattr__(self, key, tuple(int(n) for n in getattr(self, key)))
            require(
                len(getattr(self, key)) == 2 and min(getattr(self, key)) >= least,
                f"synapse {self.name!r}: {key} must be two numbers from {least} on",
            )
        require(
            self.weight.ndim == 4, f"synapse {self.name!r}: conv weights need 4 axes (o, i, h, w)"
        )
        self._check_common(self.weight)

    def output_shape(self, pooled: Shape) -> Shape:
        """Shape of the result for messages of shape ``pooled`` (channel, height, width)."""
        out, _, *kernel = self.weight.shape
        sides = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(
                pooled[1:], kernel, self.stride, self.padding, self.dilation, strict=True
            )
        )
        return (out, *sides)


@dataclass(frozen=True, eq=False, kw_only=True)
class Dense(Synapse):
    """All to all; ``weight`` is (out, in), inputs flattened in torch's order (c, y, x)."""

    weight: NDArray[np.int16]

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _weights(self.name, self.weight))
        require(self.weight.ndim == 2, f"synapse {self.name!r}: dense weights need 2 axes")
        self._check_common(self.weight)


@dataclass(frozen=True, eq=False, kw_only=True)
class Sparse(Synapse):
    """A sparse matrix (out, in) in compressed rows, both ends flattened in torch's order.

    Attributes:
        data: weights. indices: column of each. indptr: where each row starts.
        columns: number of inputs (after the pool).
    """

    data: NDArray[np.int16]
    indices: Array
    indptr: Array
    columns: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", _weights(self.name, self.data))
        for key in ("indices", "indptr"):
            object.__setattr__(self, key, _frozen_ints(getattr(self, key)))
        require(
            self.data.shape == self.indices.shape
            and self.indptr[0] == 0
            and self.indptr[-1] == len(self.data)
            and bool(np.all(np.diff(self.indptr) >= 0)),
            f"synapse {self.name!r}: data, indices and indptr do not belong together",
        )
        require(
            self.data.size == 0 or (self.indices.min() >= 0 and self.indices.max() < self.columns),
            f"synapse {self.name!r}: a column index lies outside 0..{self.columns - 1}",
        )
        self._check_common(self.data)

    @property
    def rows(self) -> int:
        """Number of outputs."""
        return len(self.indptr) - 1


def _weights(name: str, values: Any) -> NDArray[np.int16]:
    """Weights in the 16 bits that hold -256..255, so that a large network fits in memory."""
    given = np.asarray(values)
    held = np.ascontiguousarray(given, dtype=np.int16)
    require(
        given.dtype.kind in "iub" and bool(np.array_equal(held, given)),
        f"synapse {name!r}: weights must be integers of at most 9 bits; quantize them first",
    )
    held.setflags(write=False)
    return held


Node = Neuron | Readout
AnySynapse = Conv | Dense | Sparse


def pooled_shape(shape: Shape, pool: int, name: str) -> Shape:
    """Shape after a ``pool`` x ``pool`` sum-pool; refused where it does not divide evenly."""
    if pool == 1:
        return shape
    require(
        len(shape) == 3 and shape[1] % pool == 0 and shape[2] % pool == 0,
        f"synapse {name!r}: a {pool}x{pool} pool does not divide messages of shape {shape}; "
        "pad the input so that every pool divides evenly",
    )
    return (shape[0], shape[1] // pool, shape[2] // pool)


def weight_sums(synapse: AnySynapse) -> tuple[Array, Array]:
    """Sum of the positive, and of the negative, weights (as magnitudes) into each output row."""
    if isinstance(synapse, Sparse):
        rows = np.repeat(np.arange(synapse.rows), np.diff(synapse.indptr))
        parts = (np.maximum(synapse.data, 0), np.maximum(-synapse.data, 0))
        positive, negative = (
            np.bincount(rows, weights=part, minlength=synapse.rows).astype(np.int64)
            for part in parts
        )
        return positive, negative
    flat = synapse.weight.reshape(len(synapse.weight), -1)
    return (
        np.maximum(flat, 0).sum(axis=1, dtype=np.int64),
        np.maximum(-flat, 0).sum(axis=1, dtype=np.int64),
    )
