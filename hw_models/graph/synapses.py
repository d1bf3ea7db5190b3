"""The synapses of a FixedGraph, each checked when it is made.

A synapse is named after the layer its weights came from. Matrices are in torch's order: a source
or target of shape ``(channel, height, width)`` is flattened as ``(c, y, x)``.
"""

from copy import copy
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.graph.checks import Array, Shape, frozen_ints, require, value_range


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Synapse:
    """What carries messages from one node to another.

    Attributes:
        name: name of the layer the weights came from.
        source: name of the node it reads.
        target: name of the node it feeds.
        delay: Lava steps from a message to its arrival, at least 1 (0: an Identity's alone).
        pool: side of the square sum-pool applied to the messages first (1: none).
        weight_exp: power of two applied to the sum (floor for negative exponents).
        num_weight_bits: width of the weights, 1..8; 9 for mixed signs and odd numbers, which
            Lava runs and chips do not hold.
    """

    name: str
    source: str
    target: str
    delay: int = 1
    pool: int = 1
    weight_exp: int = 0
    num_weight_bits: int = 8

    def __repr__(self) -> str:
        way = f"{self.source!r} to {self.target!r}"
        return f"<{type(self).__name__} {self.name!r}, {way}, delay {self.delay}>"

    @property
    def longest(self) -> int:
        """Steps from a message to its last arrival."""
        return self.delay

    def _check_common(self, weights: Any, *, least_delay: int = 1) -> None:
        where = f"synapse {self.name!r}"
        require(
            self.delay >= least_delay,
            f"{where}: delay must be at least {least_delay} step{'s' * (least_delay != 1)}, "
            f"got {self.delay}",
        )
        require(
            self.longest <= fixed.DELAY_MAX,
            f"{where}: a delay of {self.longest} steps is beyond the {fixed.DELAY_MAX} that a "
            "chip holds; add a layer that passes messages on",
        )
        require(self.pool >= 1, f"{where}: pool must be at least 1, got {self.pool}")
        require(-8 <= self.weight_exp <= 7, f"{where}: weight_exp must lie in -8..7")
        require(
            1 <= self.num_weight_bits <= fixed.ODD_WEIGHT_BITS,
            f"{where}: num_weight_bits must lie in 1..{fixed.WEIGHT_BITS}, or be "
            f"{fixed.ODD_WEIGHT_BITS} for odd weights of mixed signs",
        )
        require(
            fixed.fits_weights(weights, self.num_weight_bits),
            f"{where}: weights {value_range(weights)} are not what "
            f"{self.num_weight_bits} bits hold (-256..254 and even where signs are mixed, odd and "
            "up to 255 with 9 bits; 0..255 or -255..0 else); quantize them first",
        )


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
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


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Dense(Synapse):
    """All to all; ``weight`` is (out, in), inputs flattened in torch's order (c, y, x).

    Attributes:
        delays: steps beyond ``delay`` that each weight's message takes, 0..62: an array that
            broadcasts to the weights, (out, 1) for one an output, (1, in) for one an input; None
            for none. What arrives with each delay is summed, and shifted by ``weight_exp``, apart.
    """

    weight: NDArray[np.int16]
    delays: Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "weight", _weights(self.name, self.weight))
        require(self.weight.ndim == 2, f"synapse {self.name!r}: dense weights need 2 axes")
        if self.delays is not None:
            self._check_delays(np.asarray(self.delays))
        self._check_common(self.weight)

    def _check_delays(self, delays: NDArray[Any]) -> None:
        where = f"synapse {self.name!r}"
        require(
            delays.dtype.kind in "iub",
            f"{where}: delays must be integers, got {delays.dtype}; round them first",
        )
        require(
            delays.ndim == 2
            and all(a in (1, b) for a, b in zip(delays.shape, self.weight.shape, strict=True)),
            f"{where}: delays have shape {delays.shape}, which does not fit weights of shape "
            f"{self.weight.shape}; give (out, 1), (1, in) or (out, in)",
        )
        require(
            delays.size == 0
            or (int(delays.min()) >= 0 and int(delays.max()) <= fixed.SYNAPSE_DELAY_MAX),
            f"{where}: delays must lie in 0..{fixed.SYNAPSE_DELAY_MAX}, got {value_range(delays)}",
        )
        object.__setattr__(self, "delays", frozen_ints(delays))

    @property
    def longest(self) -> int:
        """Steps from a message to its last arrival."""
        return self.delay + (0 if self.delays is None else int(self.delays.max(initial=0)))

    def parts(self) -> tuple["Dense", ...]:
        """The synapse as one Dense for each delay that occurs, ``delays`` None in all of them.

        They add up to this synapse; a part's weights are those of its delay, and 0 elsewhere.
        """
        if self.delays is None:
            return (self,)
        return tuple(self._part(int(extra)) for extra in np.unique(self.delays))

    def _part(self, extra: int) -> "Dense":
        # not checked anew: -256 is legal beside positive weights, which a part may have lost
        part = copy(self)
        weight = np.where(self.delays == extra, self.weight, 0).astype(np.int16)
        weight.setflags(write=False)
        for key, value in (("weight", weight), ("delays", None), ("delay", self.delay + extra)):
            object.__setattr__(part, key, value)
        return part


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Sparse(Synapse):
    """A sparse matrix (out, in) in compressed rows, both ends flattened in torch's order.

    A place holds one weight at most: Lava would add up two, and cut the sum to the weights' width.

    Attributes:
        data: weights.
        indices: column of each.
        indptr: where each row starts.
        columns: number of inputs (after the pool).
    """

    data: NDArray[np.int16]
    indices: Array
    indptr: Array
    columns: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", _weights(self.name, self.data))
        for key in ("indices", "indptr"):
            object.__setattr__(self, key, frozen_ints(getattr(self, key)))
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
        self._check_places()
        self._check_common(self.data)

    def _check_places(self) -> None:
        places = np.repeat(np.arange(self.rows), np.diff(self.indptr)) * self.columns + self.indices
        if np.any(places[1:] <= places[:-1]):  # columns out of order are fine, twice the same not
            places.sort()
        twice = places[1:][places[1:] == places[:-1]]
        require(
            twice.size == 0,
            f"synapse {self.name!r}: {len(twice)} weights share their place with another, the "
            f"first at row and column {divmod(int(twice[0]), self.columns) if twice.size else ()}; "
            "merge them into one weight each",
        )

    @property
    def rows(self) -> int:
        """Number of outputs."""
        return len(self.indptr) - 1


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Identity(Synapse):
    """One to one, messages as they are: no weight, pool or exponent.

    With a delay of 0, from an input to a node of its own shape, Lava connects the two directly;
    else it runs as a sparse matrix of ones.
    """

    def __post_init__(self) -> None:
        self._check_common(np.ones((), np.int64), least_delay=0)
        require(
            self.pool == 1 and self.weight_exp == 0 and self.num_weight_bits == 8,
            f"synapse {self.name!r}: an identity takes no pool, weight_exp or num_weight_bits; "
            "make it a sparse synapse of ones",
        )


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


