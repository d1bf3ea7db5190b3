"""Real Lava at the edges of its integers, where another engine would first go wrong."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.events.recording import Recording, first_difference
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Delta,
    Dense,
    FixedGraph,
    Identity,
    Input,
    Neuron,
    Node,
    Readout,
    SigmaDelta,
)
from spikeship.hw_models.lava import runner
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.reference.interpreter import StateOverflowError
from spikeship.hw_models.simulator.simulator import simulate

Array = NDArray[np.int64]
RAIL = fixed.STATE_RAIL


def _straight(target: str) -> Identity:
    return Identity(name=f"to {target}", source="input", target=target, delay=0)


def _graph(shape: tuple[int, ...], nodes: list[Node], *synapses: AnySynapse) -> FixedGraph:
    source = Input("input", shape, "spikes", max_message=2**15 - 1)
    return FixedGraph(source, tuple(nodes), synapses, gated=False)


def _on_lava(graph: FixedGraph, sent: Array) -> Recording:
    """What Lava did with messages (steps, *shape), its potentials with it."""
    return runner.run(graph, sent[None], potentials=True, stall_s=60).recording


def _equal_on_lava(graph: FixedGraph, sent: Array) -> Recording:
    expected = reference.run(graph, sent[None])
    found = _on_lava(graph, sent)
    assert first_difference(graph, expected, found) is None
    for name, potentials in expected.potentials.items():
        np.testing.assert_array_equal(found.potentials[name], potentials, err_msg=name)
    return expected


def test_decays_biases_rails_and_rest() -> None:
    """Both decays round toward zero for either sign; v meets both rails and comes back."""
    dv = np.array([0, 1, 2047, 2048, 4094, 4095, 300, 300])
    mant = np.array([4095, -4096, 1, -1, 0, 0, 4095, -4096])
    exp = np.array([0, 0, 7, 7, 0, 3, 7, 7])
    vth = np.array([fixed.VTH_MAX, 9, fixed.VTH_MAX, 0, 700, 0, fixed.VTH_MAX, 30000])
    options: list[dict[str, Any]] = [
        {"du": 0},
        {"du": 1, "reset": "zero"},
        {"du": 2047, "refractory": 1},
        {"du": 4094, "refractory": 1, "reset": "zero"},
        {"du": 4095, "refractory": 3},
        {"du": 3000, "refractory": 3, "reset": "zero", "v0": np.array(-RAIL)},
        {"du": 100, "v0": np.array(RAIL)},
    ]
    nodes: list[Node] = [
        Neuron(f"n{i}", (8,), vth=vth, dv=dv, bias_mant=mant, bias_exp=exp, **more)
        for i, more in enumerate(options)
    ]
    top = 2**15 - 1
    sent = np.zeros((16, 8), np.int64)
    sent[:, :] = np.random.default_rng(5).choice([0, 0, 1, -1, 37, -905], (16, 8))
    sent[2], sent[3, ::2], sent[9], sent[10, 1::2] = top, top, -top, -top
    graph = _graph((8,), nodes, *(_straight(node.name) for node in nodes))
    expected = _equal_on_lava(graph, sent)
    low, high = np.array([expected.rails[node.name] for node in nodes]).T
    assert low.sum() > 0 < high.sum()
    for node in nodes:
        assert expected.nodes[node.name].any()


def test_exponents_with_delays_loops_and_message_widths() -> None:
    """Each delay's sum is shifted, by floor, apart; -1 and 2 stay what they are."""
    rng = np.random.default_rng(6)
    weight = rng.integers(-90, 91, (5, 6))
    weight[0, :2] = -256, 255
    delays = rng.integers(0, 4, (5, 6))

    def dense(name: str, source: str, target: str, **options: Any) -> Dense:
        return Dense(name=name, source=source, target=target, num_weight_bits=9, **options)

    nodes: list[Node] = [
        Neuron("in", (2, 3, 1), vth=np.array(2), reset="zero"),
        Neuron("loop", (5,), vth=np.array(150), du=2500, dv=100),
        *(Readout(f"r{i}", (5,)) for i in range(4)),
    ]
    source = Input("input", (2, 3, 1), "spikes", max_message=2)
    synapses = [
        _straight("in"),
        dense("low", "input", "r0", weight=weight, delays=delays, weight_exp=-8),
        dense("high", "input", "r1", weight=weight, delays=delays + 2, weight_exp=7),
        dense("spikes", "in", "r2", weight=weight, delays=delays, weight_exp=-1),
        dense("into", "in", "loop", weight=weight),
        Identity(name="late", source="loop", target="loop", delay=3),
        dense("back", "loop", "loop", weight=weight[:, :5], delays=delays[:, :5], delay=2),
        Conv(
            name="conv",
            source="in",
            target="in",
            weight=np.array([[[[1]], [[-1]]], [[[2]], [[1]]]]),
            num_weight_bits=9,
            delay=4,
        ),
        dense("out", "loop", "r3", weight=weight[:, :5]),
    ]
    graph = FixedGraph(source, tuple(nodes), tuple(synapses), gated=False)
    sent = rng.choice([0, 0, 1, -1, 2, -2], (12, 2, 3, 1))
    expected = _equal_on_lava(graph, sent)
    assert expected.nodes["loop"].any()
    assert len(np.unique(expected.nodes["r0"])) > 5


