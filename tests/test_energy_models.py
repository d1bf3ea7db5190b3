"""Named energy models against numbers worked out by hand, in picojoules."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
from spikeship.hw_models.energy_models import (
    MODELS,
    ModelEnergy,
    all_models,
    break_even_rate,
    get,
    yan,
)
from spikeship.hw_models.energy_models.lemaire_memory import sram_j
from spikeship.hw_models.events.counts import CountError, EventCounts, count_events
from spikeship.hw_models.graph import (
    Conv,
    Dense,
    FixedGraph,
    Identity,
    Input,
    Neuron,
    Readout,
    Sparse,
)
from spikeship.hw_models.simulator.simulator import simulate

PICO = 1e-12
Built = tuple[FixedGraph, EventCounts]


def dense() -> Built:
    """2 inputs, 3 neurons, 2 classes, T = 2; 3 spikes in, 3 spikes out."""
    first = Dense(name="fc0", source="input", target="n", weight=np.array([[2, 0], [2, 2], [4, 2]]))
    second = Dense(name="fc1", source="n", target="out", weight=np.full((2, 3), 2))
    nodes = (Neuron("n", (3,), vth=np.array(5)), Readout("out", (2,)))
    graph = FixedGraph(Input("input", (2,)), nodes, (first, second), num_steps=2)
    spikes = np.zeros((1, 4, 3), np.int8)
    spikes[0, 1], spikes[0, 2] = (1, 0, 0), (1, 1, 0)  # its steps are chip steps 2 and 3
    return graph, count_events(graph, {"n": spikes}, np.array([[[1, 0], [1, 1]]]))


def conv(source: Input | None = None, **neuron: Any) -> Built:
    """A padded 3x3 convolution over 4 x 4, a spike in a corner and one inside, T = 1."""
    synapse = Conv(
        name="conv", source="input", target="n", weight=np.full((2, 1, 3, 3), 2), padding=(1, 1)
    )
    node = Neuron("n", (2, 4, 4), **({"vth": np.array(5)} | neuron))
    image = source or Input("input", (1, 4, 4))
    graph = FixedGraph(image, (node,), (synapse,), num_steps=1)
    messages = np.zeros((1, 1, 1, 4, 4), np.int64)
    messages[0, 0, 0, 0, 0] = messages[0, 0, 0, 1, 2] = image.max_message
    return graph, count_events(graph, {"n": np.zeros((1, 2, 2, 4, 4), np.int8)}, messages)


def picojoules(model: str, built: Built) -> list[dict[str, float]]:
    """Each layer's components."""
    found = get(model).energy(*built)
    return [{k: v / PICO for k, v in layer.components.items()} for layer in found.layers]


def near(**components: float) -> Any:
    return pytest.approx(components, rel=1e-9)


def test_davies_by_hand() -> None:
    n, out = picojoules("davies", dense())
    assert n == near(synapse=9 * 23.6, neuron=6 * 81, spike=3 * 1.7)
    assert out == near(synapse=6 * 23.6, neuron=4 * 81, spike=0)
    found = get("davies").energy(*dense())
    assert found.energy_j == pytest.approx((703.5 + 465.6) * PICO)
    assert found.low == pytest.approx((703.5 + 465.6 - 10 * (81 - 52)) * PICO)
    assert found.high == found.energy_j
    # 3 spikes of 2 inputs, 3 of 3 neurons, in 2 steps
    assert found.spike_rate == pytest.approx(6 / 10)


def test_a_spike_is_sent_to_every_layer_that_reads_it() -> None:
    graph = cases.graph("residual_identity")  # its x feeds both layers of the block
    counts = simulate(graph, cases.messages(graph, 1)).counts
    spikes = counts.layers[0].spikes.sum()
    assert spikes > 0
    assert picojoules("davies", (graph, counts))[0]["spike"] == pytest.approx(spikes * 2 * 1.7)
    assert picojoules("sanafe", (graph, counts))[0]["message"] == pytest.approx(spikes * 2 * 111)


