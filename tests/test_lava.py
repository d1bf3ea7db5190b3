"""Real Lava: every network of the zoo, spike for spike, and nothing left behind."""

import numpy as np
import pytest

import cases
from spikeship.hw_models import reference
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.lava import runner
from spikeship.hw_models.recording import first_difference


@pytest.mark.parametrize("name", cases.ZOO)
def test_lava_equals_reference(name: str) -> None:
    graph = cases.graph(name)
    messages = cases.messages(graph, 2)  # two: the second shows that state was put back
    found = runner.run(graph, messages, stall_s=60).recording
    assert first_difference(graph, reference.run(graph, messages), found) is None


def test_ungated_lava_equals_reference() -> None:
    gated = cases.graph("bias")
    graph = FixedGraph(gated.input, gated.nodes, gated.synapses, gated.num_steps, gated=False)
    messages = cases.messages(graph, 2)
    found = runner.run(graph, messages, stall_s=60).recording
    expected = reference.run(graph, messages)
    assert first_difference(graph, expected, found) is None
    assert np.any(expected.nodes["n"][:, 0]), "biases must have fired before the input arrived"
