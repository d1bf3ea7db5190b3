"""The estimate against sums written out by hand, its bounds, and its JSON."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placements import constant, costs, flat, halves, layer, network, placement

from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec, Constant, EventCosts, Host
from spikeship.hw_models.estimate import Estimate, estimate
from spikeship.hw_models.events.counts import CountError, EventCounts, count_events
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.placement.placement import Placement, PlacementError
from spikeship.hw_models.simulator.early_exit import EarlyExit
from spikeship.hw_models.simulator.simulator import simulate

KEYS = {
    "chip", "num_steps", "chip_steps", "inferences", "synops", "synops_injected", "spikes",
    "neuron_updates", "messages", "cycles_per_step", "latency_s", "latency_range_s",
    "throughput_per_s", "bottleneck", "energy_j", "host", "cores", "chips", "fits", "layers",
    "assumptions",
}  # fmt: skip
COMPONENTS = {"synapse", "neuron", "spike", "hops"}


def counted(graph: FixedGraph, rate: float = 1.0, images: int = 2, steps: int = 3) -> EventCounts:
    rng = np.random.default_rng(1)
    hidden = graph.nodes[0].shape[0]
    spikes = np.zeros((images, steps + 2, hidden), dtype=np.int16)
    spikes[:, 1 : 1 + steps] = rng.random((images, steps, hidden)) < rate
    return count_events(graph, {"h": spikes}, (rng.random((images, steps, 3)) < rate).astype(int))


def round_numbers() -> ChipSpec:
    """Loihi 1 with costs whose sums can be done in the head."""
    return replace(
        chips.get("loihi1"),
        energy=costs(
            synop_dense=1, neuron_update=100, spike_out=10_000, message_out=10**6, hop_x=10**8,
            hop_y=10**9,
        ),
        time=costs(
            synop_dense=1, neuron_update=10, spike_out=100, message_out=5, message_in=7,
            hop_x=1, hop_y=2,
        ),
        barriers=((1, constant(500.0)), (8, constant(1000.0))),
        static_power=constant(1.0, 0.5, 2.0),
        host=None,
    )  # fmt: skip


def three_cores(chip: ChipSpec, hidden: int = 4) -> Placement:
    """The hidden layer's halves at two routers, the readout two hops east and one south."""
    return placement(
        chip,
        layer("h", flat(halves(hidden, 2)), [(0, (0, 0)), (0, (1, 0))], 2),
        layer("out", flat([(0, 2)]), [(0, (2, 1))]),
    )


def by_hand() -> Estimate:
    graph, chip = network(4), round_numbers()
    return estimate(graph, counted(graph), chip, placement=three_cores(chip))


def test_energy_by_hand() -> None:
    """All fire, T = 3, D = 2: the readout gets 4 messages in each of 3 steps, over 2 + 1 ways."""
    found = by_hand()
    parts = {name: one.value for name, one in found.energy.components.items()}
    assert parts == {
        "synapse": 3 * (3 * 4 + 4 * 2),
        "neuron": 3 * (2 * 4 + 2) * 100,  # 2 compartments a hidden neuron
        "spike": 3 * 4 * 10_000,
        "hops": 3 * (4 * 10**6 + (2 * 2 + 2 * 1) * 10**8 + 4 * 10**9),
    }
    assert found.energy.dynamic == sum(parts.values())
    h, out = found.layers
    assert (h["cores"], out["cores"], h["messages_sent"], out["messages_sent"]) == (2, 1, 12, 0)
    assert out["energy_j"] == 3 * (8 + 2 * 100)
    assert h["energy_j"] + out["energy_j"] == found.energy.dynamic


