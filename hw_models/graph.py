"""FixedGraph: what a chip runs. Frozen dataclasses in integers, checked when they are made.

Shapes are torch's: ``(channel, height, width)`` or ``(features,)``. Fields carry Lava's names. A
synapse is named after the layer its weights came from, a neuron after the activation it stands
for, the readout after the last weighted layer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed

Shape = tuple[int, ...]
Array = NDArray[np.int64]
Encoding = Literal["poisson", "direct", "spikes"]
Overflow = Literal["proved", "observed", "unchecked"]


class GraphError(ValueError):
    """A graph that no chip could run; the message names the object, the reason and the fix."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise GraphError(message)


def _size(shape: Shape) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _per_neuron(owner: object, name: str, key: str, shape: Shape) -> None:
    """Store field ``key`` as an array that broadcasts to ``shape``; int64 unless it is float."""
    value = np.asarray(getattr(owner, key))
    value = value.astype(np.float64 if value.dtype.kind == "f" else np.int64)
    if value.ndim == 0:
        value = value.reshape((1,) * len(shape))
    fits = value.ndim == len(shape) and all(
        a in (1, b) for a, b in zip(value.shape, shape, strict=True)
    )
    _require(fits, f"node {name!r}: {key} has shape {value.shape}, which does not fit {shape}")
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
        _require(self.max_message >= 1, f"input {self.name!r}: max_message must be at least 1")
        _require(
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
        dv: decay of the potential (0: no leak).
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
    dv: int = 0
    bias_mant: Array = field(default_factory=lambda: np.zeros((), np.int64))
    bias_exp: Array = field(default_factory=lambda: np.zeros((), np.int64))
    v0: Array = field(default_factory=lambda: np.zeros((), np.int64))
    reset: Literal["subtract", "zero"] = "subtract"
    scale: NDArray[np.float64] = field(default_factory=lambda: np.ones(()))
    overflow: Overflow = "unchecked"

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        for key in ("vth", "bias_mant", "bias_exp", "v0", "scale"):
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
            _require(
                value.size == 0 or (int(value.min()) >= low and int(value.max()) <= high),
                f"neuron {self.name!r}: {key} must lie in {low}..{high}, "
                f"got {_range(value)}; choose another scale",
            )
        _require(bool(np.all(self.scale > 0)), f"neuron {self.name!r}: scale must be positive")
        _require(
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
        _require(self.scale > 0, f"readout {self.name!r}: scale must be positive")


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
        _require(self.delay >= 1, f"{where}: delay must be at least 1 step, got {self.delay}")
        _require(self.pool >= 1, f"{where}: pool must be at least 1, got {self.pool}")
        _require(-8 <= self.weight_exp <= 7, f"{where}: weight_exp must lie in -8..7")
        _require(1 <= self.num_weight_bits <= 8, f"{where}: num_weight_bits must lie in 1..8")
        _require(
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
        for key in ("stride", "padding", "dilation"):
            object.__setattr__(self, key, tuple(int(n) for n in getattr(self, key)))
        _require(
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
        _require(self.weight.ndim == 2, f"synapse {self.name!r}: dense weights need 2 axes")
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
        _require(
            self.data.shape == self.indices.shape and self.indptr[-1] == len(self.data),
            f"synapse {self.name!r}: data, indices and indptr do not belong together",
        )
        _require(
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
    _require(
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
    _require(
        len(shape) == 3 and shape[1] % pool == 0 and shape[2] % pool == 0,
        f"synapse {name!r}: a {pool}x{pool} pool does not divide messages of shape {shape}; "
        "pad the input so that every pool divides evenly",
    )
    return (shape[0], shape[1] // pool, shape[2] // pool)


@dataclass(frozen=True, eq=False)
class FixedGraph:
    """A network in integers.

    Attributes:
        input: the input node.
        nodes: neurons and, last, the readout (or, read from a file, a last neuron), in an order
            in which every forward synapse leads from an earlier to a later one.
        synapses: all connections.
        num_steps: the T it was made for; None where the file said none.
        gated: whether nodes run only in their own T steps (everything we make) or in every chip
            step from 1 on (graphs read from ``.net`` files).
        metadata: JSON values only: provenance, data, what the float network said.

    Raises:
        GraphError: shapes, delays or widths that no chip could run, by name and reason.
    """

    input: Input
    nodes: tuple[Node, ...]
    synapses: tuple[AnySynapse, ...]
    num_steps: int | None = None
    gated: bool = True
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "synapses", tuple(self.synapses))
        _require(len(self.nodes) > 0, "graph has no nodes")
        names = [self.input.name, *(node.name for node in self.nodes)]
        _require(len(set(names)) == len(names), f"graph: node names must differ, got {names}")
        _require(
            self.num_steps is None or self.num_steps >= 1,
            f"graph: num_steps must be at least 1, got {self.num_steps}",
        )
        self._check_shapes()
        object.__setattr__(self, "_depths", self._find_depths())
        self._check_sums()

    @property
    def depths(self) -> Mapping[str, int]:
        """For every node its d: the sum of the delays from the input to it (input: 0)."""
        depths: Mapping[str, int] = self.__dict__["_depths"]
        return depths

    @property
    def output(self) -> Node:
        """The last node: the readout."""
        return self.nodes[-1]

    @property
    def drain(self) -> int:
        """D: the depth of the output, the steps a sample takes beyond its T."""
        return self.depths[self.output.name]

    def chip_steps(self, num_steps: int) -> int:
        """Chip steps of one sample: T + D."""
        return num_steps + self.drain

    def node(self, name: str) -> Input | Node:
        """Return the node of this name.

        Raises:
            KeyError: there is none.
        """
        for node in (self.input, *self.nodes):
            if node.name == name:
                return node
        raise KeyError(name)

    def incoming(self, name: str) -> tuple[AnySynapse, ...]:
        """Synapses that feed the node of this name."""
        return tuple(synapse for synapse in self.synapses if synapse.target == name)

    def max_message(self, synapse: AnySynapse) -> int:
        """Largest magnitude of a message after the synapse's pool."""
        source = self.node(synapse.source)
        largest = source.max_message if isinstance(source, Input) else 1
        return largest * synapse.pool**2

    def signed(self, synapse: AnySynapse) -> bool:
        """Whether the synapse's messages may be negative."""
        source = self.node(synapse.source)
        return isinstance(source, Input) and source.signed

    def input_bound(self, name: str) -> int:
        """Largest magnitude of ``a`` that the weights let arrive at a node in one step."""
        low = high = 0
        for synapse in self.incoming(name):
            positive, negative = weight_sums(synapse)
            message = self.max_message(synapse)
            if self.signed(synapse):
                top = bottom = int((positive + negative).max(initial=0)) * message
            else:
                top = int(positive.max(initial=0)) * message
                bottom = int(negative.max(initial=0)) * message
            # a right shift rounds down, so a negative sum may end one unit further out
            top, bottom = fixed.shift(np.array([top, -bottom]), synapse.weight_exp).tolist()
            high += top
            low -= bottom
        return max(low, high)

    def _check_shapes(self) -> None:
        order = {self.input.name: -1} | {node.name: i for i, node in enumerate(self.nodes)}
        fed = {synapse.target for synapse in self.synapses}
        for synapse in self.synapses:
            where = f"synapse {synapse.name!r}"
            for end in (synapse.source, synapse.target):
                _require(end in order, f"{where}: there is no node {end!r}")
            source, target = self.node(synapse.source), self.node(synapse.target)
            _require(not isinstance(target, Input), f"{where}: the input cannot be a target")
            _require(
                not isinstance(source, Readout),
                f"{where}: {synapse.source!r} is a readout, which sends nothing",
            )
            if self.gated:
                _require(
                    order[synapse.source] < order[synapse.target],
                    f"{where}: leads back from {synapse.source!r} to {synapse.target!r}; "
                    "a gated graph has no loops",
                )
            pooled = pooled_shape(source.shape, synapse.pool, synapse.name)
            if isinstance(synapse, Conv):
                self._check_conv(synapse, pooled, target.shape)
            else:
                rows, columns = (
                    synapse.weight.shape
                    if isinstance(synapse, Dense)
                    else (synapse.rows, synapse.columns)
                )
                _require(
                    (rows, columns) == (_size(target.shape), _size(pooled)),
                    f"{where}: a {rows} x {columns} matrix cannot lead from shape {pooled} "
                    f"to shape {target.shape}",
                )
            _require(
                not (isinstance(synapse, Dense) and synapse.pool > 1 and synapse.delay < 2),
                f"{where}: a dense synapse with a pool takes a delay of at least 2",
            )
        for node in self.nodes:
            _require(node.name in fed, f"node {node.name!r}: no synapse feeds it")

    @staticmethod
    def _check_conv(synapse: Conv, pooled: Shape, target: Shape) -> None:
        where = f"synapse {synapse.name!r}"
        out, per_group, *_ = synapse.weight.shape
        _require(len(pooled) == 3, f"{where}: a convolution needs a (c, h, w) source, got {pooled}")
        _require(
            pooled[0] == per_group * synapse.groups and out % synapse.groups == 0,
            f"{where}: {synapse.groups} groups of {per_group} channels do not fit {pooled[0]}",
        )
        _require(
            synapse.output_shape(pooled) == target,
            f"{where}: gives shape {synapse.output_shape(pooled)}, its target has {target}",
        )
        _require(
            synapse.weight_exp == 0 or synapse.delay > 1,
            f"{where}: Lava's Conv ignores weight_exp; give it a delay of 2 or scale vth instead",
        )

    def _find_depths(self) -> dict[str, int]:
        order = {self.input.name: -1} | {node.name: i for i, node in enumerate(self.nodes)}
        depths = {self.input.name: 0}
        for node in self.nodes:
            arrivals = {
                synapse.name: depths[synapse.source] + synapse.delay
                for synapse in self.incoming(node.name)
                if order[synapse.source] < order[node.name]
            }
            _require(bool(arrivals), f"node {node.name!r}: nothing before it feeds it")
            _require(
                not self.gated or len(set(arrivals.values())) == 1,
                f"node {node.name!r}: paths into it differ in delay ({arrivals}); "
                "lengthen the delay of the short one",
            )
            depths[node.name] = max(arrivals.values())
        return depths

    def _check_sums(self) -> None:
        for node in self.nodes:
            bound = self.input_bound(node.name)
            _require(
                isinstance(node, Readout)
                or node.overflow != "proved"
                or bound <= fixed.INPUT_LIMIT,
                f"node {node.name!r}: its weights' sums reach {bound}, beyond the "
                f"{fixed.INPUT_LIMIT} that 24 bits hold; quantize with a larger scale",
            )
            widest = fixed.STATE_RAIL if isinstance(node, Readout) else fixed.READOUT_RAIL
            _require(
                bound <= widest,
                f"node {node.name!r}: its weights' sums reach {bound}, which no engine carries "
                f"exactly (at most {widest}); use a larger scale or a smaller weight_exp",
            )
            if isinstance(node, Readout) and self.num_steps is not None:
                total = self.num_steps * (bound + int(np.abs(node.bias).max()))
                _require(
                    total <= fixed.READOUT_RAIL,
                    f"readout {node.name!r}: {self.num_steps} steps may reach {total}, beyond "
                    "32 bits; use fewer steps or a larger scale",
                )


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
