"""Real Lava: every network of the zoo, spike for spike, and nothing left behind."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cases
from spikeship.hw_models.events.recording import first_difference
from spikeship.hw_models.graph import FixedGraph, Readout
from spikeship.hw_models.lava import build, runner
from spikeship.hw_models.lava.axes import from_lava, to_lava
from spikeship.hw_models.reference import interpreter as reference


def _equal_on_lava(graph: FixedGraph) -> None:
    """Every message and every potential; of two images where the gate puts state back between."""
    messages = cases.messages(graph, 2 if graph.gated else 1)
    found = runner.run(graph, messages, potentials=True, stall_s=60).recording
    expected = reference.run(graph, messages)
    assert first_difference(graph, expected, found) is None
    for name, potentials in expected.potentials.items():
        np.testing.assert_array_equal(found.potentials[name], potentials, err_msg=name)


@pytest.mark.parametrize("name", cases.ZOO)
def test_lava_equals_reference(name: str) -> None:
    _equal_on_lava(cases.graph(name))


@pytest.mark.parametrize("name", ["delays_full", "delays_pool"])
def test_delays_of_a_large_layer(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lava's dense delays would take too much memory there; its sparse ones carry it."""
    monkeypatch.setattr(build, "DELAY_DENSE_CELLS", 0)
    graph = cases.graph(name)
    last = build.build(graph)["synapses"][0]["stages"][-1]
    assert last["kind"] == "sparse"
    assert len(np.unique(last["delays"])) > 2
    _equal_on_lava(graph)


def test_ungated_lava_equals_reference() -> None:
    gated = cases.graph("bias")
    graph = FixedGraph(gated.input, gated.nodes, gated.synapses, gated.num_steps, gated=False)
    messages = cases.messages(graph, 2)
    found = runner.run(graph, messages, stall_s=60).recording
    expected = reference.run(graph, messages)
    assert first_difference(graph, expected, found) is None
    assert np.any(expected.nodes["n"][:, 0]), "biases must have fired before the input arrived"


@pytest.mark.parametrize("name", ["sigma_delta", "recurrent", "delays_full", "delays_output"])
def test_lavas_own_neurons_equal_reference(name: str, tmp_path: Path) -> None:
    """Stock LIF, Delta, SigmaDelta and Sigma: nothing of our Processes but the source."""
    graph = cases.graph(name)
    out = graph.output
    assert isinstance(out, Readout)
    graph = replace(graph, nodes=(*graph.nodes[:-1], replace(out, bias=np.array(0))))
    messages = cases.messages(graph, 1)
    build.write_plan(build.build(graph), tmp_path / "plan.npz")
    rows = to_lava(messages[0], graph.input.shape).astype(np.int32)
    np.save(tmp_path / "messages.npy", rows)
    script = Path(__file__).with_name("stock_lava.py")
    files = (tmp_path / "plan.npz", tmp_path / "messages.npy", cases.STEPS, tmp_path / "out.npz")
    command = subprocess.Popen(
        [sys.executable, str(script), *map(str, files)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        _, errors = command.communicate(timeout=90)
    except subprocess.TimeoutExpired:
        os.killpg(command.pid, signal.SIGTERM)
        raise
    assert command.returncode == 0, errors
    expected = reference.run(graph, messages)
    with np.load(tmp_path / "out.npz") as found:
        for node in graph.nodes:
            sent = from_lava(found[node.name], node.shape)
            np.testing.assert_array_equal(sent, expected.nodes[node.name][0], err_msg=node.name)
