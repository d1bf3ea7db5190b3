"""Staged firing at its edges: rails, wraps, ties, what is refused, and planted errors."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from staged_ann import quantized_ann
from staged_cases import CASES, Builder, messages

from spikeship.hw_models import fixed
from spikeship.hw_models.graph import (
    Delta,
    Dense,
    FixedGraph,
    GraphError,
    Identity,
    Input,
    Neuron,
    Readout,
)
from spikeship.hw_models.graph import windows as windows_module
from spikeship.hw_models.graph.windows import Window
from spikeship.hw_models.lava import runner
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.reference import nodes as reference_nodes
from spikeship.hw_models.reference.sums import StateOverflowError
from spikeship.hw_models.simulator.simulator import simulate
from spikeship.hw_models.simulator.torch_device.engine import DeviceEngine


def agrees(graph: FixedGraph, given: NDArray[Any]) -> bool:
    """Whether the reference gives the independent classifier's counts."""
    ann = quantized_ann(graph, given)
    recording = reference.run(graph, given, strict=False)
    return all(
        np.array_equal(recording.nodes[name].sum(axis=1), counts)
        for name, counts in ann.counts.items()
    ) and np.array_equal(recording.scores(graph), ann.logits)


# ---- time


def test_windows_follow_from_delays() -> None:
    # direct input: 1; a at 2..5; pool hands on at 3..6; b after its last at 7..10; out at 11
    graph = CASES["max_pool"](4)
    assert graph.windows == {
        "input": Window(1, 1, 1),
        "a": Window(2, 2, 5),
        "pool": Window(3, 3, 6),
        "b": Window(4, 7, 10),
        "out": Window(8, 11, 11),
    }
    assert graph.chip_steps(4) == 11 and graph.input_steps(4) == 1
    # a layer more takes T steps more: 2 + T * (L - 1) for L weighted layers, one for the relay
    assert CASES["chain"](4).chip_steps(4) == 2 + 4 * 2
    assert CASES["spikes_in"](4).chip_steps(4) == 4 * 3 + 1
    assert CASES["global_pool"](4).chip_steps(4) == 2 + 4 * 1 + 1


def test_the_next_sample_may_enter_after_the_interval() -> None:
    assert CASES["chain"](4).interval == 2 * 4 - 1
    assert CASES["max_pool"](4).interval == 2 * 4 - 1
    assert CASES["residual"](4).interval == 3 * 4 - 1
    # a skip that is held back for T steps
    assert CASES["residual"](4, skip_delay=5).interval == 2 * 4 - 1


def test_a_staged_graph_belongs_to_its_steps() -> None:
    graph = CASES["chain"](4)
    with pytest.raises(GraphError, match="belongs to its T = 4, not 5"):
        graph.chip_steps(5)
    given = messages(graph)
    with pytest.raises(GraphError, match="messages of 4 steps, and .* of T = 4 takes 1"):
        reference.run(graph, np.repeat(given, 4, axis=1))
    with pytest.raises(GraphError, match="a staged one belongs to its T"):
        replace(graph, num_steps=None)


# ---- what has no meaning


def refused(reason: str, change: Callable[[FixedGraph], FixedGraph], case: str = "chain") -> None:
    with pytest.raises(GraphError, match=reason) as caught:
        change(CASES[case](4))
    assert "\n" not in str(caught.value)


def with_node(name: str, **fields: Any) -> Callable[[FixedGraph], FixedGraph]:
    def change(graph: FixedGraph) -> FixedGraph:
        nodes = tuple(
            replace(node, **fields) if node.name == name else node for node in graph.nodes
        )
        return replace(graph, nodes=nodes)

    return change


