"""One network, four engines: float form, reference, simulator, and (test_lava.py) real Lava."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from float_form import FloatForm

import cases
from spikeship.hw_models.events.counts import count_events
from spikeship.hw_models.events.recording import Recording, first_difference
from spikeship.hw_models.graph import (
    Delta,
    Dense,
    FixedGraph,
    GraphError,
    Identity,
    Input,
    Neuron,
    Readout,
    SigmaDelta,
)
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.simulator.simulator import simulate


@pytest.mark.parametrize("name", cases.ZOO)
def test_reference_runs_something_worth_comparing(name: str) -> None:
    graph = cases.graph(name)
    recording = reference.run(graph, cases.messages(graph, 4))
    for node in graph.nodes:
        if not isinstance(node, Readout):
            rate = np.count_nonzero(recording.nodes[node.name]) / recording.nodes[node.name].size
            assert 0.005 < rate < 0.8, f"{node.name} fires at {rate}"
        if isinstance(node, Delta | SigmaDelta):
            assert len(np.unique(recording.nodes[node.name])) > 20
    assert len(np.unique(recording.scores(graph))) > 5


def test_the_lower_rail_is_met_and_left() -> None:
    graph = cases.graph("lower_rail")
    recording = reference.run(graph, cases.messages(graph, 4))
    assert recording.rails["n"][0] > 0


BOTH_WAYS = [(name, gated) for name in cases.ZOO for gated in {cases.graph(name).gated, False}]


@pytest.mark.parametrize(("name", "gated"), BOTH_WAYS)
def test_simulator_equals_reference(name: str, gated: bool) -> None:
    graph = cases.graph(name)
    if not gated:
        graph = FixedGraph(graph.input, graph.nodes, graph.synapses, graph.num_steps, gated=False)
    messages = cases.messages(graph, 5)
    expected = reference.run(graph, messages)
    found = simulate(graph, messages, record=True, memory_budget=1)  # one image a chunk
    assert found.recording is not None
    assert first_difference(graph, expected, found.recording) is None
    assert found.rails == expected.rails
    np.testing.assert_array_equal(found.scores, expected.scores(graph))
    counted = count_events(graph, expected.nodes, messages)
    assert counted.per_inference() == found.counts.per_inference()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", [n for n in cases.FEED_FORWARD if n != "current"])
def test_float_form_equals_reference(name: str, dtype: torch.dtype) -> None:
    graph = cases.graph(name)
    messages = cases.messages(graph, 4)
    expected = reference.run(graph, messages)
    found = FloatForm(graph, dtype).run(torch.from_numpy(messages))
    for node in graph.nodes:
        depth = graph.depths[node.name]
        local = expected.nodes[node.name][:, depth : depth + cases.STEPS]
        if isinstance(node, Neuron):
            np.testing.assert_array_equal(found[node.name].numpy(), local)
        else:
            units = found[node.name].numpy() / node.scale
            np.testing.assert_array_equal(np.rint(units), local)


def test_first_difference_names_layer_step_and_neuron() -> None:
    graph = cases.graph("conv")
    messages = cases.messages(graph, 2)
    expected = reference.run(graph, messages)
    nodes = {name: values.copy() for name, values in expected.nodes.items()}
    nodes["n"][1, 4, 2, 3, 5] ^= 1
    nodes["out"][1, 6, 0] += 1
    difference = first_difference(graph, expected, Recording(expected.num_steps, messages, nodes))
    assert difference is not None
    assert (difference.image, difference.layer, difference.chip_step) == (1, "n", 5)
    assert (difference.local_step, difference.neuron) == (3, (2, 3, 5))
    assert "layer 'n'" in str(difference)


def test_sums_stay_exact_without_onednn_and_with_low_precision_allowed() -> None:
    """torch's fallbacks (Winograd, bf16 products) round; the simulator must not take them."""
    graph = cases.graph("lower_rail")
    messages = cases.messages(graph, 4)
    expected = reference.run(graph, messages)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the switch itself warns, of another vendor's GPUs
            with torch.backends.mkldnn.flags(enabled=False):
                found = simulate(graph, messages, record=True)
    finally:
        torch.set_float32_matmul_precision(before)
    assert found.recording is not None
    assert first_difference(graph, expected, found.recording) is None