def test_sigma_delta_at_the_ends_of_its_bits() -> None:
    """States at 24 bits and back, messages rounded down, errors that meet the threshold."""
    top = 2**15 - 1
    nodes: list[Node] = [
        Delta("d", (4,), vth=np.array([0, 3, 700, 20]), spike_exp=1, state_exp=7),
        Delta("e", (4,), vth=np.array([0, 3, 700, 20]), spike_exp=7, cum_error=True),
        SigmaDelta("s", (4,), vth=np.array(2), bias=np.array([0, 1, -1, -9]), state_exp=7),
        SigmaDelta(
            "t", (4,), vth=np.array([0, 1, 9, 30]), activation="unit", state_exp=3, cum_error=True
        ),
        Readout("out", (4,), bias=np.array([0, 3_000_000, -3_000_000, 5])),
    ]
    weight = np.diag([126, 100, 90, -126])
    synapses = [
        _straight("d"),
        _straight("e"),
        Dense(name="ds", source="d", target="s", weight=weight),
        Dense(name="et", source="e", target="t", weight=weight, weight_exp=-7),
        Dense(name="so", source="s", target="out", weight=weight, weight_exp=-4),
        Identity(name="to", source="t", target="out", delay=2),
    ]
    sent = np.random.default_rng(7).integers(-40, 41, (20, 4))
    sent[3], sent[4], sent[5], sent[11], sent[12] = 0, top // 4, 0, -top // 4, 0
    sent[14], sent[15] = top // 2, top  # act near the upper end of 24 bits
    sent[16], sent[17], sent[18], sent[19] = top // 2, 0, -top // 2, -top
    expected = _equal_on_lava(_graph((4,), nodes, *synapses), sent)
    assert np.abs(expected.potentials["d"]).max() > RAIL - 1000
    assert np.abs(expected.nodes["out"]).max() > 2**24
    assert (expected.nodes["s"] < 0).any()


def _five_ones() -> FixedGraph:
    node = Neuron("n", (1,), vth=np.array(fixed.VTH_MAX), reset="zero")
    synapse = Dense(name="fc", source="input", target="n", weight=np.ones((1, 5), np.int64))
    return _graph((5,), [node], synapse)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_current_that_24_bits_hold_and_the_next(sign: int) -> None:
    """At -2**23 Lava turns the current's sign over, so one more than it holds is an error."""
    sent = sign * np.array([[2**15 - 1] * 4 + [3], [0] * 5, [2**15 - 1] * 4 + [4]])
    expected = _equal_on_lava(_five_ones(), sent[:2])
    assert np.abs(expected.currents["n"]).max() == fixed.INPUT_LIMIT << fixed.STATE_SHIFT
    with pytest.raises(StateOverflowError, match="131072 weight units in chip step 2"):
        reference.run(_five_ones(), sent[None, 2:])
    found = _on_lava(_five_ones(), sent[2:])
    assert found.nodes["n"].any(), "it spikes whatever the sign"


