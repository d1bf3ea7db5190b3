"""One network, four engines: float form, reference, simulator, and (test_lava.py) real Lava."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import cases
from spikeship.hw_models import reference
from spikeship.hw_models.counts import count_events
from spikeship.hw_models.graph import FixedGraph, GraphError, Neuron
from spikeship.hw_models.recording import Recording, first_difference
from spikeship.hw_models.simulator import simulate
from spikeship.training.float_form import FloatForm


@pytest.mark.parametrize("name", cases.ZOO)
def test_reference_runs_something_worth_comparing(name: str) -> None:
    graph = cases.graph(name)
    recording = reference.run(graph, cases.messages(graph, 4))
    for node in graph.nodes:
        if isinstance(node, Neuron):
            rate = recording.nodes[node.name].mean()
            assert 0.005 < rate < 0.8, f"{node.name} fires at {rate}"
    assert len(np.unique(recording.scores(graph))) > 5


def test_the_lower_rail_is_met_and_left() -> None:
    graph = cases.graph("lower_rail")
    recording = reference.run(graph, cases.messages(graph, 4))
    assert recording.rails["n"][0] > 0


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("name", cases.ZOO)
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
@pytest.mark.parametrize("name", [n for n in cases.ZOO if n != "current"])
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