def test_two_synapses_of_one_name_cannot_differ_in_delay() -> None:
    graph = cases.graph("dense")
    late = replace(graph.synapses[0], delay=2)
    with pytest.raises(GraphError, match="differ in delay"):
        FixedGraph(graph.input, graph.nodes, (graph.synapses[0], late, graph.synapses[1]))


def _one(node: Neuron | Delta | SigmaDelta | Readout, sent: list[int]) -> Recording:
    """One neuron alone, on what arrives at it step by step."""
    source = Input("input", (1,), "spikes", max_message=2**15 - 1)
    synapse = Identity(name="i", source="input", target=node.name, delay=0)
    graph = FixedGraph(source, (node,), (synapse,), gated=False)
    return reference.run(graph, np.array(sent).reshape(1, -1, 1))


def test_rest_keeps_the_potential_and_not_the_current() -> None:
    node = Neuron("n", (1,), vth=np.array(10), du=2047, dv=np.array(64), refractory=2)
    found = _one(node, [12, 0, 0, 0, 1])
    # after the spike 2 weight units stay for two steps, then leak and meet what is left of u
    assert found.nodes["n"].ravel().tolist() == [1, 0, 0, 0, 0]
    assert found.currents["n"].ravel().tolist() == [768, 384, 192, 96, 112]
    assert found.potentials["n"].ravel().tolist() == [128, 128, 128, 126 + 96, 218 + 112]


def test_decays_round_toward_zero() -> None:
    node = Neuron("n", (1,), vth=np.array(10), du=2047, dv=np.array(1365))
    found = _one(node, [-1, 0, 0, 0])
    assert found.currents["n"].ravel().tolist() == [-64, -32, -16, -8]
    # what is left of v is 2731 / 4096 of it
    assert found.potentials["n"].ravel().tolist() == [-64, -42 - 32, -49 - 16, -43 - 8]


def test_delta_sends_changes_that_meet_its_threshold() -> None:
    found = _one(Delta("d", (1,), vth=np.array(2), spike_exp=1, state_exp=2), [1, 3, 3, 0, 2])
    # x = 8 a, threshold 16: 8 is kept, then 24 - 0 is sent, nothing, -24, 16; each >> 2
    assert found.nodes["d"].ravel().tolist() == [0, 6, 0, -6, 4]
    assert found.potentials["d"].ravel().tolist() == [8, 24, 24, 0, 16]


def test_errors_add_up_to_the_threshold_and_begin_anew() -> None:
    plain = SigmaDelta("s", (1,), vth=np.array(5), activation="unit")
    assert not _one(plain, [2, 1, 0, 0]).nodes["s"].any()
    # 2, then 2 + 3 with the 2 kept: sent; 3, then 3 + 3 with the 3 kept: sent
    found = _one(replace(plain, cum_error=True), [2, 1, 3, 0])
    assert found.nodes["s"].ravel().tolist() == [0, 3, 0, 3]


def test_sigma_delta_adds_a_bias_and_rounds_messages_down() -> None:
    node = SigmaDelta("s", (1,), vth=np.array(0), bias=np.array(-1), spike_exp=1, state_exp=1)
    found = _one(node, [5, 4, -7, 12])
    # x = max(0, sigma - 4): 1, 5, 0, 10; the changes 1, 4, -5, 10 are halved
    assert found.nodes["s"].ravel().tolist() == [0, 2, -3, 5]
    assert found.potentials["s"].ravel().tolist() == [5, 9, 2, 14]
    unit = _one(replace(node, activation="unit"), [5, -7])
    assert unit.nodes["s"].ravel().tolist() == [0, -4]