def test_sanafe_by_hand() -> None:
    n, out = picojoules("sanafe", dense())
    assert n == near(synapse=9 * 35.5, neuron=6 * 72.8, spike=3 * 69.3, message=3 * 111)
    assert out == near(synapse=6 * 35.5, neuron=4 * 72.8, spike=0, message=0)
    (only,) = picojoules("sanafe", conv())
    assert only["synapse"] == pytest.approx((8 + 18) * 24.0)


def test_sanafe_shares_out_what_a_block_and_its_skip_bring() -> None:
    graph, counts = _block()
    (layer,) = [row for row in counts.per_inference()["layers"] if row["name"] == "b"]
    found = {row.name: row for row in get("sanafe").energy(graph, counts).layers}
    # messages times mean fan-out: 2 spikes of a over 4 dense synapses, 2 over 1 sparse one
    assert layer["synops_connected"] == 2 * 4 + 2
    assert found["b"].components["synapse"] == pytest.approx((8 * 35.5 + 2 * 33.6) * PICO)


def _block() -> Built:
    four = {"data": np.full(4, 2), "indices": np.arange(4), "indptr": np.arange(5), "columns": 4}
    synapses = (
        Dense(name="in", source="input", target="a", weight=np.full((4, 4), 2)),
        Dense(name="main", source="a", target="b", weight=np.full((4, 4), 2)),
        Sparse(name="skip", source="a", target="b", **four),  # type: ignore[arg-type]
    )
    nodes = tuple(Neuron(name, (4,), vth=np.array(5)) for name in "ab")
    graph = FixedGraph(Input("input", (4,)), nodes, synapses, num_steps=2)
    spikes = np.zeros((1, 4, 4), np.int8)
    spikes[0, 1, :2] = 1
    silent = np.zeros_like(spikes)
    return graph, count_events(graph, {"a": spikes, "b": silent}, np.ones((1, 2, 4), np.int8))


def test_keras_spiking_by_hand() -> None:
    n, out = picojoules("keras-spiking:loihi", dense())
    # 6 connections at 3/2 messages a source; a readout has no neurons to it
    assert n == near(synapse=6 * 1.5 * 27.1, neuron=3 * 2 * 81)
    assert out == near(synapse=6 * 1.0 * 27.1, neuron=0)
    # taps on padding are connections: 32 outputs x 9, 2 messages over 16 sources
    (only,) = picojoules("keras-spiking:spinnaker2", conv())
    assert only == near(synapse=32 * 9 * 2 / 16 * 450, neuron=32 * 2190)


@pytest.mark.parametrize(("device", "each"), [("cpu", 8600), ("gpu", 300), ("arm", 900)])
def test_keras_spiking_computes_everything_once_where_nothing_spikes(
    device: str, each: float
) -> None:
    n, out = picojoules(f"keras-spiking:{device}", dense())
    assert n == near(synapse=6 * each, neuron=3 * each)
    assert out == near(synapse=6 * each, neuron=0)


def test_keras_spiking_takes_direct_input_for_a_rate() -> None:
    image = Input("input", (1, 4, 4), "direct", max_message=100, scale=0.01)
    (only,) = picojoules("keras-spiking:loihi", conv(image))
    assert only["synapse"] == pytest.approx(32 * 9 * 2 / 16 * (100 * 0.01 * 1e-3) * 27.1)


@pytest.mark.parametrize(
    ("number", "mac", "ac"), [("fp32", 4.6, 0.9), ("fp16", 1.5, 0.4), ("int8", 0.23, 0.03)]
)
def test_horowitz_by_hand(number: str, mac: float, ac: float) -> None:
    assert picojoules(f"horowitz:{number}", dense()) == [
        near(MAC=0, AC=9 * ac),
        near(MAC=0, AC=6 * ac),
    ]
    found = get(f"horowitz:{number}").energy(*dense())
    assert found.ann_energy_j == pytest.approx(12 * mac * PICO)
    assert found.low is None and found.high is None