def test_time_by_hand() -> None:
    found = by_hand()
    busy_h = 3 * 2 + 4 * 10 + 2 * 100 + 2 * 5 + 3 * 7  # half of the layer
    busy_out = 8 + 2 * 10 + 4 * 7
    # chip steps 0..4: nothing, h, h and out, h and out, out
    half, out = [0, *[busy_h] * 3, 0], [0, 0, *[busy_out] * 3]
    np.testing.assert_array_equal(found.times.compute, [half, half, out])
    assert found.latency_s == 3 * busy_h + busy_out + 5 * 1000
    assert found.energy.static == found.latency_s
    # a new image every 3 steps: in each of them both layers work
    assert found.throughput_per_s == pytest.approx(1 / (3 * (busy_h + 1000)))
    # a word holds the 8-bit weights of 2 neurons
    slots_h, slots_out = 3 * 1 + 4 + 2, 4 * 1 + 2
    assert found.cycles_per_step == (3 * slots_h + slots_out) / 5
    h = found.layers[0]
    assert (h["cycles_per_step"], h["cycles_per_step_max"]) == (3 * slots_h / 5, slots_h)
    assert found.bottleneck.limit == "barrier"
    assert found.bottleneck.core.layer == "h" and found.bottleneck.layer_steps["h"] >= 3


def test_low_end_skips_zero_weights() -> None:
    """8 of the hidden layer's 12 operations a step meet a weight."""
    found = by_hand()
    low_latency = found.latency_s - 3 * 4 / 2
    assert found.latency_range.low == pytest.approx(low_latency)
    assert found.energy.low == pytest.approx(found.energy.dynamic - 3 * 4 + 0.5 * low_latency)
    assert found.energy.high == pytest.approx(found.energy.dynamic + 2 * found.latency_s)


def test_recorded_traffic_finds_the_busier_half() -> None:
    """The same counts, but only the first half of the hidden layer fires, twice as often."""
    graph, chip = network(4), round_numbers()
    spikes = np.zeros((1, 5, 4), dtype=np.int16)
    spikes[0, 1:4, :2] = 1
    inputs = np.ones((1, 3, 3), dtype=np.int16)
    counts = count_events(graph, {"h": spikes}, inputs)
    traffic = Traffic({"input": np.float32(inputs[0]), "h": np.float32(spikes[0])}, recorded=True)
    where = three_cores(chip)
    real = estimate(graph, counts, chip, traffic=traffic, placement=where)
    even = estimate(graph, counts, chip, placement=where)
    # one core sends 2 spikes a step and not 1: 100 + 5 more in each of 3 steps
    assert real.latency_s - even.latency_s == 3 * 105
    assert real.bottleneck.index == 0
    assert real.work.spikes[1].sum() == 0
    assert any("recorded" in line for line in real.assumptions)
    assert any("spread evenly" in line for line in even.assumptions)


def test_one_more_core_by_hand() -> None:
    """Three cores for four neurons: one still holds two, so nothing is gained, but sends as far."""
    graph = network(4)
    chip = replace(round_numbers(), barriers=((8, constant(0.0)),))
    found = estimate(graph, counted(graph), chip, placement=three_cores(chip))
    assert found.bottleneck.limit == "compute"
    assert found.one_more is not None
    assert (found.one_more.layer, found.one_more.split, found.one_more.cores) == ("h", (3, 1, 1), 1)
    assert found.one_more.seconds == 0
    # from two neurons a core to one: half of all but the messages received
    two = network(2)
    halved = estimate(two, counted(two), chip, placement=placement(
        chip,
        layer("h", flat([(0, 2)]), [(0, (0, 0))], 2),
        layer("out", flat([(0, 2)]), [(0, (0, 0))]),
    ))  # fmt: skip
    assert halved.one_more is not None
    assert halved.one_more.seconds == 3 * (3 * 1 + 2 * 10 + 100 + 5)
    assert halved.to_json()["bottleneck"]["one_more_core_s"] == halved.one_more.seconds
    left_out = estimate(two, counted(two), chip, sensitivity=False)
    assert left_out.one_more is None
    assert left_out.to_json()["bottleneck"]["one_more_core_s"] is None


