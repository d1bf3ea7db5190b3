"""Compiled scans over time on CPUs: neurons forward and backward, a block of neurons at a time.

A block's potentials stay in cache while time runs over it; each value of the weighted input is
read once and each result written once. ``scan`` says what is computed, and its plain form there
must give the same. Arrays are (time, neurons) in the order they lie in memory; bfloat16 comes as
its bits in uint16 and is computed with in float32.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, NamedTuple

import llvmlite.ir
import numba
import numpy as np
import torch
from numba.core import types
from numba.extending import intrinsic, overload

BLOCK = 2048
UNITS = 64.0
_TABLE, _TRIANGLE, _ATAN, _SIGMOID = range(4)
# kind of slope, and the one number in its formula
SLOPES: dict[str, tuple[int, float]] = {
    "stdb": (_TABLE, 0.0),
    "linear": (_TRIANGLE, 0.3),
    "triangle": (_TRIANGLE, 1.0),
    "atan": (_ATAN, np.pi),
    "sigmoid": (_SIGMOID, 4.0),
}


@intrinsic
def _to_float(typing: Any, bits: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], llvmlite.ir.FloatType())

    return types.float32(types.uint32), build


@intrinsic
def _to_bits(typing: Any, value: Any) -> Any:
    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], llvmlite.ir.IntType(32))

    return types.uint32(types.float32), build


_bits_to_float: Any = _to_float
_float_to_bits: Any = _to_bits


def _load(value: Any) -> Any:
    raise NotImplementedError  # compiled only


def _rounded(value: Any, like: Any) -> Any:
    raise NotImplementedError  # compiled only


@overload(_load, inline="always")
def _load_of(value: Any) -> Callable[[Any], Any]:
    # the parameters' annotations too must be those above
    if value == types.uint16:

        def widened(value: Any) -> Any:
            return _bits_to_float(np.uint32(value) << np.uint32(16))

        return widened

    def same(value: Any) -> Any:
        return value

    return same


@overload(_rounded, inline="always")
def _rounded_of(value: Any, like: Any) -> Callable[[Any, Any], Any]:
    if like == types.uint16:

        def nearest_even(value: Any, like: Any) -> Any:
            bits = _float_to_bits(np.float32(value))
            return np.uint16(
                (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
                >> np.uint32(16)
            )

        return nearest_even

    def same(value: Any, like: Any) -> Any:
        return value

    return same


class Neurons(NamedTuple):
    """A population: one value a neuron, in V's type, and its rule.

    ``hard``: a spike sets V to 0. ``offset``: V must lie above theta by this.
    """

    theta: Any
    leak: Any
    v0: Any
    hard: bool
    offset: Any


class Sent(NamedTuple):
    """What forward writes; arrays of no size are not written."""

    spikes: Any
    fired: Any
    potentials: Any


class Slope(NamedTuple):
    """The surrogate: its kind, the number in its formula, or its values by steps since a spike."""

    kind: int
    constant: Any
    table: Any


class Pool(NamedTuple):
    """The pool behind a population: each neuron's window (of no size: none), windows a sample."""

    places: Any
    windows: int
    share: Any


class Gradients(NamedTuple):
    """What backward writes: of V, and where they are learnt of theta and leak (else of no size)."""

    result: Any
    theta: Any
    leak: Any


@numba.njit(nogil=True, inline="always", error_model="numpy")
def _decay(v: Any, leak: Any, count: int, integers: bool) -> None:
    """Let V leak; in integers as Lava does."""
    if integers:
        for i in range(count):
            # in float64: 23 bits of potential times 12 of leak
            kept = np.trunc(np.float64(leak[i]) * np.float64(v[i]) * UNITS)
            v[i] = kept / UNITS
    else:
        for i in range(count):
            v[i] *= leak[i]


@numba.njit(nogil=True, inline="always", error_model="numpy")
def _write(
    spikes: Any,
    fired: Any,
    potentials: Any,
    t: int,
    first: int,
    count: int,
    v: Any,
    theta: Any,
    offset: Any,
) -> None:
    """Write a step's potentials and spikes where they are wanted."""
    zero = theta[0] - theta[0]
    if potentials.size > 0:
        for i in range(count):
            potentials[t, first + i] = v[i]
    if fired.size > 0:
        for i in range(count):
            fired[t, first + i] = v[i] > theta[i] + offset
    if spikes.size > 0:
        out = spikes[t, first : first + count]
        for i in range(count):
            out[i] = _rounded(zero + (v[i] > theta[i] + offset), out[i])