def test_horowitz_counts_direct_input_as_macs() -> None:
    image = Input("input", (1, 4, 4), "direct", max_message=100)
    assert picojoules("horowitz:fp32", conv(image)) == [near(MAC=26 * 4.6, AC=0)]
    # 100 existing taps a channel in a padded 4 x 4
    assert get("horowitz:fp32").energy(*conv()).ann_energy_j == pytest.approx(200 * 4.6 * PICO)


def test_a_pool_before_a_layer_makes_the_anns_macs_fewer() -> None:
    pooled = cases.graph("pool_conv")
    counts = simulate(pooled, cases.messages(pooled, 1)).counts
    first = get("horowitz:fp32").energy(pooled, counts).layers[0]
    whole = counts.layers[0].dense / counts.num_steps
    assert first.ann_energy_j == pytest.approx(whole / 4 * 4.6 * PICO)


def sram(words: int) -> float:
    """Pj an access: the least-squares line through 8 KiB 10, 32 KiB 20 and 1 MiB 100."""
    return 8.2816e-5 * 4 * words + 13.2563


def test_lemaire_by_hand_dense() -> None:
    n, out = picojoules("lemaire", dense())
    assert n == pytest.approx(
        {
            "operations": (9 + 6 + 3) * 0.1,
            "addressing": 9 * 0.1,
            "weights": 9 * sram(6),
            "potentials": (2 * 9 + 2 * 6) * sram(3),
            "messages": (3 + 3) * sram(1000),
        },
        rel=1e-5,
    )
    assert out["operations"] == pytest.approx((6 + 4) * 0.1)
    rows = get("lemaire").energy(*dense()).layers
    ann = 6 * 3.2 + 3 * 0.1 + 6 * 0.1 + 6 * sram(6) + 2 * sram(2) + 3 * sram(3)
    assert rows[0].ann_energy_j == pytest.approx(ann * PICO, rel=1e-5)


def test_lemaire_by_hand_convolution_with_leak_and_bias() -> None:
    (n,) = picojoules("lemaire", conv(dv=100, bias_mant=np.array(7)))
    taps = 2 * 2 * 9  # two spikes, two channels, nine taps each, on padding too
    assert n == pytest.approx(
        {
            "operations": (taps + 32) * 0.1 + 32 * 3.2,
            "addressing": taps * 0.1 + 2 * 2 * 3.2,
            "weights": taps * sram(18) + 32 * sram(2),
            "potentials": 2 * (taps + 32) * sram(32),
            "messages": 2 * sram(1000),
        },
        rel=1e-5,
    )
    (row,) = get("lemaire").energy(*conv()).layers
    macs = 32 * 9
    ann = macs * 3.2 + 32 * 0.1 + (16 + 32 + 18) * 0.1
    ann += macs * sram(18) + macs * sram(16) + 32 * sram(32)
    assert row.ann_energy_j == pytest.approx(ann * PICO, rel=1e-5)


def test_lemaire_divides_additions_by_strides_and_channels_by_groups() -> None:
    synapse = Conv(
        name="conv",
        source="input",
        target="n",
        weight=np.full((4, 1, 3, 3), 2),
        stride=(2, 2),
        padding=(1, 1),
        groups=2,
    )
    node = Neuron("n", (4, 2, 2), vth=np.array(5))
    graph = FixedGraph(Input("input", (2, 4, 4)), (node,), (synapse,), num_steps=1)
    messages = np.zeros((1, 1, 2, 4, 4), np.int8)
    messages[0, 0, 1, 1, 1] = 1
    counts = count_events(graph, {"n": np.zeros((1, 2, 4, 2, 2), np.int8)}, messages)
    (n,) = picojoules("lemaire", (graph, counts))
    # two channels of its group: 2 x 2 taps of 3 x 3 are met, by the paper's rounding up
    assert n["operations"] == pytest.approx((2 * 4 + 16) * 0.1)
    assert n["addressing"] == pytest.approx(2 * 9 * 0.1 + 2 * 3.2)