def test_every_chip_draws_static_power_and_messages_between_chips_take_no_hops() -> None:
    graph, chip = network(4), round_numbers()
    near = estimate(graph, counted(graph), chip, placement=three_cores(chip))
    apart = placement(
        chip,
        layer("h", flat(halves(4, 2)), [(0, (0, 0)), (1, (1, 0))], 2),
        layer("out", flat([(0, 2)]), [(0, (2, 1))]),
    )
    far = estimate(graph, counted(graph), chip, placement=apart)
    assert far.energy.static == 2 * near.energy.static
    messages = far.to_json()["messages"]
    assert messages == {"sent": 12, "hops": 3 * 2 * 3, "between_chips": 6}
    assert near.to_json()["messages"] == {"sent": 12, "hops": 3 * 2 * (3 + 2), "between_chips": 0}
    assert any("chip to chip" in line for line in far.assumptions)
    assert not any("chip to chip" in line for line in near.assumptions)


def test_json_is_the_contract() -> None:
    graph = network()
    found = estimate(graph, counted(graph, 0.5), chips.get("loihi2"))
    told = found.to_json()
    assert set(told) == KEYS
    assert set(told["synops"]) == {"effective", "connected", "dense"}
    assert {"dynamic", "static", "low", "high"} <= set(told["energy_j"])
    assert set(told["energy_j"]["components"]) == COMPONENTS
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
def test_low_and_high_bound_everything(rate: float, hidden: int, chip: str) -> None:
    graph = network(hidden)
    found = estimate(graph, counted(graph, rate), chips.get(chip), sensitivity=False)
    energy = found.energy
    assert 0 < energy.low < energy.dynamic + energy.static < energy.high
    for one in (*energy.components.values(), energy.static_range, found.latency_range):
        assert 0 <= one.low <= one.value <= one.high
    assert found.latency_range.low < found.latency_s < found.latency_range.high
    assert sum(one.value for one in energy.components.values()) == pytest.approx(energy.dynamic)
    assert 0 < energy.static_of_cores <= energy.static


def test_more_spikes_cost_more() -> None:
    graph = network(50)
    few, many = (estimate(graph, counted(graph, rate), chips.get("loihi1")) for rate in (0.1, 0.9))
    assert few.energy.dynamic < many.energy.dynamic and few.latency_s < many.latency_s


def test_operations_are_priced_by_how_their_synapses_are_stored() -> None:
    chip = replace(chips.get("loihi1"), energy=costs(synop_conv=2, synop_dense=3))
    graph = FixedGraph(
        Input("input", (1, 4, 4), signed=False),
        (Neuron("c", (1, 4, 4), np.array(1)), Readout("out", (2,))),
        (
            Conv(name="k", source="input", target="c", weight=np.ones((1, 1, 1, 1), np.int16)),
            Dense(name="f", source="c", target="out", weight=np.ones((2, 16), np.int16)),
        ),
    )
    spikes = np.zeros((1, 3, 1, 4, 4), np.int16)
    spikes[:, 1] = 1
    counts = count_events(graph, {"c": spikes}, np.ones((1, 1, 1, 4, 4), np.int16))
    found = estimate(graph, counts, chip)
    assert found.energy.components["synapse"].value == 16 * 2 + 16 * 2 * 3


def test_an_image_that_stops_early_computes_no_more_neurons() -> None:
    graph = network(4)
    inputs = np.ones((4, 6, 3), np.int8)
    inputs[:2] = 0  # scores of 0 are never decided
    weight = np.array([[1, 1, 1, 1], [0, 0, 0, 0]], np.int16)
    graph = replace(graph, synapses=(graph.synapses[0], replace(graph.synapses[1], weight=weight)))
    found = simulate(graph, inputs, threads=1, early_exit=EarlyExit(margin=1.0))
    assert 0 < found.steps.min() < found.steps.max() == 6
    cost = estimate(graph, found.counts, chips.get("loihi1"))
    for counts, placed in zip(found.counts.layers, cost.placement.layers, strict=True):
        own = cost.work.updates[cost.work.of_layer(counts.name)].sum(axis=0)
        expected = counts.neuron_updates / 4 * placed.compartments
        np.testing.assert_allclose(own, expected, rtol=1e-12)