@numba.njit(nogil=True, inline="always", error_model="numpy")
def _reset(v: Any, theta: Any, count: int, hard: bool, offset: Any) -> None:
    """Let spikes take theta off V, or set it to 0."""
    zero = theta[0] - theta[0]
    for i in range(count):
        fires = v[i] > theta[i] + offset
        if hard:
            v[i] = zero if fires else v[i]
        else:
            v[i] = v[i] - theta[i] if fires else v[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _forward(
    begin: int, end: int, weighted: Any, neurons: Neurons, integers: bool, rail: Any, sent: Sent
) -> None:
    # arrays are taken out of their tuples here: within a loop each look counts a reference
    steps, population = weighted.shape[0], neurons.theta.size
    every_theta, every_leak, every_v0, hard, offset = neurons
    spikes, fired, potentials = sent
    v = np.empty(BLOCK, every_theta.dtype)
    theta = np.empty(BLOCK, every_theta.dtype)
    leak = np.empty(BLOCK, every_theta.dtype)
    for first in range(begin, end, BLOCK):
        count = min(BLOCK, end - first)
        for i in range(count):
            theta[i] = every_theta[(first + i) % population]
            leak[i] = every_leak[(first + i) % population]
            v[i] = every_v0[(first + i) % population]
        leaky = False
        for i in range(count):
            leaky |= leak[i] != 1
        for t in range(steps):
            if leaky:
                _decay(v, leak, count, integers)
            row = weighted[t, first : first + count]
            for i in range(count):
                v[i] += _load(row[i])
            if integers:
                for i in range(count):
                    v[i] = min(max(v[i], -rail), rail)
            _write(spikes, fired, potentials, t, first, count, v, theta, offset)
            _reset(v, theta, count, hard, offset)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _pool(begin: int, end: int, fired: Any, side: int, one: Any, out: Any) -> None:
    samples, rows, columns, channels = out.shape
    total = np.empty(channels, np.uint16)
    for sample in range(begin, end):
        for row in range(rows):
            for column in range(columns):
                total[:] = 0
                for down in range(side):
                    for right in range(side):
                        spikes = fired[sample, row * side + down, column * side + right]
                        for c in range(channels):
                            total[c] += spikes[c]
                means = out[sample, row, column]
                for c in range(channels):
                    means[c] = _rounded(one * total[c] / (side * side), means[c])


@numba.njit(nogil=True, inline="always", error_model="numpy")
def _slope(kind: Any, constant: Any, z: Any) -> Any:
    one = z - z + np.float32(1)
    if kind == _ATAN:
        x = constant * z
        return one / (one + x * x)
    if kind == _SIGMOID:
        fire = one / (one + np.exp(-constant * z))
        return constant * fire * (one - fire)
    return constant * max(one - abs(z), one - one)


# in one piece: cut into inlined functions it took an eighth longer
@numba.njit(cache=True, nogil=True, error_model="numpy")
def _backward(  # noqa: C901
    begin: int,
    end: int,
    grad: Any,
    neurons: Neurons,
    attached: bool,
    slope: Slope,
    fired: Any,
    potentials: Any,
    pool: Pool,
    gradients: Gradients,
) -> None:
    theta, leak, v0, hard, offset = neurons
    kind, constant, table = slope
    places, windows, share = pool
    result, grad_theta, grad_leak = gradients
    steps, population = grad.shape[0], theta.size
    learns_theta, learns_leak = grad_theta.size > 0, grad_leak.size > 0
    learns = learns_theta or learns_leak
    keeps, pooled = potentials.size > 0, places.size > 0
    zero = theta[0] - theta[0]
    one = zero + np.float32(1)
    slopes = np.empty((steps, BLOCK), theta.dtype)
    last = np.empty(BLOCK, np.int32)
    carried = np.empty(BLOCK, theta.dtype)
    local_theta = np.empty(BLOCK, theta.dtype)
    local_leak = np.empty(BLOCK, theta.dtype)
    local_v0 = np.empty(BLOCK, theta.dtype)
    sum_theta = np.empty(BLOCK, theta.dtype)
    sum_leak = np.empty(BLOCK, theta.dtype)
    received = np.empty(BLOCK, theta.dtype)
    local_places = np.empty(BLOCK, np.int64)
    never = table.size - steps
    for first in range(begin, end, BLOCK):
        count = min(BLOCK, end - first)
        for i in range(count):
            local_theta[i] = theta[(first + i) % population]
            local_leak[i] = leak[(first + i) % population]
            local_v0[i] = v0[(first + i) % population]
            carried[i] = zero
            last[i] = -never
            sum_theta[i] = zero
            sum_leak[i] = zero
        if pooled:
            for i in range(count):
                sample, neuron = divmod(first + i, population)
                local_places[i] = sample * windows + places[neuron]
        # ds/dV at every step, forward in time where it depends on the spikes before
        for t in range(steps):
            if kind == _TABLE and keeps:
                for i in range(count):
                    slopes[t, i] = table[t - last[i]]
                    fires = potentials[t, first + i] > local_theta[i] + offset
                    last[i] = t if fires else last[i]
            elif kind == _TABLE:
                for i in range(count):
                    slopes[t, i] = table[t - last[i]]
                    last[i] = t if fired[t, first + i] else last[i]
            else:
                for i in range(count):
                    z = potentials[t, first + i] / local_theta[i] - one
                    slopes[t, i] = _slope(kind, constant, z)
        for t in range(steps - 1, -1, -1):
            row = grad[t]
            if pooled:
                for i in range(count):
                    received[i] = share * _load(row[local_places[i]])
            else:
                for i in range(count):
                    received[i] = _load(row[first + i])
            out = result[t, first : first + count]
            if not attached and not hard and not learns:
                for i in range(count):
                    value = slopes[t, i] * received[i] / local_theta[i] + carried[i]
                    out[i] = _rounded(value, out[i])
                    carried[i] = local_leak[i] * value
                continue
            for i in range(count):
                if keeps:
                    v = potentials[t, first + i]
                    fires = v > local_theta[i] + offset
                else:
                    v = zero
                    fires = fired[t, first + i] != 0
                if attached:
                    received[i] -= (v if hard else local_theta[i]) * carried[i]
                through = slopes[t, i] * received[i] / local_theta[i]
                value = through + (zero if hard and fires else carried[i])
                if learns:
                    sum_theta[i] -= through * v / local_theta[i]
                    if fires and not hard:
                        sum_theta[i] -= carried[i]
                    if t > 0:
                        u = potentials[t - 1, first + i]
                        if u > local_theta[i] + offset:
                            u = zero if hard else u - local_theta[i]
                    else:
                        u = local_v0[i]
                    sum_leak[i] += value * u
                out[i] = _rounded(value, out[i])
                carried[i] = local_leak[i] * value
        if learns_theta:
            for i in range(count):
                grad_theta[first + i] = sum_theta[i]
        if learns_leak:
            for i in range(count):
                grad_leak[first + i] = sum_leak[i]


@cache
def _threads(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="spikeship-scan")


def _spread(kernel: Callable[..., None], count: int, grain: int, *arguments: Any) -> None:
    """Run a kernel over ``count`` places on as many threads as torch uses, ``grain`` at least."""
    grains = -(-count // grain)
    threads = min(torch.get_num_threads(), grains)
    if threads == 1:
        kernel(0, count, *arguments)
        return
    edges = [min(count, grains * part // threads * grain) for part in range(threads + 1)]
    parts = [
        _threads(threads).submit(kernel, begin, end, *arguments)
        for begin, end in zip(edges, edges[1:], strict=False)
    ]
    for part in parts:
        part.result()


def forward(weighted: Any, *arguments: Any) -> None:
    """Scan forward; see ``_forward`` for the arguments, arrays of no size are not written."""
    _spread(_forward, weighted.shape[1], BLOCK, weighted, *arguments)


def pool(fired: Any, side: int, one: Any, out: Any) -> None:
    """Average spikes (samples, height, width, channels) over squares; ``one`` is 1 in V's type."""
    _spread(_pool, len(fired), 1, fired, side, one, out)


def backward(neurons: int, grad: Any, *arguments: Any) -> None:
    """Scan backward; see ``_backward``. Where ``places`` says each neuron's, grad is a pool's."""
    _spread(_backward, neurons, BLOCK, grad, *arguments)