def test_lemaire_reads_direct_input_as_an_ann_does() -> None:
    (n,) = picojoules("lemaire", conv(Input("input", (1, 4, 4), "direct", max_message=9)))
    macs = 32 * 9
    assert n["operations"] == pytest.approx(macs * 3.2 + 32 * 0.1)
    assert n["messages"] == pytest.approx(macs * sram(16), rel=1e-5)


def test_the_sram_curve_lies_between_its_two_readings() -> None:
    for words, pieces in ((0, 0.0), (1024, 5.0), (2048, 10.0), (8192, 20.0), (2**18, 100.0)):
        line = sram(words)
        assert sram_j(words) == pytest.approx(line * PICO, rel=1e-5)
        assert sram_j(words, "low") == pytest.approx(min(line, pieces) * PICO, rel=1e-5)
        assert sram_j(words, "high") == pytest.approx(max(line, pieces) * PICO, rel=1e-5)
    # beyond 1 MiB the last piece goes on: 80 pJ for 992 KiB more
    assert sram_j(2**18 + 248 * 1024, "low") == pytest.approx(180 * PICO)


def test_yan_by_hand() -> None:
    weight, multiply = (yan.CONSTANTS[name].value / PICO for name in ("weight", "multiply"))
    n, out = picojoules("yan", dense())
    assert n == near(
        movement=9 * 3.0,
        weights=9 * 8 * weight,
        accumulate=9 * 0.05448,
        neuron=(6 + 3) * 0.05448,
    )
    assert out["movement"] == pytest.approx(6 * 3.0)
    found = get("yan").energy(*dense())
    # T = 2 takes two bits
    ann = 12 * (2 * 0.25 + 8 * weight + multiply)
    assert found.ann_energy_j == pytest.approx(ann * PICO)


def test_yan_moves_every_bit_of_a_graded_message() -> None:
    built = conv(Input("input", (1, 4, 4), "direct", max_message=100))
    # seven bits and a sign, in the ANN too
    assert picojoules("yan", built)[0]["movement"] == pytest.approx(26 * 8 * 3.0)
    few, many = (get("yan").energy(*conv(image)).ann_energy_j for image in (None, built[0].input))
    assert few is not None and many is not None
    assert many - few == pytest.approx(200 * (8 - 1) * 0.25 * PICO)


@pytest.mark.parametrize(("steps", "bits"), [(1, 1), (2, 2), (3, 2), (4, 3), (7, 3), (8, 4)])
def test_yan_matches_steps_with_bits(steps: int, bits: int) -> None:
    assert yan.levels_bits(steps) == bits


def test_yans_published_break_even_rates_come_out() -> None:
    for (steps, bits), published in yan.BREAK_EVENS.items():
        assert round(break_even_rate(steps, bits), 3) == published, (steps, bits)
    # two of the four were not fitted on, T = 5 with 5.7 % among them
    assert set(yan.BREAK_EVENS) - set(yan._FITTED_ON) == {(5, 4), (3, 8)}
    # and these two published ones do not: 0.054 for a fan-in of 64, 0.297 for T = 1
    assert round(break_even_rate(5, 4, fan_in=64), 3) == 0.057
    assert round(break_even_rate(1, 8), 3) == 0.172


def test_the_page_names_every_model_and_shows_yans_rates() -> None:
    page = (Path(__file__).parents[1] / "docs" / "energy-models.md").read_text()
    for name in MODELS:
        family, _, member = name.partition(":")
        assert f"`{family}" in page and (not member or f":{member}`" in page)
    for (steps, bits), published in yan.BREAK_EVENS.items():
        ours = break_even_rate(steps, bits)
        assert f"| {steps} | {bits} | {published:.3f} | {ours:.3f} |" in page
    assert f"| 5 | 4, fan-in 64 | 0.054 | {break_even_rate(5, 4, 64):.3f} |" in page
    assert f"| 1 | 8 | 0.297 | {break_even_rate(1, 8):.3f} |" in page