def test_a_readout_has_32_bits() -> None:
    node = Readout("out", (1,), bias=np.array(2**30))
    assert _one(node, [-5]).nodes["out"].item() == 2**30 - 5
    with pytest.raises(reference.StateOverflowError, match="2147483648 in chip step 2, beyond 32"):
        _one(node, [0, 0])


def test_a_message_of_a_weight_with_a_delay_arrives_that_much_later() -> None:
    synapse = Dense(
        name="fc",
        source="input",
        target="out",
        weight=np.array([[5, 7, 9]]),
        delays=np.array([[0, 2, 2]]),
        delay=2,
        weight_exp=-1,
    )
    source = Input("input", (3,), "spikes", signed=False)
    graph = FixedGraph(source, (Readout("out", (1,)),), (synapse,), gated=False)
    assert (graph.drain, synapse.longest) == (4, 4)
    found = reference.run(graph, np.array([[[1, 1, 1]]])).nodes["out"]
    # 5 >> 1, two steps later (7 + 9) >> 1: a sum for each delay, each rounded down
    assert found.ravel().tolist() == [0, 0, 2, 2, 10]


@pytest.mark.parametrize(
    ("node", "sent", "message"),
    [
        (Delta("d", (1,), vth=np.array(0), spike_exp=7, state_exp=7), [512], "its state reaches"),
        (SigmaDelta("s", (1,), vth=np.array(0)), [2**15 - 1] * 257, "sigma reaches 8421119"),
    ],
)
def test_a_state_beyond_24_bits_is_an_error(
    node: Delta | SigmaDelta, sent: list[int], message: str
) -> None:
    with pytest.raises(reference.StateOverflowError, match=message):
        _one(node, sent)
    _one(node, sent[:-1] or [511])


def test_a_message_beyond_24_bits_is_an_error() -> None:
    """A change is twice the state at most; state bits that the message has not make room for it."""
    source = Input("input", (1,), "spikes", max_message=2**15 - 1)
    double = Dense(name="fc", source="input", target="d", weight=np.array([[2]]))

    def sent(spike_exp: int, state_exp: int) -> list[int]:
        node = Delta("d", (1,), vth=np.array(0), spike_exp=spike_exp, state_exp=state_exp)
        graph = FixedGraph(source, (node,), (double,), gated=False)
        messages = np.array([2**15 - 1, -(2**15 - 1)]).reshape(1, 2, 1)
        return [int(n) for n in reference.run(graph, messages).nodes["d"].ravel()]

    top = (2**16 - 2) << 6
    assert sent(6, 1) == [0, top, -2 * top]
    with pytest.raises(reference.StateOverflowError, match="its message reaches 16776704"):
        sent(7, 0)


def test_delays_behind_a_pool_belong_to_the_windows_in_torchs_order() -> None:
    """Two messages into the window at the top right, one into that at the bottom right."""
    synapse = Dense(
        name="fc",
        source="input",
        target="out",
        weight=np.array([[2, 20, 60, 200]]),
        delays=np.array([[0, 1, 2, 5]]),
        pool=2,
        delay=2,
    )
    source = Input("input", (1, 4, 4), "spikes", signed=False)
    graph = FixedGraph(source, (Readout("out", (1,)),), (synapse,), gated=False)
    messages = np.zeros((1, 1, 1, 4, 4), np.int64)
    messages[0, 0, 0, [0, 1, 3], [2, 3, 2]] = 1
    # 2 x 20 after 2 + 1 steps, 200 after 2 + 5
    expected = [0, 0, 0, 40, 40, 40, 40, 240]
    for found in (
        reference.run(graph, messages),
        simulate(graph, messages, record=True).recording,
    ):
        assert found is not None
        assert found.nodes["out"].ravel().tolist() == expected
    (layer,) = count_events(graph, {}, messages).layers
    assert layer.connected.tolist() == layer.effective.tolist() == [0, 0, 0, 2, 0, 0, 0, 1]
