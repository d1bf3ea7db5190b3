"""Compiled kernels that add up weights message by message, skipping the zeros.

A row's messages are a list of events: flat position (channels last) and value. Accumulators are
integers of 16, 32 or 64 bits. They wrap around, which is exact as long as the final sum fits:
whoever calls sees to that.

Inner loops are inlined, because slices that are passed to a function are counted references, which
costs more than a short loop.
"""

from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
WORD = 8  # bytes looked at together


class Axis(NamedTuple):
    """Where a message lands along one axis of a convolution.

    For position p, entries ``start[p]`` to ``start[p + 1]`` are runs of neighbouring targets:
    ``target`` the first, ``tap`` the kernel's tap (counted from its end) that leads there, and
    ``length`` how many targets follow each other, their taps likewise (1 along the rows).
    """

    start: Ints
    target: Ints
    tap: Ints
    length: Ints


class Geometry(NamedTuple):
    """A convolution's sizes.

    ``channels`` of the source, in ``width`` columns; ``in_group`` and ``out_group`` channels a
    group; ``out_channels`` of the target, in ``out_width`` columns; ``kernel_width`` taps a row.
    """

    channels: int
    width: int
    in_group: int
    out_group: int
    out_channels: int
    out_width: int
    kernel_width: int


def axis(
    side: int, out: int, kernel: int, stride: int, padding: int, dilation: int, longest: int
) -> Axis:
    """Runs of at most ``longest`` of an axis's ``out`` targets, from its ``side`` positions."""
    start, runs = [0], []
    for position in range(side):
        found: list[list[int]] = []
        for tap in range(kernel):  # from the kernel's end, so that targets ascend
            target, rest = divmod(position + padding - (kernel - 1 - tap) * dilation, stride)
            if rest or not 0 <= target < out:
                continue
            first, first_tap, length = found[-1] if found else (-1, -1, longest)
            if length < longest and (first + length, first_tap + length) == (target, tap):
                found[-1][2] += 1
            else:
                found.append([target, tap, 1])
        runs += found
        start.append(len(runs))
    table = np.array(runs, np.int64).reshape(-1, 3)
    columns = (np.ascontiguousarray(table[:, i]) for i in range(3))
    return Axis(np.array(start, np.int64), *columns)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _events_of_row(messages: Any, words: Any, where: Any, index: Any, value: Any) -> Any:
    """List a row's non-zero messages; room for 8 more than there are must be in the lists."""
    found = 0
    if words.size == 0:
        for i in range(messages.size):
            index[found] = i
            value[found] = messages[i]
            found += messages[i] != 0
        return found
    filled = 0
    for i in range(words.size):  # without branches: they would be mispredicted
        where[filled] = i
        filled += words[i] != 0
    for k in range(filled):
        first = where[k] * WORD
        for i in range(first, first + WORD):
            index[found] = i
            value[found] = messages[i]
            found += messages[i] != 0
    return found


@numba.njit(nogil=True, cache=True, error_model="numpy")
def list_events(messages: Any, words: Any, index: Any, value: Any, start: Any) -> None:
    """List the non-zero messages (rows, inputs) of all rows.

    ``words`` are the same in words of 64 bits, or (rows, 0). Filled are ``index`` and ``value``,
    int32, with room for 8 more than there are, and ``start``, int64 (rows + 1,): where each row's
    events start.
    """
    where = np.empty(words.shape[1] + 1, np.int32)
    start[0] = 0
    for row in range(len(messages)):
        begin = start[row]
        found = _events_of_row(messages[row], words[row], where, index[begin:], value[begin:])
        start[row + 1] = begin + found


@numba.njit(nogil=True, inline="always", error_model="numpy")
def _add(total: Any, weights: Any, message: Any) -> None:
    if message == 1:
        for n in range(total.size):
            total[n] += weights[n]
    else:
        for n in range(total.size):
            total[n] += message * weights[n]