def with_synapse(place: int, **fields: Any) -> Callable[[FixedGraph], FixedGraph]:
    def change(graph: FixedGraph) -> FixedGraph:
        synapses = list(graph.synapses)
        synapses[place] = replace(synapses[place], **fields)
        return replace(graph, synapses=tuple(synapses))

    return change


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dv": np.array(1)}, "neuron 'a': leaks"),
        ({"du": 4000}, "neuron 'a': leaks"),
        ({"reset": "zero"}, "neuron 'a': resets to zero"),
        ({"refractory": 1}, "neuron 'a': rests after a spike"),
        ({"bias_mant": np.array(1)}, "neuron 'a': takes a bias in every step; give it in v0"),
        ({"vth": np.array(0)}, "neuron 'a': has a threshold of 0"),
    ],
)
def test_a_population_that_waits_keeps_what_arrives(fields: dict[str, Any], reason: str) -> None:
    refused(reason, with_node("a", **fields))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"dv": np.array(0)}, "relay 'pool': needs vth 1"),
        ({"reset": "subtract"}, "relay 'pool': needs vth 1"),
        ({"vth": np.array(2)}, "relay 'pool': needs vth 1"),
        ({"v0": np.array(64)}, "relay 'pool': needs vth 1"),
        ({"bias_mant": np.array(1)}, "relay 'pool': needs vth 1"),
        ({"refractory": 1}, "relay 'pool': needs vth 1"),
        ({"relay": False}, "neuron 'pool': leaks"),
    ],
)
def test_a_relay_forgets_at_once(fields: dict[str, Any], reason: str) -> None:
    refused(reason, with_node("pool", **fields), "max_pool")