@pytest.mark.parametrize("wrong", [(0, 8, 9), (4, 0, 9), (4, 8, 0)])
def test_a_break_even_of_nothing_is_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must all be 1 or more"):
        break_even_rate(*wrong)


@pytest.mark.parametrize("name", cases.ZOO)
def test_every_model_says_something_of_every_network(name: str) -> None:
    graph = cases.graph(name)
    counts = simulate(graph, cases.messages(graph, 1), strict=False).counts
    found = all_models(graph, counts)
    assert [one.model for one in found] == list(MODELS)
    for one in found:
        _check(one, [node.name for node in graph.nodes])


def _check(one: ModelEnergy, names: list[str]) -> None:
    assert one.energy_j > 0 and one.kind == "estimated"
    assert [layer.name for layer in one.layers] == names
    assert sum(one.components.values()) == pytest.approx(one.energy_j)
    assert sum(layer.energy_j for layer in one.layers) == pytest.approx(one.energy_j)
    assert all(value >= 0 for layer in one.layers for value in layer.components.values())
    if one.low is not None and one.high is not None:
        assert one.low <= one.energy_j <= one.high
    assert one.source and one.counts and one.leaves_out
    assert all(constant.source and constant.unit == "J" for constant in one.constants.values())
    assert json.loads(json.dumps(one.to_json()))["energy_j"] == one.energy_j


def test_an_identity_is_one_synapse_a_neuron() -> None:
    link = Identity(name="id", source="input", target="n", delay=0)
    node = Neuron("n", (3,), vth=np.array(5))
    graph = FixedGraph(Input("input", (3,)), (node,), (link,), num_steps=1)
    counts = count_events(graph, {"n": np.zeros((1, 1, 3), np.int8)}, np.ones((1, 1, 3), np.int8))
    (row,) = picojoules("davies", (graph, counts))
    assert row["synapse"] == pytest.approx(3 * 23.6)
    assert picojoules("lemaire", (graph, counts))[0]["weights"] == pytest.approx(3 * sram(0), 1e-5)


def test_an_unknown_model_is_refused_with_the_list() -> None:
    with pytest.raises(
        ValueError, match=r"'loihi9' is unknown; choose one of davies, sanafe, .*yan"
    ):
        get("loihi9")


@pytest.mark.parametrize("name", MODELS)
def test_counts_of_another_graph_are_refused(name: str) -> None:
    graph, _ = dense()
    with pytest.raises(CountError, match="are not of this graph"):
        get(name).energy(graph, conv()[1])


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_lemaires_ann_reads_what_a_pool_by_3_leaves(kind: str) -> None:
    """A layer behind a pool over 9 places costs its ANN what one on the pooled places costs."""

    def ann_energy(side: int, pool: int) -> float:
        where: dict[str, Any] = {"name": "s", "source": "input", "target": "n", "pool": pool}
        synapse: Dense | Conv = Dense(**where, weight=np.full((2, 10**4), 2), delay=2)
        shape: tuple[int, ...] = (2,)
        if kind == "conv":
            synapse, shape = Conv(**where, weight=np.full((2, 1, 1, 1), 2)), (2, 100, 100)
        node = Neuron("n", shape, vth=np.array(5))
        graph = FixedGraph(Input("input", (1, side, side)), (node,), (synapse,), num_steps=1)
        spikes = {"n": np.zeros((1, graph.chip_steps(1), *shape), np.int8)}
        counts = count_events(graph, spikes, np.ones((1, 1, 1, side, side), np.int64))
        found = get("lemaire").energy(graph, counts).ann_energy_j
        assert found is not None
        return found

    assert ann_energy(300, pool=3) == pytest.approx(ann_energy(100, pool=1), rel=1e-12)