@numba.njit(nogil=True, inline="always", error_model="numpy")
def _add_two(total: Any, weights: Any, others: Any, message: Any) -> None:
    if message == 1:
        for n in range(total.size):
            total[n] += weights[n] + others[n]
    else:
        for n in range(total.size):
            total[n] += message * (weights[n] + others[n])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _scatter(
    index: Any, value: Any, weights: Any, geometry: Any, rows: Any, columns: Any, total: Any
) -> None:
    """Add a row's events to ``total``.

    Without groups, two channels of one place that send the same are added together.
    """
    total[:] = 0
    grouped = geometry.out_group != geometry.out_channels
    row_taps = geometry.kernel_width * geometry.out_group
    k = 0
    while k < index.size:
        place = index[k] // geometry.channels
        begin = place * geometry.channels
        end = begin + geometry.channels
        y = place // geometry.width
        x = place - y * geometry.width
        while k < index.size and index[k] < end:
            channel, message = index[k] - begin, value[k]
            k += 1
            pair = not grouped and k < index.size and index[k] < end and value[k] == message
            other = index[k] - begin if pair else channel
            k += pair
            for i in range(rows.start[y], rows.start[y + 1]):
                for j in range(columns.start[x], columns.start[x + 1]):
                    target = rows.target[i] * geometry.out_width + columns.target[j]
                    out = target * geometry.out_channels
                    tap = rows.tap[i] * row_taps + columns.tap[j] * geometry.out_group
                    size, repeats = columns.length[j] * geometry.out_group, 1
                    if grouped:
                        out += channel // geometry.in_group * geometry.out_group
                        size, repeats = geometry.out_group, columns.length[j]
                    for _ in range(repeats):
                        into = total[out : out + size]
                        if pair:
                            first = weights[channel, tap : tap + size]
                            _add_two(into, first, weights[other, tap : tap + size], message)
                        else:
                            _add(into, weights[channel, tap : tap + size], message)
                        out += geometry.out_channels
                        tap += size


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _heaviest(index: Any, value: Any, geometry: Any, rows: Any, columns: Any, weight: Any) -> Any:
    """Largest sum of magnitudes that a row's messages bring to one place of the target."""
    weight[:] = 0
    worst = np.int64(0)
    for k in range(index.size):
        place = index[k] // geometry.channels
        y = place // geometry.width
        x = place - y * geometry.width
        for i in range(rows.start[y], rows.start[y + 1]):
            for j in range(columns.start[x], columns.start[x + 1]):
                target = rows.target[i] * geometry.out_width + columns.target[j]
                for step in range(columns.length[j]):
                    weight[target + step] += abs(np.int64(value[k]))
                    worst = max(worst, weight[target + step])
    return worst


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _store(total: Any, gain: Any, floor: bool, out: Any) -> None:
    for n in range(out.size):
        out[n] = total[n]  # in two statements, so that the product is of out's type
        out[n] *= gain
    if floor:
        for n in range(out.size):
            out[n] = np.floor(out[n])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def convolve(
    index: Any,
    value: Any,
    start: Any,
    weights: Any,
    geometry: Any,
    rows: Any,
    columns: Any,
    narrow_limit: Any,
    narrow: Any,
    wide: Any,
    gain: Any,
    floor: bool,
    out: Any,
) -> None:
    """Write a convolution's sums of events to ``out`` (rows, target neurons), float32 or float64.

    Weights are (channel, taps * outputs of the group). A row is added up in ``narrow`` (int16)
    where no place of the target receives messages whose magnitudes add up to more than
    ``narrow_limit``, or this is -1; else in ``wide`` (int32 or int64). Sums are multiplied by
    ``gain``, of out's type, and rounded down if ``floor``.
    """
    places = np.empty(wide.size // geometry.out_channels, np.int64)
    for row in range(len(out)):
        which, sent = index[start[row] : start[row + 1]], value[start[row] : start[row + 1]]
        fits = narrow_limit < 0
        if narrow_limit > 0:
            fits = _heaviest(which, sent, geometry, rows, columns, places) <= narrow_limit
        if fits:
            _scatter(which, sent, weights, geometry, rows, columns, narrow)
            _store(narrow, gain, floor, out[row])
        else:
            _scatter(which, sent, weights, geometry, rows, columns, wide)
            _store(wide, gain, floor, out[row])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _gather(index: Any, value: Any, weights: Any, total: Any) -> None:
    """Add the weight rows of a row's events; four at a time where all are plain spikes."""
    total[:] = 0
    k, size = 0, index.size
    while k < size:
        if k + 4 <= size and value[k] == value[k + 1] == value[k + 2] == value[k + 3] == 1:
            a, b = weights[index[k]], weights[index[k + 1]]
            c, d = weights[index[k + 2]], weights[index[k + 3]]
            for n in range(total.size):
                total[n] += (a[n] + b[n]) + (c[n] + d[n])
            k += 4
        else:
            _add(total, weights[index[k]], value[k])
            k += 1


@numba.njit(nogil=True, cache=True, error_model="numpy")
def multiply(
    index: Any, value: Any, start: Any, weights: Any, total: Any, gain: Any, floor: bool, out: Any
) -> None:
    """As convolve for a dense synapse; weights (in, out), ``total`` an accumulator of one row."""
    for row in range(len(out)):
        begin, end = start[row], start[row + 1]
        _gather(index[begin:end], value[begin:end], weights, total)
        _store(total, gain, floor, out[row])


@numba.njit(nogil=True, cache=True, error_model="numpy")
def multiply_sparse(
    index: Any,
    value: Any,
    start: Any,
    weights: Any,
    targets: Any,
    first: Any,
    total: Any,
    gain: Any,
    floor: bool,
    out: Any,
) -> None:
    """As multiply in compressed columns: of column c, ``targets`` and weights from first[c] on."""
    for row in range(len(out)):
        total[:] = 0
        for k in range(start[row], start[row + 1]):
            for i in range(first[index[k]], first[index[k] + 1]):
                total[targets[i]] += value[k] * weights[i]
        _store(total, gain, floor, out[row])
