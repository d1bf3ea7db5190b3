"""Break-even of the named models: where their own joules meet, against their own answers."""

from fractions import Fraction

import numpy as np
import pytest

import cases
from spikeship.hw_models.energy_models import MODELS, ModelEnergy, break_even_rate, get
from spikeship.hw_models.energy_models.break_even import scaled, spike_rate
from spikeship.hw_models.events.counts import EventCounts, count_events
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.simulator.simulator import simulate

WITH_ANN = ("horowitz:fp32", "horowitz:fp16", "horowitz:int8", "lemaire", "yan")


def counted(name: str) -> tuple[FixedGraph, EventCounts]:
    graph = cases.graph(name)
    return graph, simulate(graph, cases.messages(graph, 3), strict=False).counts


def at(model: str, graph: FixedGraph, counts: EventCounts, factor: float) -> ModelEnergy:
    near = Fraction(factor).limit_denominator(2**24)
    return get(model).energy(graph, scaled(graph, counts, near))


@pytest.mark.parametrize("name", cases.ZOO)
def test_at_the_break_even_factor_both_cost_the_same(name: str) -> None:
    graph, counts = counted(name)
    for model in WITH_ANN:
        found = get(model).energy(graph, counts)
        even = found.break_even
        silent = at(model, graph, counts, 0)
        assert silent.ann_energy_j == found.ann_energy_j is not None
        if even.factor is None:
            assert even.rate is None and even.why
            costs_more = silent.energy_j > found.ann_energy_j
            assert costs_more == ("costs more" in even.why)
            assert costs_more or silent.energy_j == found.energy_j
            continue
        assert not even.why
        there = at(model, graph, counts, even.factor)
        assert there.energy_j == pytest.approx(found.ann_energy_j, rel=1e-5)
        assert there.spike_rate == pytest.approx(even.rate, rel=1e-5)
        # so who costs less is read off the rates
        assert (found.energy_j > found.ann_energy_j) == (even.factor < 1)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_without_an_ann_has_none(model: str) -> None:
    found = get(model).energy(*counted("conv"))
    told = found.to_json()
    assert (model in WITH_ANN) == (found.ann_energy_j is not None)
    assert told["break_even_rate"] == found.break_even.rate
    assert told["break_even_factor"] == found.break_even.factor
    assert told["break_even_why"] == found.break_even.why
    if model not in WITH_ANN:
        assert found.break_even.factor is None and "no ANN" in found.break_even.why


def test_a_pool_and_direct_input_move_it_to_the_right_side() -> None:
    """Rates over all neurons before a pool, or additions for direct input, would say the other."""
    for name in ("pool_conv", "direct"):
        found = get("horowitz:fp32").energy(*counted(name))
        assert found.ann_energy_j is not None and found.energy_j > 2 * found.ann_energy_j
        even = found.break_even
        assert "costs more" in even.why or (even.factor is not None and even.factor < 1)


def test_yans_own_energy_breaks_even_where_its_formula_says() -> None:
    """All to all, nothing pooled, every neuron at the same rate: what the formula is made for."""
    steps, bits, fan_in, neurons, sent = 4, 6, 64, 32, 8
    weight = np.full((neurons, fan_in), 4)
    fc = Dense(name="fc", source="input", target="n", weight=weight, num_weight_bits=bits)
    graph = FixedGraph(
        Input("input", (fan_in,)), (Neuron("n", (neurons,), vth=np.array(5)),), (fc,), num_steps=4
    )
    given = np.zeros((1, steps, fan_in), np.int8)
    given[:, :, :sent] = 1
    spikes = np.zeros((1, graph.chip_steps(steps), neurons), np.int8)
    spikes[:, graph.depths["n"] : graph.depths["n"] + steps, : sent * neurons // fan_in] = 1
    counts = count_events(graph, {"n": spikes}, given)
    found = get("yan").energy(graph, counts)
    assert found.spike_rate == sent / fan_in
    assert found.break_even.rate == pytest.approx(break_even_rate(steps, bits, fan_in))


def test_the_counted_rate_is_of_neurons_and_steps() -> None:
    graph = FixedGraph(
        Input("input", (2,), "direct", max_message=9),
        (Neuron("n", (3,), vth=np.array(5)), Readout("out", (2,))),
        (
            Dense(name="a", source="input", target="n", weight=np.full((3, 2), 2)),
            Dense(name="b", source="n", target="out", weight=np.full((2, 3), 2)),
        ),
        num_steps=2,
    )
    spikes = np.zeros((2, 4, 3), np.int8)
    spikes[0, 1] = (1, 0, 0)
    spikes[1, 1:3] = (1, 1, 0)
    counts = count_events(graph, {"n": spikes}, np.full((2, 2, 2), 7))
    # 5 spikes of 3 neurons in 2 steps of 2 images; neither the values nor the readout are counted
    assert spike_rate(graph, counts) == 5 / 12
    # the values stay where no neuron fires, and only then do energies without a spike remain
    silent = scaled(graph, counts, Fraction(0))
    assert silent.per_inference()["input_spikes"] == counts.per_inference()["input_spikes"] == 4
    assert [row["synops_connected"] for row in silent.per_inference()["layers"]] == [12, 0]
    twice = scaled(graph, counts, Fraction(5, 2)).per_inference()
    assert twice["spikes"] == 2.5 * counts.per_inference()["spikes"]
    assert twice["neuron_updates"] == counts.per_inference()["neuron_updates"]


def test_values_and_spikes_into_one_node_are_told_apart() -> None:
    graph = FixedGraph(
        Input("input", (2,), "direct", max_message=9),
        (Neuron("n", (2,), vth=np.array(5)), Neuron("m", (4,), vth=np.array(5))),
        (
            Dense(name="a", source="input", target="n", weight=np.full((2, 2), 2)),
            Dense(name="b", source="n", target="m", weight=np.full((4, 2), 2)),
            Dense(name="c", source="input", target="m", weight=np.full((4, 2), 2), delay=2),
        ),
        num_steps=2,
    )
    spikes = np.zeros((1, graph.chip_steps(2), 2), np.int8)
    spikes[0, graph.depths["n"], 0] = 1
    quiet = np.zeros((1, graph.chip_steps(2), 4), np.int8)
    counts = count_events(graph, {"n": spikes, "m": quiet}, np.full((1, 2, 2), 7))
    connected = [row["synops_connected"] for row in counts.per_inference()["layers"]]
    silent = scaled(graph, counts, Fraction(0)).per_inference()["layers"]
    assert connected[1] - silent[1]["synops_connected"] == pytest.approx(4, abs=1)
    assert silent[0]["synops_connected"] == connected[0]
