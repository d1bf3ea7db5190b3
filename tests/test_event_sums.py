"""Event-driven sums: events are listed once each, taps land where they must, 16 bits suffice."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikeship.hw_models.graph import Conv, Dense, Sparse
from spikeship.hw_models.simulator.sums import event_kernels as kernels
from spikeship.hw_models.simulator.sums.event_sums import Events, EventSums
from spikeship.hw_models.simulator.sums.weight_bounds import WeightBounds

Array = npt.NDArray[Any]


@given(
    rows=st.integers(1, 5),
    inputs=st.integers(1, 40),
    rate=st.sampled_from([0.0, 0.02, 0.3, 1.0]),
    dtype=st.sampled_from([np.uint8, np.int8, np.int16, np.int32]),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_message_is_listed_once(
    rows: int, inputs: int, rate: float, dtype: Any, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    limits = np.iinfo(dtype)
    messages = rng.integers(limits.min, limits.max, (rows, inputs), endpoint=True, dtype=dtype)
    messages *= rng.random(messages.shape) < rate
    events = Events(messages)
    assert events.start[0] == 0 and events.start[-1] == np.count_nonzero(messages)
    for row in range(rows):
        part = slice(*events.start[row : row + 2])
        (where,) = np.nonzero(messages[row])
        assert np.array_equal(events.index[part], where)
        assert np.array_equal(events.value[part], messages[row, where])


@given(
    side=st.integers(1, 9),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 5),
    dilation=st.integers(1, 3),
    longest=st.integers(1, 5),
)
def test_an_axis_holds_every_tap_once(
    side: int, kernel: int, stride: int, padding: int, dilation: int, longest: int
) -> None:
    out = max(0, (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
    table = kernels.axis(side, out, kernel, stride, padding, dilation, longest)
    found = sorted(
        (position, int(table.target[run]) + i, kernel - 1 - (int(table.tap[run]) + i))
        for position in range(side)
        for run in range(table.start[position], table.start[position + 1])
        for i in range(table.length[run])
    )
    expected = sorted(
        (position, target, tap)
        for position in range(side)
        for target in range(out)
        for tap in range(kernel)
        if target * stride - padding + tap * dilation == position
    )
    assert found == expected
    assert table.length.size == 0 or table.length.max() <= longest


def test_neighbouring_taps_are_one_run() -> None:
    table = kernels.axis(8, 8, 3, 1, 1, 1, longest=3)
    assert table.length.tolist() == [2, 3, 3, 3, 3, 3, 3, 2]


def _conv(weight: Array, **options: Any) -> Conv:
    return Conv(name="c", source="a", target="b", weight=weight, **options)


def _ready(synapse: Conv | Dense | Sparse, source: Any, target: Any, signed: bool) -> EventSums:
    sums = EventSums(synapse, source, target, WeightBounds.of(synapse), signed)
    assert sums.prepare()
    return sums


@pytest.mark.parametrize("channels", [127, 128, 129, 257, 258, 400])
@pytest.mark.parametrize("sign", [1, -1])
def test_16_bits_are_left_before_they_overflow(channels: int, sign: int) -> None:
    """255 * 128 is the last sum of such weights that 16 bits hold; -255 * 129 the first beyond."""
    sums = _ready(
        _conv(np.full((1, channels, 1, 1), 255 * sign)), (channels, 1, 1), (1, 1, 1), False
    )
    for count in range(max(0, channels - 3), channels + 1):
        messages = np.zeros((1, 1, 1, channels), np.uint8)
        messages[..., :count] = 1
        assert sums(messages, 1).tolist() == [[255 * sign * count]]


def test_16_bits_serve_rows_whose_own_messages_fit() -> None:
    """The weights alone prove nothing here; what a row holds does, or sends it to 32 bits."""
    rng = np.random.default_rng(0)
    weight = 2 * rng.integers(100, 128, (3, 60, 3, 3)) * rng.choice([-1, 1], (3, 1, 1, 1))
    sums = _ready(_conv(weight, padding=(1, 1)), (60, 6, 6), (3, 6, 6), False)
    assert sums.bounds.sums(1, False) // sums.bounds.step > 2**15
    messages = rng.random((9, 6, 6, 60)) < np.linspace(0, 1, 9)[:, None, None, None]
    padded = np.pad(messages.astype(np.int64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    expected = np.einsum("ryxcij,ocij->ryxo", windows, weight)
    assert np.abs(expected[0]).max() < 2**15 < np.abs(expected[-1]).max() / 2
    assert np.array_equal(sums(messages.astype(np.uint8), 1), expected.reshape(9, -1))
    doubled = sums(2 * messages.astype(np.uint8), 2)
    assert np.array_equal(doubled, 2 * expected.reshape(9, -1))


def test_weights_are_kept_in_8_bits_where_these_hold_them() -> None:
    mixed = _ready(_conv(np.array([-256, 254]).reshape(1, 2, 1, 1)), (2, 1, 1), (1, 1, 1), False)
    odd = _ready(_conv(np.array([1, 255]).reshape(1, 2, 1, 1)), (2, 1, 1), (1, 1, 1), False)
    assert mixed.weights is not None and mixed.weights.dtype == np.int8
    assert odd.weights is not None and odd.weights.dtype == np.int16


@pytest.mark.parametrize("message", [2**23 - 1, 1 - 2**23])
@pytest.mark.parametrize("kind", ["dense", "sparse", "conv"])
def test_graded_messages_take_64_bits(kind: str, message: int) -> None:
    inputs = 40
    synapse: Conv | Dense | Sparse
    if kind == "conv":
        synapse, source = _conv(np.full((1, inputs, 1, 1), 255)), (inputs, 1, 1)
    elif kind == "dense":
        synapse = Dense(name="d", source="a", target="b", weight=np.full((1, inputs), 255))
        source = (inputs,)  # type: ignore[assignment]
    else:
        synapse = Sparse(
            name="s",
            source="a",
            target="b",
            data=np.full(inputs, 255),
            indices=np.arange(inputs),
            indptr=np.array([0, inputs]),
            columns=inputs,
        )
        source = (inputs,)  # type: ignore[assignment]
    target = (1, 1, 1) if kind == "conv" else (1,)
    sums = _ready(synapse, source, target, True)
    shape = (1, 1, 1, inputs) if kind == "conv" else (1, inputs)
    found = sums(np.full(shape, message, np.int32), abs(message))
    assert found.dtype == np.float64 and found.tolist() == [[255 * message * inputs]]


def test_columns_of_a_sparse_matrix_may_come_in_any_order() -> None:
    synapse = Sparse(
        name="s",
        source="a",
        target="b",
        data=np.array([5, 7, -0, 11]),
        indices=np.array([1, 0, 2, 0]),
        indptr=np.array([0, 2, 2, 4]),
        columns=3,
    )
    sums = _ready(synapse, (3,), (3,), True)
    messages = np.array([[1, 1, 0], [0, -1, 1], [0, 0, 0]], np.int8)
    assert sums(messages, 1).tolist() == [[12, 0, 11], [-5, 0, 0], [0, 0, 0]]
