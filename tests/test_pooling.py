"""Messages are pooled to sums that their type holds, and weights turned part by part."""

from typing import Any

import numpy as np
import pytest

from spikeship.hw_models.graph import Dense, FixedGraph, Input, Readout
from spikeship.hw_models.graph.layout import permutation
from spikeship.hw_models.simulator.sums import weight_order
from spikeship.hw_models.simulator.sums.pooling import pool


@pytest.mark.parametrize(
    ("dtype", "message", "side", "expected"),
    [
        (np.uint8, 1, 2, np.uint8),
        (np.uint8, 63, 2, np.uint8),
        (np.uint8, 64, 2, np.int32),
        (np.uint8, 28, 3, np.uint8),
        (np.uint8, 255, 3, np.int32),
        (np.int8, -127, 2, np.int32),
        (np.int32, 2**23 - 1, 16, np.int32),
        (np.int32, 1 - 2**23, 17, np.int64),
    ],
)
def test_pooled_messages_fit_their_type(dtype: Any, message: int, side: int, expected: Any) -> None:
    messages = np.full((2, 2 * side, side, 3), message, dtype)
    pooled = pool(messages, side, abs(message) * side**2)
    assert pooled.dtype == expected
    assert np.array_equal(pooled, np.full((2, 2, 1, 3), message * side**2))


@pytest.mark.parametrize("side", [1, 2, 3])
def test_each_square_is_summed(side: int) -> None:
    rng = np.random.default_rng(side)
    messages = rng.integers(0, 2, (3, 2 * side, 4 * side, 5)).astype(np.uint8)
    expected = messages.reshape(3, 2, side, 4, side, 5).sum(axis=(2, 4))
    assert np.array_equal(pool(messages, side, side**2), expected)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("chunk", [1, 30, 10**6])
def test_weights_are_turned_part_by_part(
    monkeypatch: pytest.MonkeyPatch, turned: bool, chunk: int
) -> None:
    monkeypatch.setattr(weight_order, "CHUNK", chunk)
    source, target = (3, 2, 2), (2, 5, 3)
    weight = np.random.default_rng(0).integers(-128, 128, (30, 12)).astype(np.int16)
    expected = weight[permutation(target)][:, permutation(source)] * 2
    found = weight_order.in_order(
        weight, source, target, lambda part: part * 2, np.int32, turned=turned
    )
    assert found.dtype == np.int32 and found.flags.c_contiguous
    assert np.array_equal(found, expected.T if turned else expected)


def test_a_pooled_message_may_be_as_large_as_its_whole_square() -> None:
    """Nine messages of at most 5 make 45, and weights of 2 and -4 then at most 6 times that."""
    synapse = Dense(
        name="fc", source="input", target="out", weight=np.array([[2, -4]]), pool=3, delay=2
    )
    source = Input("input", (1, 3, 6), "spikes", max_message=5)
    graph = FixedGraph(source, (Readout("out", (1,)),), (synapse,))
    assert graph.max_message(synapse) == 45
    assert graph.input_bound("out") == 6 * 45
