"""NIR graphs that others wrote: taken with what they leave open, or refused by name."""

from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from spiking import chain, images

from spikeship.training.conversion.convert import convert
from spikeship.training.nir_io.from_nir import FromNirError, from_nir, read_nir
from spikeship.training.nir_io.to_nir import to_nir, write_nir
from spikeship.training.snn.encoding import InputCoding
from spikeship.training.snn.form import FormError


def foreign(**neuron: Any) -> nir.NIRGraph:
    """A plain graph without metadata: dense, IF or LIF, dense."""
    generator = np.random.default_rng(0)
    ones = np.ones(6, np.float32)
    if "tau" in neuron:
        node = nir.LIF(
            tau=neuron["tau"] * ones,
            r=neuron["r"] * ones,
            v_leak=neuron.get("v_leak", 0.0) * ones,
            v_threshold=neuron["v_threshold"] * ones,
            v_reset=neuron.get("v_reset", 0.0) * ones,
        )
    else:
        node = nir.IF(r=neuron["r"] * ones, v_threshold=neuron["v_threshold"] * ones)
    return nir.NIRGraph(
        nodes={
            "entry": nir.Input(input_type={"input": np.array([4])}),
            "first": nir.Affine(
                weight=generator.normal(size=(6, 4)).astype(np.float32),
                bias=generator.normal(size=6).astype(np.float32),
            ),
            "a%20b": node,
            "last": nir.Linear(weight=generator.normal(size=(3, 6)).astype(np.float32)),
            "exit": nir.Output(output_type={"output": np.array([3])}),
        },
        edges=[("entry", "first"), ("first", "a%20b"), ("a%20b", "last"), ("last", "exit")],
    )


GIVEN: dict[str, Any] = {"coding": InputCoding("spikes"), "num_steps": 8, "reset": "zero"}


@pytest.mark.parametrize(
    ("neuron", "given", "leak", "theta"),
    [
        ({"r": 10.0, "v_threshold": 2.0}, {"dt": 0.1}, 1.0, 2.0),
        ({"r": 3.0, "v_threshold": 2.0}, {"dt": 0.5}, 1.0, 2.0 / 1.5),
        ({"tau": 2.0, "r": 20.0, "v_threshold": 1.5}, {"dt": 0.1, "decay": "euler"}, 0.95, 1.5),
        (
            {"tau": 2.0, "r": 1.0, "v_threshold": 1.5},
            {"dt": 1.0, "decay": "exact"},
            np.exp(-0.5),
            1.5 / (1 - np.exp(-0.5)),
        ),
    ],
    ids=["IF", "IF with gain", "LIF", "LIF, exact"],
)
def test_a_plain_graph_is_taken_with_what_it_leaves_open(
    neuron: dict[str, float], given: dict[str, Any], leak: float, theta: float, tmp_path: Path
) -> None:
    graph = foreign(**neuron)
    write_nir(tmp_path / "theirs.nir", graph)
    snn = from_nir(read_nir(tmp_path / "theirs.nir"), **GIVEN, **given)
    # names of others are no escapes of ours
    assert [layer.name for layer in snn.network.layers] == ["first", "a%20b", "last"]
    made = snn.neurons["a%20b"]
    assert made.leak == pytest.approx(leak, rel=1e-6)
    assert float(made.threshold) == pytest.approx(theta, rel=1e-6)
    # their dynamics, in their own units of V
    spikes = torch.randint(0, 2, (5, 8, 4), generator=torch.Generator().manual_seed(1))
    gain = theta_gain(neuron, given)
    v, readout = np.zeros((5, 6)), np.zeros((5, 3))
    for t in range(8):
        s = spikes[:, t].numpy()
        current = s @ graph.nodes["first"].weight.T + graph.nodes["first"].bias
        v = leak * v + gain * current
        fired = v > neuron["v_threshold"]
        v[fired] = 0
        readout += fired @ graph.nodes["last"].weight.T
    assert np.allclose(snn(spikes).detach().numpy(), readout, atol=1e-5)
    assert np.abs(readout).max() > 0


def theta_gain(neuron: dict[str, float], given: dict[str, Any]) -> float:
    """How much V a unit of weighted input gives, from NIR's differential equations."""
    if "tau" not in neuron:
        return float(given["dt"] * neuron["r"])
    share = given["dt"] / neuron["tau"]
    part = share if given["decay"] == "euler" else 1 - np.exp(-share)
    return float(part * neuron["r"])