AnySynapse = Conv | Dense | Sparse | Identity


def parts(synapse: AnySynapse) -> tuple[AnySynapse, ...]:
    """The synapse as synapses of one delay each: itself, but for a Dense with delays."""
    return synapse.parts() if isinstance(synapse, Dense) else (synapse,)


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


# a large dense layer takes long to add up, and several checks ask for it
_KNOWN: WeakKeyDictionary[AnySynapse, tuple[Array, Array]] = WeakKeyDictionary()


def weight_sums(synapse: AnySynapse) -> tuple[Array, Array]:
    """Sum of the positive, and of the negative, weights (as magnitudes) into each output row.

    Rows are output neurons, a convolution's its output channels; an identity has one row. The
    arrays are read-only, and remembered as long as the synapse lives.
    """
    if synapse not in _KNOWN:
        sums = _weight_sums(synapse)
        for part in sums:
            part.setflags(write=False)
        _KNOWN[synapse] = sums
    return _KNOWN[synapse]


def _weight_sums(synapse: AnySynapse) -> tuple[Array, Array]:
    if isinstance(synapse, Identity):
        return np.ones(1, np.int64), np.zeros(1, np.int64)
    if isinstance(synapse, Sparse):
        rows = np.repeat(np.arange(synapse.rows), np.diff(synapse.indptr))
        halves = (np.maximum(synapse.data, 0), np.maximum(-synapse.data, 0))
        positive, negative = (
            np.bincount(rows, weights=half, minlength=synapse.rows).astype(np.int64)
            for half in halves
        )
        return positive, negative
    flat = synapse.weight.reshape(len(synapse.weight), -1)
    return (
        np.maximum(flat, 0).sum(axis=1, dtype=np.int64),
        np.maximum(-flat, 0).sum(axis=1, dtype=np.int64),
    )