def test_a_convolution_wraps_at_24_bits() -> None:
    """Lava's Conv wraps its sum, its Dense does not: beyond 24 bits the reference refuses both."""
    top = 2**15 - 1
    weight = np.array([255, 255, 3]).reshape(1, 3, 1, 1)
    conv = Conv(name="sum", source="d", target="conv", weight=weight)
    dense = Dense(name="sum", source="d", target="dense", weight=weight.reshape(1, 3))
    nodes: list[Node] = [
        Delta("d", (3, 1, 1), vth=np.array(0)),
        Readout("conv", (1, 1, 1)),
        Readout("dense", (1,)),
    ]
    graph = _graph((3, 1, 1), nodes, _straight("d"), conv, dense)
    held = np.array([[top, 128, 0]])[..., None, None]  # 255 * 32895 = 8,388,225
    _equal_on_lava(graph, held)
    beyond = held + np.array([0, 0, 128]).reshape(3, 1, 1)
    found = _on_lava(graph, beyond)
    total = 255 * (top + 128) + 3 * 128
    assert total > RAIL
    assert found.nodes["dense"].max() == total
    assert found.nodes["conv"].min() == total - 2**24
    for kept in (conv, dense):
        alone = _graph((3, 1, 1), [nodes[0], graph.node(kept.target)], _straight("d"), kept)  # type: ignore[list-item]
        with pytest.raises(StateOverflowError, match="synapse 'sum': its sum reaches 8388609"):
            reference.run(alone, beyond[None])


def test_what_leaves_24_bits_wraps_as_on_lava_where_it_may() -> None:
    """Not strict: currents wrap once, Conv's sums at 24 bits, Dense's not; all counted."""
    rng = np.random.default_rng(8)
    top = 2**15 - 1
    sent = rng.choice([0, 1, -1, 700, 2**9, -(2**9), top, -top], (14, 2, 3, 3))
    nodes: list[Node] = [
        Neuron("plain", (2, 3, 3), vth=np.array(30_000), reset="zero"),
        Neuron("kept", (2, 3, 3), vth=np.array(90_000), du=1000, dv=77),
        Neuron("rests", (4,), vth=np.array(9), du=4000, refractory=2),
    ]
    kernel = rng.choice([254, -256, 254], (2, 2, 3, 3))
    dense = np.full((4, 18), 254)
    dense[1:3] *= -1
    dense[2, ::2] = 254
    synapses = [
        Conv(name="conv", source="input", target="plain", weight=kernel, padding=(1, 1)),
        Dense(name="few", source="input", target="kept", weight=2 * rng.integers(-3, 4, (18, 18))),
        Dense(name="fc", source="input", target="rests", weight=dense, weight_exp=-6),
    ]
    graph = _graph((2, 3, 3), nodes, *synapses)
    with pytest.raises(StateOverflowError):
        reference.run(graph, sent[None])
    expected = reference.run(graph, sent[None], strict=False)
    found = _on_lava(graph, sent)
    assert first_difference(graph, expected, found) is None
    for name, potentials in expected.potentials.items():
        np.testing.assert_array_equal(found.potentials[name], potentials, err_msg=name)
    assert all(expected.wraps[node.name] > 10 for node in nodes)
    ours = simulate(graph, sent[None], potentials=True, strict=False)
    assert ours.recording is not None and ours.wraps == expected.wraps
    assert first_difference(graph, expected, ours.recording) is None
    for name, potentials in expected.potentials.items():
        np.testing.assert_array_equal(ours.recording.potentials[name], potentials, err_msg=name)
