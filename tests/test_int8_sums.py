"""8-bit products: packed once, tried before use, left alone where they are wrong."""

from typing import Any

import numpy as np
import pytest
import torch
from synapse_cases import Array, Case, dense_graph, make_case, weights

from spikeship.hw_models.graph import Conv, Input
from spikeship.hw_models.graph.layout import to_last
from spikeship.hw_models.simulator.sums import int8_product, int8_sums
from spikeship.hw_models.simulator.sums.sums import Sums


@pytest.mark.skipif(int8_product.message_limit() == 0, reason="torch has no 8-bit products here")
def test_8_bit_products_serve_the_networks_we_make() -> None:
    rng = np.random.default_rng(0)
    weight = weights(rng, (-256, 254, 2), (128, 128, 3, 3))
    for source, pool in (((128, 8, 8), 1), ((128, 16, 16), 2)):
        synapse = Conv(
            name="c", source="input", target="out", weight=weight, padding=(1, 1), pool=pool
        )
        case = make_case(synapse, source, (128, 8, 8), (1, False, np.uint8), rng)
        case.check("int8")
    first = Conv(name="c", source="input", target="out", weight=weight[:, :3], padding=(1, 1))
    make_case(first, (3, 8, 8), (128, 8, 8), (1, True, np.int8), rng).check("int8")


@pytest.mark.skipif(int8_product.message_limit() == 0, reason="torch has no 8-bit products here")
@pytest.mark.parametrize("rows", [1, 2, 3, 17, 64])
def test_packed_weights_take_any_number_of_rows(rows: int) -> None:
    rng = np.random.default_rng(1)
    case = make_case(
        Conv(
            name="c",
            source="input",
            target="out",
            weight=weights(rng, (-256, 254, 2), (33, 20, 3, 3)),
            padding=(1, 1),
        ),
        (20, 6, 5),
        (33, 6, 5),
        (1, True, np.int8),
        rng,
    )
    sums = Sums(case.graph, case.synapse, "int8")
    sums(to_last(case.messages, case.shape))
    case.messages = rng.integers(-1, 2, (rows, 20, 6, 5)).astype(np.int8)
    assert np.array_equal(sums(to_last(case.messages, case.shape)), case.expected())


def test_without_8_bit_operators_sums_come_from_floats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8_sums, "message_limit", lambda: 0)
    rng = np.random.default_rng(6)
    graph = dense_graph(weights(rng, (-256, 254, 2), (8, 16)))
    case = Case(graph, graph.synapses[0], rng.integers(0, 2, (5, 16)).astype(np.uint8))
    assert not case.proved("int8")
    case.check(None)


def test_a_synapse_whose_trial_fails_takes_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    graph = dense_graph(weights(rng, (-256, 254, 2), (8, 16)))
    right = int8_product.Int8Product.__call__
    monkeypatch.setattr(
        int8_product.Int8Product, "__call__", lambda self, rows: right(self, rows).add_(1)
    )
    case = Case(graph, graph.synapses[0], rng.integers(0, 2, (5, 16)).astype(np.uint8))
    case.check(None)


def test_8_bit_products_that_saturate_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor that adds pairs of products in 16 bits passes the trial up to 127 only."""

    def saturating(self: Any, messages: torch.Tensor) -> torch.Tensor:
        rows = messages.reshape(len(messages), -1).long()
        pairs = (
            rows[:, None, 0::2] * self.plain[:, 0::2] + rows[:, None, 1::2] * self.plain[:, 1::2]
        )
        return pairs.clamp(-(2**15), 2**15 - 1).sum(2) * self.scales + self.bias

    made = int8_product.Int8Product.__init__

    def keep(self: Any, weight: Array, *rest: Any) -> None:
        made(self, weight, *rest)
        self.plain = torch.from_numpy(weight).long()

    monkeypatch.setattr(int8_product.Int8Product, "__init__", keep)
    monkeypatch.setattr(int8_product.Int8Product, "__call__", saturating)
    generator = np.random.default_rng(0)
    assert int8_product._trial(generator, 127, (64, 70))
    assert not int8_product._trial(generator, 255, (64, 70))


@pytest.mark.skipif(int8_product.message_limit() == 0, reason="torch has no 8-bit products here")
def test_signed_messages_beyond_the_shift_go_elsewhere() -> None:
    """They would wrap around, although the shifted ones above 0 fit."""
    graph = dense_graph(np.array([[2, -4]]), Input("input", (2,), "spikes", max_message=300))
    sums = Sums(graph, graph.synapses[0])
    way = sums.backends["int8"]
    assert isinstance(way, int8_sums.Int8Sums) and way.shift == int8_product.message_limit() // 2
    assert way.proves(way.shift) and not way.proves(way.shift + 1)
    for largest in (way.shift, way.shift + 1, 300):
        messages = np.array([[largest, -largest], [-largest, largest]], np.int16)
        assert sums(messages, bound=largest).tolist() == [[6 * largest], [-6 * largest]]