def direct_input() -> tuple[FixedGraph, EventCounts]:
    graph = network(4)
    source = Input("input", (3,), "direct", max_message=127, signed=True)
    graph = FixedGraph(source, graph.nodes, graph.synapses)
    values = np.tile(np.array([5, 0, -7]), (2, 4, 1))
    spikes = np.zeros((2, 6, 4), np.int16)
    return graph, count_events(graph, {"h": spikes}, values)


def test_direct_input_on_a_chip_without_graded_spikes_is_the_hosts() -> None:
    graph, counts = direct_input()
    found = estimate(graph, counts, chips.get("loihi1"))
    # T = 4: a current for each of 4 neurons in each step, of 2 values' products, made once
    assert (found.host.injected_values, found.host.macs) == (16, pytest.approx(2 * 4))
    assert found.work.synops.sum() == found.work.messages_in.sum() == 0
    assert found.work.updates.sum() == 4 * (4 * 2 + 2)
    graded = estimate(graph, counts, chips.get("loihi2"))
    assert (graded.host.injected_values, graded.host.macs) == (0, 0)
    assert graded.work.synops.sum() == pytest.approx(4 * 2 * 4)


def test_the_host_stands_apart() -> None:
    graph = network()
    counts = counted(graph)
    host = Host(seconds=constant(3.0, 2.0, 5.0), joules=constant(7.0, 6.0, 9.0))
    without = replace(chips.get("loihi1"), host=None)
    bare, hosted = (estimate(graph, counts, replace(without, host=one)) for one in (None, host))
    assert bare.latency_s == hosted.latency_s and bare.energy == hosted.energy
    row = hosted.to_json()["host"]
    assert (row["energy_j"], row["low"], row["high"]) == (7.0, 6.0, 9.0)
    assert (row["latency_s"], row["latency_low_s"], row["latency_high_s"]) == (3.0, 2.0, 5.0)
    nothing = bare.to_json()["host"]
    assert nothing["energy_j"] is None and nothing["latency_s"] is None
    assert "unknown" in nothing["source"]


def test_what_does_not_fit_is_in_the_json() -> None:
    weight = np.ones((2, 128 * 1024 + 1), dtype=np.int16)
    fc = Dense(name="fc", source="input", target="out", weight=weight)
    graph = FixedGraph(
        Input("input", (weight.shape[1],), signed=False), (Readout("out", (2,)),), (fc,)
    )
    counts = count_events(graph, {}, np.ones((1, 1, weight.shape[1]), dtype=np.int8))
    told = estimate(graph, counts, chips.get("loihi2")).to_json()
    assert told["fits"] is False
    assert "'out'" in told["assumptions"][-1] and "does not fit" in told["assumptions"][-1]


def test_counts_placements_and_traffic_of_others_are_refused() -> None:
    graph, chip = network(), chips.get("loihi1")
    counts = counted(graph)
    with pytest.raises(CountError, match="not of this graph"):
        estimate(graph, replace(counts, layers=counts.layers[:1]), chip)
    with pytest.raises(PlacementError, match="for loihi1, not for loihi2"):
        estimate(graph, counts, chips.get("loihi2"), placement=three_cores(chip))
    with pytest.raises(PlacementError, match="not of this graph"):
        estimate(graph, counts, chip, placement=three_cores(chip, hidden=6))
    only = placement(chip, layer("h", flat([(0, 4)]), [(0, (0, 0))]))
    with pytest.raises(PlacementError, match="not of this graph"):
        estimate(graph, counts, chip, placement=only)
    shuffled = three_cores(chip)
    cores = shuffled.layers[0].cores[::-1]
    backwards = (replace(shuffled.layers[0], cores=cores), shuffled.layers[1])
    with pytest.raises(PlacementError, match="'h'"):
        estimate(graph, counts, chip, placement=replace(shuffled, layers=backwards))
    with pytest.raises(CountError, match="T=3"):
        estimate(graph, counts, chip, traffic=Traffic.uniform(graph, 0.5, 4))