def test_what_is_missing_is_named() -> None:
    graph = foreign(tau=2.0, r=2.0, v_threshold=1.0)
    with pytest.raises(FromNirError, match="coding, decay, dt, num_steps, reset open; give what"):
        from_nir(graph)
    with pytest.raises(FromNirError, match="leaves decay open"):
        from_nir(graph, **GIVEN, dt=1.0)
    ours = to_nir(convert(chain(), images(3), num_steps=4))
    with pytest.raises(FromNirError, match="the graph says num_steps, dt itself; do not give it"):
        from_nir(ours, num_steps=5, dt=1.0)


def without(graph: nir.NIRGraph, *gone: str) -> nir.NIRGraph:
    nodes = {name: node for name, node in graph.nodes.items() if name not in gone}
    edges = [edge for edge in graph.edges if not set(edge) & set(gone)]
    return nir.NIRGraph(nodes=nodes, edges=edges, type_check=False)


def with_node(node: nir.NIRNode, **edges: str) -> nir.NIRGraph:
    """The plain graph with one node replaced, or put between two."""
    graph = foreign(r=1.0, v_threshold=1.0)
    nodes = dict(graph.nodes) | {"new": node}
    return nir.NIRGraph(
        nodes=nodes,
        edges=[edge for edge in graph.edges if edge[1] != "last"]
        + [("a%20b", "new"), ("new", "last")],
        type_check=False,
    )


def test_graphs_that_are_no_such_network_are_refused() -> None:
    graph = foreign(r=1.0, v_threshold=1.0)
    given = {**GIVEN, "dt": 1.0}
    cases: list[tuple[nir.NIRGraph, str, type[ValueError]]] = [
        (
            with_node(nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0]))),
            "node 'new': SumPool2d has no place in a network here; it takes Conv2d, Linear",
            FromNirError,
        ),
        (
            with_node(nir.Flatten(input_type={"input": np.array([1, 6])}, start_dim=1)),
            r"node 'new': flattens axes 1..-1; NIR's shapes have no batch axis, so give 0..-1",
            FromNirError,
        ),
        (
            with_node(nir.Linear(weight=np.ones((6, 6), np.float32))),
            "layer 'last': reads 'new', which is no ReLU's result",
            FormError,
        ),
        (
            without(graph, "exit"),
            "the graph has 0 Output nodes; a network here has one",
            FromNirError,
        ),
        (without(graph, "first"), "nothing leads to node 'a%20b'; connect it", FromNirError),
        (
            nir.NIRGraph(
                nodes=graph.nodes, edges=[*graph.edges, ("a%20b", "first")], type_check=False
            ),
            "node 'first': is part of a loop; only feed-forward graphs can be read",
            FromNirError,
        ),
        (
            nir.NIRGraph(
                nodes=graph.nodes,
                edges=[edge for edge in graph.edges if edge[0] != "last"] + [("a%20b", "exit")],
                type_check=False,
            ),
            "the output reads 'a%20b' and not just the last layer",
            FromNirError,
        ),
        (
            nir.NIRGraph(
                nodes=graph.nodes, edges=[*graph.edges, ("first", "nowhere")], type_check=False
            ),
            "an edge names 'nowhere', which is no node",
            FromNirError,
        ),
        (
            foreign(tau=2.0, r=2.0, v_threshold=1.0, v_leak=0.5),
            "node 'a%20b': v_leak is not 0; neurons here have v_leak and v_reset 0",
            FromNirError,
        ),
        (
            foreign(tau=2.0, r=2.0, v_threshold=1.0, v_reset=-1.0),
            "node 'a%20b': v_reset is not 0",
            FromNirError,
        ),
        (
            foreign(tau=0.5, r=2.0, v_threshold=1.0),
            "node 'a%20b': tau gives a leak of -1 a step",
            FromNirError,
        ),
        (foreign(r=1.0, v_threshold=-1.0), "'a%20b': v_threshold is not positive", FromNirError),
        (foreign(r=-1.0, v_threshold=1.0), "'a%20b': r is not uniform", FromNirError),
    ]
    for case, message, kind in cases:
        decay: dict[str, Any] = (
            {"decay": "euler"} if isinstance(case.nodes.get("a%20b"), nir.LIF) else {}
        )
        with pytest.raises(kind, match=message.replace("..", r"\.\.")) as caught:
            from_nir(case, **given, **decay)
        assert "\n" not in str(caught.value)
