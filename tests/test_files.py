"""FixedGraph files: whole or refused, never half."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import cases
from spikeship.deploy import files
from spikeship.hw_models import reference
from spikeship.hw_models.graph import Conv, Dense, FixedGraph, GraphError, Input, Neuron, Readout
from spikeship.hw_models.recording import first_difference


@pytest.mark.parametrize("name", cases.ZOO)
def test_a_graph_comes_back_as_it_was(name: str, tmp_path: Path) -> None:
    graph, path = cases.graph(name), tmp_path / "net.safetensors"
    files.save(graph, path)
    again = files.load(path)
    messages = cases.messages(graph, 2)
    assert (
        first_difference(graph, reference.run(graph, messages), reference.run(again, messages))
        is None
    )
    assert again.depths == graph.depths
    assert (again.num_steps, again.gated) == (graph.num_steps, graph.gated)
    assert [path] == list(tmp_path.iterdir()), "a temporary file was left"


def _rewritten(path: Path, change: dict[str, str]) -> None:
    with safe_open(path, framework="numpy") as file:
        header = file.metadata() | change
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    save_file(arrays, path, metadata=header)


def test_damage_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    files.save(cases.graph("conv"), path)
    whole = path.read_bytes()

    def refused(match: str) -> None:
        with pytest.raises(files.FileError, match=match) as error:
            files.load(path)
        assert "\n" not in str(error.value)
        assert str(path) in str(error.value)

    for length in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused("not a whole safetensors file")
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    path.write_bytes(bytes(flipped))
    refused("do not match their hash")
    path.write_bytes(whole)
    _rewritten(path, {"format": "something-else"})
    refused("not a quantized network")
    path.write_bytes(whole)
    _rewritten(path, {"version": "99"})
    refused("format version 99")
    path.unlink()
    refused("no such file")


def test_a_file_with_one_leak_for_all_still_loads(tmp_path: Path) -> None:
    """Before leaks could differ within a population, ``dv`` was a plain number."""
    path = tmp_path / "net.safetensors"
    files.save(cases.graph("v0"), path)
    with safe_open(path, framework="numpy") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        structure = json.loads(file.metadata()["graph"])
        said = file.metadata()
    del arrays[structure["nodes"][0]["dv"]["array"]]
    structure["nodes"][0]["dv"] = 200
    text = json.dumps(structure, sort_keys=True)
    header = said | {"graph": text, "sha256": files._digest(text, arrays)}
    save_file(arrays, path, metadata=header)
    node = files.load(path).nodes[0]
    assert isinstance(node, Neuron)
    assert node.dv.item() == 200


def test_a_claim_that_is_not_true_is_refused(tmp_path: Path) -> None:
    """A file that says ``proved`` of sums that can leave 24 bits, its hash made to match."""
    weight = np.full((1, 2000), 255)
    graph = FixedGraph(
        Input("input", (2000,)),
        (Neuron("big", (1,), vth=np.array(100)), Readout("out", (1,))),
        (
            Dense(name="fc", source="input", target="big", weight=weight),
            Dense(name="fc2", source="big", target="out", weight=np.ones((1, 1), int)),
        ),
    )
    path = tmp_path / "net.safetensors"
    files.save(graph, path)
    with safe_open(path, framework="numpy") as file:
        arrays = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        structure = json.loads(file.metadata()["graph"])
    structure["nodes"][0]["overflow"] = "proved"
    text = json.dumps(structure, sort_keys=True)
    _rewritten(path, {"graph": text, "sha256": files._digest(text, arrays)})
    with pytest.raises(files.FileError, match="'big'.*510000.*24 bits"):
        files.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.full((3, 2, 3, 3), 3)}, None),
        ({"weight": np.array([[[[3, -3]]]])}, "8 bits hold"),
        ({"weight": np.full((3, 2, 3, 3), 300)}, "8 bits hold"),
        ({"weight": np.full((3, 2, 3, 3), 0.5)}, "must be integers"),
        ({"delay": 0}, "delay must be at least 1"),
        ({"weight_exp": 1}, "ignores weight_exp"),
        ({"source": "nobody"}, "no node 'nobody'"),
        ({"groups": 2}, "groups"),
        ({"pool": 4}, "does not divide"),
    ],
)
def test_graphs_that_no_chip_could_run(change: dict[str, object], message: str | None) -> None:
    graph = cases.graph("conv")
    conv, fc = graph.synapses
    assert isinstance(conv, Conv)
    fields = {k: getattr(conv, k) for k in conv.__dataclass_fields__} | change

    def make() -> FixedGraph:
        return FixedGraph(graph.input, graph.nodes, (Conv(**fields), fc))  # type: ignore[arg-type]

    if message is None:
        make()
    else:
        with pytest.raises(GraphError, match=message):
            make()


def test_paths_that_differ_in_delay_are_refused() -> None:
    graph = cases.graph("residual_identity")
    synapses = list(graph.synapses)
    skip = synapses[3]
    fields = {k: getattr(skip, k) for k in skip.__dataclass_fields__} | {"delay": 1}
    synapses[3] = type(skip)(**fields)
    with pytest.raises(GraphError, match="'outer'.*differ in delay"):
        FixedGraph(graph.input, graph.nodes, tuple(synapses))


def test_a_kept_current_proves_nothing() -> None:
    graph = cases.graph("current")
    node = graph.nodes[0]
    fields = {k: getattr(node, k) for k in node.__dataclass_fields__} | {"overflow": "proved"}
    with pytest.raises(GraphError, match="keeps current"):
        FixedGraph(graph.input, (type(node)(**fields), graph.nodes[1]), graph.synapses)