@pytest.mark.parametrize("name", list(chips.CHIPS))
def test_every_constant_has_source_and_range(name: str) -> None:
    chip = chips.get(name)
    constants = [getattr(c, f.name) for c in (chip.energy, chip.time) for f in fields(EventCosts)]
    constants += [chip.static_power, *(one for _, one in chip.barriers)]
    assert all(c.source and c.low <= c.value <= c.high for c in constants)
    assert all(c.low < c.high for c in constants if c.value > 0)
    limits = [getattr(chip, f.name) for f in fields(chip) if f.type == "Limit"]
    assert all(limit.source and limit.value > 0 for limit in limits)


def test_loihi2_energies_are_marked_estimated() -> None:
    loihi2 = chips.get("loihi2")
    for field in fields(EventCosts):
        one = getattr(loihi2.energy, field.name)
        assert one.kind == "assumed" and one.source.startswith("estimated")
    graph = network()
    told = estimate(graph, counted(graph), loihi2).to_json()
    assert any("no energy per operation of Loihi 2 is public" in a for a in told["assumptions"])


def test_published_figures_are_the_constants() -> None:
    """The fit's figures are the values, Davies' the low end where it has the event."""
    cost, time = chips.get("loihi1").energy, chips.get("loihi1").time
    kinds = [cost.synop(kind) for kind in ("dense", "sparse", "conv")]
    assert [one.value * 1e12 for one in kinds] == pytest.approx([35.5, 33.6, 24.0])
    assert [one.low * 1e12 for one in kinds] == pytest.approx([23.6] * 3)
    assert [time.synop(kind).value * 1e9 for kind in ("dense", "sparse", "conv")] == (
        pytest.approx([3.8, 4.7, 3.1])
    )
    assert [cost.hop_x.value * 1e12, cost.hop_y.value * 1e12] == pytest.approx([3.0, 4.2])
    assert [cost.hop_x.low * 1e12, cost.hop_y.low * 1e12] == pytest.approx([3.0, 4.0])
    assert [time.hop_x.value * 1e9, time.hop_y.value * 1e9] == pytest.approx([4.1, 6.5])
    later = chips.get("loihi2").time
    candidates = {"synop_dense": 0.76, "neuron_update": 3.0 + 1.85, "spike_out": 3.0}
    for name, nanoseconds in candidates.items():
        assert getattr(later, name).value * 1e9 == pytest.approx(nanoseconds)


def test_barrier_follows_the_tiles() -> None:
    loihi1, loihi2 = chips.get("loihi1"), chips.get("loihi2")
    assert [loihi1.barrier(tiles).value for tiles in (1, 2, 3, 4, 5, 29, 500)] == pytest.approx(
        [0.6e-6, 1.0e-6, 1.4e-6, 1.4e-6, 1.8e-6, 1.8e-6, 1.8e-6]
    )
    for tiles in (1, 400):
        barrier = loihi2.barrier(tiles)
        assert (barrier.low, barrier.high) == pytest.approx((67e-9, 200e-9))


def test_constant_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="must lie in"):
        Constant(3.0, 1.0, 2.0, "J", "nobody", "assumed")


def test_an_ungated_network_takes_the_next_image_when_it_is_done_with_one() -> None:
    """T = 3 and D = 2: 3 steps from image to image where nodes are reset, else all 5."""
    graph, chip = network(4), round_numbers()
    open_graph = replace(graph, gated=False)
    gated, ungated = (
        estimate(each, counted(each), chip, placement=three_cores(chip))
        for each in (graph, open_graph)
    )
    assert (ungated.num_steps, ungated.chip_steps) == (3, 5)
    assert ungated.throughput_per_s == pytest.approx(1 / ungated.latency_s)
    assert gated.throughput_per_s > 1 / gated.latency_s
