"""The estimate against sums written out by hand, and its bounds."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec, Constant, EventCosts
from spikeship.hw_models.counts import CountError, EventCounts, count_events
from spikeship.hw_models.energy import estimate
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Neuron, Readout

KEYS = {
    "chip", "num_steps", "chip_steps", "inferences", "synops", "spikes", "neuron_updates",
    "cycles_per_step", "latency_s", "energy_j", "cores", "fits", "layers", "assumptions",
}  # fmt: skip


def network(hidden: int = 4) -> FixedGraph:
    weight = np.zeros((hidden, 3), dtype=np.int16)
    weight[:, :2] = 1
    return FixedGraph(
        Input("input", (3,), signed=False),
        (Neuron("h", (hidden,), np.array(1)), Readout("out", (2,))),
        (
            Dense(name="f1", source="input", target="h", weight=weight),
            Dense(name="f2", source="h", target="out", weight=np.ones((2, hidden), dtype=np.int16)),
        ),
    )


def counted(graph: FixedGraph, rate: float = 1.0, images: int = 2, steps: int = 3) -> EventCounts:
    rng = np.random.default_rng(1)
    hidden = graph.nodes[0].shape[0]
    spikes = np.zeros((images, steps + 2, hidden), dtype=np.int16)
    spikes[:, 1 : 1 + steps] = rng.random((images, steps, hidden)) < rate
    return count_events(graph, {"h": spikes}, (rng.random((images, steps, 3)) < rate).astype(int))


def fixed_costs(synop: float, update: float, out: float, sent: float, got: float) -> EventCosts:
    return EventCosts(
        *(Constant(v, v, v, "", "test", "assumed") for v in (synop, update, out, sent, got))
    )


def round_numbers(chip: ChipSpec, cores: int) -> ChipSpec:
    """Costs whose sums can be done in the head, and cores of ``cores`` compartments."""
    one = Constant(1.0, 0.5, 2.0, "W", "test", "assumed")
    barrier = Constant(1000.0, 1000.0, 1000.0, "s", "test", "assumed")
    return replace(
        chip,
        energy=fixed_costs(1, 100, 10_000, 1_000_000, 0),
        time=fixed_costs(1, 10, 100, 5, 7),
        barriers=((8, barrier),),
        static_power=one,
        compartments_per_core=replace(chip.compartments_per_core, value=cores),
    )


def test_by_hand() -> None:
    graph = network(4)
    chip = round_numbers(chips.get("loihi1"), 4)  # soft reset: 2 neurons a core
    found = estimate(graph, counted(graph, images=2, steps=3), chip)
    # all fire, T = 3, D = 2. h on 2 cores: 3 steps of 12 operations, 8 compartments, 4 spikes sent
    # to 1 core, 3 messages received by both cores. out: 3 steps of 8 operations, 2 updates, 4 in.
    h, out = found.layers
    assert (h["cores"], out["cores"], found.placement.cores) == (2, 1, 3)
    assert h["energy_j"] == 3 * (12 + 8 * 100 + 4 * 10_000 + 4 * 1_000_000)
    assert out["energy_j"] == 3 * (8 + 2 * 100)
    busy_h = (12 + 8 * 10 + 4 * 100 + 4 * 5) / 2 + 3 * 7
    busy_out = 8 + 2 * 10 + 4 * 7
    # chip steps 0..4: nothing, h, h and out, h and out, out
    assert found.latency_s == 3 * busy_h + busy_out + 5 * 1000
    assert found.energy.dynamic == h["energy_j"] + out["energy_j"]
    assert found.energy.static == found.latency_s
    slots_h, slots_out = (12 + 8 + 4) / 2, 8 + 2
    assert found.cycles_per_step == (3 * slots_h + slots_out) / 5
    assert (h["cycles_per_step"], h["cycles_per_step_max"]) == (3 * slots_h / 5, slots_h)
    # only effective operations in the low bound: 8 of the 12
    low_latency = found.latency_s - 3 * 4 / 2
    assert found.energy.low == pytest.approx(found.energy.dynamic - 3 * 4 + 0.5 * low_latency)
    assert found.energy.high == pytest.approx(found.energy.dynamic + 2 * found.latency_s)


def test_every_chip_draws_static_power_and_every_reader_gets_the_spike() -> None:
    graph = network(8)
    chip = round_numbers(chips.get("loihi1"), 2)  # h: one neuron a core; out: both on one
    small = replace(chip, cores_per_chip=replace(chip.cores_per_chip, value=3))
    counts = counted(graph)
    one, three = estimate(graph, counts, chip), estimate(graph, counts, small)
    assert (one.placement.cores, one.placement.chips, three.placement.chips) == (9, 1, 3)
    assert three.energy.static == 3 * one.energy.static
    for bound, watts in (("low", 0.5), ("high", 2.0)):
        gained = getattr(three.energy, bound) - getattr(one.energy, bound)
        latency = one.latency_s - (3 * 8 / 8 if bound == "low" else 0)  # the zero weights
        assert gained == pytest.approx(2 * watts * latency)
    # a core that holds one output's 8 weights of 8 bits: two readout cores get every spike
    tight = replace(chip, synaptic_memory=replace(chip.synaptic_memory, value=8 * 8))
    both = estimate(graph, counts, tight)
    assert both.layers[1]["cores"] == 2
    spikes = 3 * 8
    assert both.layers[0]["energy_j"] - one.layers[0]["energy_j"] == spikes * 1_000_000


def test_json_is_the_contract() -> None:
    graph = network()
    found = estimate(graph, counted(graph, 0.5), chips.get("loihi2"))
    told = found.to_json()
    assert set(told) == KEYS
    assert set(told["synops"]) == {"effective", "connected", "dense"}
    assert set(told["energy_j"]) == {"dynamic", "static", "low", "high"}
    assert json.loads(json.dumps(told)) == told
    assert (told["num_steps"], told["chip_steps"], told["inferences"]) == (3, 5, 2)
    assert told["neuron_updates"] == 3 * (4 + 2)
    assert told["synops"]["effective"] <= told["synops"]["connected"] <= told["synops"]["dense"]
    assert sum(row["synops_connected"] for row in told["layers"]) == told["synops"]["connected"]
    assert sum(row["energy_j"] for row in told["layers"]) == pytest.approx(
        told["energy_j"]["dynamic"]
    )
    assert found.kind == "estimated" and told["assumptions"][0].startswith("estimated")


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.integers(1, 60), st.sampled_from(["loihi1", "loihi2"]))
def test_low_and_high_bound_the_sum(rate: float, hidden: int, chip: str) -> None:
    graph = network(hidden)
    energy = estimate(graph, counted(graph, rate), chips.get(chip)).energy
    assert 0 < energy.low < energy.dynamic + energy.static
    # Loihi 1's static figure is the largest published, so only events widen its upper end
    assert energy.dynamic + energy.static < energy.high


def test_more_spikes_cost_more() -> None:
    graph = network(50)
    few, many = (estimate(graph, counted(graph, rate), chips.get("loihi1")) for rate in (0.1, 0.9))
    assert few.energy.dynamic < many.energy.dynamic and few.latency_s < many.latency_s


def test_barrier_follows_the_cores() -> None:
    loihi1 = chips.get("loihi1")
    assert [loihi1.barrier(cores).value for cores in (4, 5, 16, 17, 128, 500)] == pytest.approx(
        [0.6e-6, 1.0e-6, 1.4e-6, 1.8e-6, 1.8e-6, 1.8e-6]
    )


def test_what_does_not_fit_is_in_the_json() -> None:
    weight = np.ones((2, 128 * 1024 + 1), dtype=np.int16)
    fc = Dense(name="fc", source="input", target="out", weight=weight)
    graph = FixedGraph(
        Input("input", (weight.shape[1],), signed=False), (Readout("out", (2,)),), (fc,)
    )
    counts = count_events(graph, {}, np.ones((1, 1, weight.shape[1]), dtype=np.int8))
    told = estimate(graph, counts, chips.get("loihi2")).to_json()
    assert told["fits"] is False
    assert "layer 'out' does not fit loihi2" in told["assumptions"][-1]


def test_counts_of_another_graph_are_refused() -> None:
    graph = network()
    counts = counted(graph)
    other = replace(counts, layers=counts.layers[:1])
    with pytest.raises(CountError, match="not of this graph"):
        estimate(graph, other, chips.get("loihi1"))


@pytest.mark.parametrize("name", list(chips.CHIPS))
def test_every_constant_has_source_and_range(name: str) -> None:
    chip = chips.get(name)
    constants = [getattr(c, f.name) for c in (chip.energy, chip.time) for f in fields(EventCosts)]
    constants += [chip.static_power, *(constant for _, constant in chip.barriers)]
    assert all(c.source and c.low <= c.value <= c.high for c in constants)
    assert any(c.low < c.high for c in constants)
    limits = [getattr(chip, f.name) for f in fields(chip) if f.type == "Limit"]
    assert all(limit.source and limit.value > 0 for limit in limits)


def test_loihi2_energies_are_marked_estimated() -> None:
    loihi2 = chips.get("loihi2")
    for field in fields(EventCosts):
        constant = getattr(loihi2.energy, field.name)
        assert constant.kind == "assumed" and constant.source.startswith("estimated")
    graph = network()
    told = estimate(graph, counted(graph), loihi2).to_json()
    assert any("no energy per operation of Loihi 2 is public" in a for a in told["assumptions"])


def test_constant_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="must lie in"):
        Constant(3.0, 1.0, 2.0, "J", "nobody", "assumed")