def test_a_relay_reads_one_population_with_weights_of_two() -> None:
    graph = CASES["max_pool"](4)
    weight = graph.synapses[1].weight  # type: ignore[union-attr]
    refused("weights are not 2 a tap", with_synapse(1, weight=weight // 2), "max_pool")
    refused("has a pool, an exponent", with_synapse(1, delay=2, weight_exp=1), "max_pool")
    twice = replace(graph.synapses[1], name="again")
    refused(
        "2 synapses feed it; a relay has one",
        lambda graph: replace(graph, synapses=(*graph.synapses, twice)),
        "max_pool",
    )
    build = Builder((2, 8, 8), 4)
    build.relay("input", "pool", 2)
    build.conv("pool", "b", 4)
    build.neuron("b")
    with pytest.raises(GraphError, match="relay 'pool': reads 'input', whose spikes"):
        build.graph()


def test_what_leads_nowhere_or_back_is_refused() -> None:
    refused("adds its bias in every step", with_node("out", bias=np.array(1)))
    build = Builder((12,), 4)
    for name in ("a", "lost"):
        build.dense("input", name, 9)
        build.neuron(name)
    build.dense("a", "out", 5)
    with pytest.raises(GraphError, match="node 'lost': does not lead to the readout"):
        build.done()
    neuron = Neuron(name="n", shape=(4,), vth=np.array(64))
    weight = 2 * np.eye(4, dtype=np.int64)
    parts = (
        Dense(name="in", source="input", target="n", weight=weight),
        Dense(name="back", source="n", target="n", weight=weight),
        Dense(name="fc", source="n", target="out", weight=weight),
    )
    out = Readout(name="out", shape=(4,))
    given = Input(name="input", shape=(4,))
    with pytest.raises(GraphError, match="a staged graph has no loops"):
        FixedGraph(given, (neuron, out), parts, num_steps=4, timing="staged")
    with pytest.raises(GraphError, match="node 'n': a staged graph ends in a readout"):
        FixedGraph(given, (neuron,), parts[:1], num_steps=4, timing="staged")
    changes = Delta(name="n", shape=(4,), vth=np.array(1))
    with pytest.raises(GraphError, match="a Delta sends changes, no levels"):
        FixedGraph(given, (changes, out), (parts[0], parts[2]), num_steps=4, timing="staged")
    with pytest.raises(GraphError, match="unknown timing 'slow'; pipelined or staged"):
        FixedGraph(given, (neuron, out), (parts[0], parts[2]), timing="slow")  # type: ignore[arg-type]


# ---- widths


def wide(v0: int, weights: list[int], *, steps: int = 4, overflow: Any = "unchecked") -> FixedGraph:
    """One neuron behind others that all fire in every step: its weights, and where it starts."""
    many = len(weights)
    first = Dense(name="in", source="input", target="a", weight=2 * np.eye(many, dtype=np.int64))
    second = Dense(name="w", source="a", target="b", weight=np.array([weights]))
    last = Dense(name="fc", source="b", target="out", weight=np.array([[2]]))
    nodes = (
        Neuron(name="a", shape=(many,), vth=np.array(1), v0=np.array(64 * 100)),
        Neuron(name="b", shape=(1,), vth=np.array(1000), v0=np.array(v0), overflow=overflow),
        Readout(name="out", shape=(1,)),
    )
    return FixedGraph(
        Input(name="input", shape=(many,)),
        nodes,
        (first, second, last),
        num_steps=steps,
        timing="staged",
    )


def runs_of(graph: FixedGraph) -> list[Callable[..., Any]]:
    return [
        lambda given: reference.run(graph, given),
        lambda given: simulate(graph, given, threads=1),
        lambda given: DeviceEngine(graph, "cpu").run(given),
    ]


def test_a_clipped_partial_sum_is_an_error_with_layer_and_step() -> None:
    # up by 4 * 127,000 in a's first steps, and down again in the last: the final sum is small
    graph = wide(64 * 130_000, [254] * 20)
    given = np.zeros((1, 4, 20), np.int64)
    for run in runs_of(graph):
        with pytest.raises(StateOverflowError, match="node 'b': its potential .* step 6 while"):
            run(given)
    # what a lenient run counts is what Lava does
    lenient = reference.run(graph, given, strict=False)
    assert lenient.rails["b"][1] > 0
    found = simulate(graph, given, strict=False, record=True)
    assert found.rails["b"] == lenient.rails["b"]
    assert np.array_equal(found.recording.nodes["b"], lenient.nodes["b"])  # type: ignore[union-attr]


def test_a_wrapped_step_is_an_error_whatever_v0_hides() -> None:
    # the input of one step leaves 24 bits, though v0 of the other sign keeps V within
    graph = wide(-64 * 100_000, [254] * 520)
    given = np.zeros((1, 4, 520), np.int64)
    for run in runs_of(graph):
        with pytest.raises(StateOverflowError, match="'b': its input reaches 132080 .* step 6"):
            run(given)
    lenient = reference.run(graph, given, strict=False)
    assert lenient.wraps["b"] > 0


def test_bounds_are_proved_from_start_and_weights() -> None:
    graph = wide(64 * 500, [254] * 20 + [-254] * 30)
    assert graph.state_bound("b") == 4 * 30 * 254 - 500
    assert graph.input_bound("b") == 30 * 254
    assert wide(-64 * 500, [254] * 20).state_bound("b") == max(4 * 20 * 254 - 500, 500)
    most = (fixed.INPUT_LIMIT - 500) // (4 * 254)
    wide(64 * 500, [254] * most, overflow="proved")
    with pytest.raises(GraphError, match="potential may reach .* while it waits"):
        wide(64 * 500, [254] * (most + 1), overflow="proved")
    # T counts: one step fewer is within
    wide(64 * 500, [254] * (most + 1), steps=3, overflow="proved")


def test_direct_input_counts_once_in_the_bound() -> None:
    graph = CASES["chain"](16)
    weight = np.abs(graph.synapses[0].weight).reshape(4, -1).sum(axis=1)  # type: ignore[union-attr]
    node = graph.nodes[0]
    assert isinstance(node, Neuron)
    start = np.abs(np.broadcast_to(node.v0, (4, 1, 1))).reshape(4)
    assert graph.state_bound("a") <= (127 * weight + -(-start // 64)).max()
    assert graph.state_bound("a") >= (127 * weight).max()


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_ties_go_down_and_starts_round(steps: int) -> None:
    """Every potential around every level, to the 64th of a unit."""
    starts = np.arange(-70, 64 * (5 * steps + 3))
    nodes = (
        Neuron(name="a", shape=starts.shape, vth=np.array(5), v0=starts),
        Readout(name="out", shape=(1,)),
    )
    quiet = Dense(
        name="in", source="input", target="a", weight=np.zeros((len(starts), 1), np.int64)
    )
    last = Dense(name="fc", source="a", target="out", weight=np.ones((1, len(starts)), np.int64))
    graph = FixedGraph(
        Input(name="input", shape=(1,), encoding="direct"),
        nodes,
        (quiet, last),
        num_steps=steps,
        timing="staged",
    )
    counts = reference.run(graph, np.zeros((1, 1, 1), np.int64)).nodes["a"].sum(axis=1)[0]
    expected = [min(steps, max(0, -(-int(v) // (5 * 64)) - 1)) for v in starts]
    assert counts.tolist() == expected
    assert expected[70 + 5 * 64] == 0 and expected[70 + 5 * 64 + 1] == 1


def test_lava_wraps_and_clips_as_the_lenient_reference() -> None:
    for graph in (wide(64 * 130_000, [254] * 20), wide(-64 * 100_000, [254] * 520)):
        given = np.zeros((2, 4, graph.input.shape[0]), np.int64)
        expected = reference.run(graph, given, strict=False)
        found = runner.run(graph, given, potentials=True).recording
        for node in graph.nodes:
            assert np.array_equal(found.nodes[node.name], expected.nodes[node.name])
            assert np.array_equal(found.potentials[node.name], expected.potentials[node.name])


# ---- errors that are planted


@pytest.mark.parametrize("case", ["chain", "dense", "residual", "strided_skip", "depthwise"])
def test_a_window_one_step_early_is_caught(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = windows_module.find_windows

    def early(source: Any, nodes: Any, *rest: Any) -> dict[str, Window]:
        found = honest(source, nodes, *rest)
        name = [node.name for node in nodes if isinstance(node, Neuron) and not node.relay][-1]
        window = found[name]
        found[name] = Window(window.first, window.fire_from - 1, window.last - 1)
        return found

    monkeypatch.setattr("spikeship.hw_models.graph.fixed_graph.find_windows", early)
    graph = CASES[case](4)
    # a level of 0 or T alone shows it, and few neurons are at either
    assert not agrees(graph, messages(graph, 250))


def test_a_gate_that_is_kept_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A population that drops what arrives outside its window."""
    honest = reference_nodes._neuron_step

    def gated(population: Any, node: Neuron, activation: Any, step: int) -> Any:
        if not population.window.fires(step + 1):
            activation = np.zeros_like(activation)
        return honest(population, node, activation, step)

    monkeypatch.setitem(reference_nodes._STEP_OF, Neuron, gated)
    graph = CASES["chain"](4)
    assert not agrees(graph, messages(graph, 8))


def test_a_tie_that_is_rounded_up_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = CASES["dense"](4)
    even = with_node("b", vth=np.array(64), v0=np.array(64 << 5))(graph)
    given = messages(graph, 200)
    assert agrees(even, given)
    raised = with_node("b", v0=np.array((64 << 5) + 1))(even)
    ann = quantized_ann(even, given)
    counts = reference.run(raised, given).nodes["b"].sum(axis=1)
    assert not np.array_equal(counts, ann.counts["b"])


def test_a_relay_of_weight_one_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = CASES["max_pool"](4)
    weight = graph.synapses[1].weight // 2  # type: ignore[union-attr]
    with pytest.raises(GraphError, match="weights are not 2 a tap"):
        with_synapse(1, weight=weight)(graph)
    # built past its check, it stays silent where one tap fires
    monkeypatch.setattr(windows_module, "_check_relay", lambda *parts: None)
    weak = with_synapse(1, weight=weight)(graph)
    assert not agrees(weak, messages(weak, 4))


def test_an_identity_leads_as_any_synapse_does() -> None:
    graph = CASES["identity"](4)
    assert any(isinstance(synapse, Identity) for synapse in graph.synapses)
    assert agrees(graph, messages(graph, 4))
