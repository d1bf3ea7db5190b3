"""FixedGraph files: whole or refused, never half."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import cases
from spikeship.deploy.io import network_file as files
from spikeship.hw_models.events.recording import first_difference
from spikeship.hw_models.graph import (
    Conv,
    Delta,
    Dense,
    FixedGraph,
    GraphError,
    Identity,
    Input,
    Neuron,
    Readout,
    SigmaDelta,
    Sparse,
)
from spikeship.hw_models.reference import interpreter as reference

OLD = Path(__file__).parent / "golden" / "network_version1.safetensors"


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


def test_a_file_of_version_1_still_runs() -> None:
    """Written, and its scores computed, before there were delays of weights, rest or identities."""
    graph = files.load(OLD)
    with safe_open(OLD, framework="numpy") as file:
        assert file.metadata()["version"] == "1"
    assert [node.refractory for node in graph.nodes if isinstance(node, Neuron)] == [0, 0, 0]
    scores = reference.run(graph, cases.messages(graph, 2)).scores(graph)
    assert scores.tolist() == [[-2020, 1635, -2263, -2216, -477], [-1024, 1917, -2113, -2744, -603]]


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


def _graph_of(node: Neuron | Delta | SigmaDelta | Readout, **options: object) -> FixedGraph:
    """Two inputs into two nodes of a kind, by a dense synapse with these options."""
    fields = {"weight": np.ones((2, 2), np.int64), "gated": False} | options
    gated = bool(fields.pop("gated"))
    synapse = Dense(name="fc", source="input", target="n", **fields)  # type: ignore[arg-type]
    return FixedGraph(Input("input", (2,)), (node,), (synapse,), gated=gated)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delays": np.array([[0], [62]])}, None),
        ({"delays": np.array([[0], [0]]), "gated": True}, None),
        ({"delays": np.array([[3, 3]]), "gated": True}, None),
        ({"delays": np.array([[0], [1]]), "gated": True}, "'fc'.*delays differ"),
        ({"delays": np.array([0, 1])}, "does not fit weights"),
        ({"delays": np.array([[0, 1, 2]])}, "does not fit weights"),
        ({"delays": np.array([[0.5, 1]])}, "must be integers"),
        ({"delays": np.array([[-1, 0]])}, r"must lie in 0..62, got -1..0"),
        ({"delays": np.array([[0], [63]])}, "must lie in 0..62"),
        ({"delays": np.array([[0], [62]]), "delay": 3}, "delay of 65 steps is beyond the 64"),
        ({"delay": 65}, "delay of 65 steps"),
        ({"delay": 0}, "at least 1 step"),
        ({"weight": np.array([[255, -3], [1, 1]]), "num_weight_bits": 9}, None),
        ({"num_weight_bits": 9}, "odd"),
    ],
)
def test_delays_and_weights_that_no_chip_could_run(
    options: dict[str, object], message: str | None
) -> None:
    node = Neuron("n", (2,), vth=np.array(3))
    if message is None:
        _graph_of(node, **options)
    else:
        with pytest.raises(GraphError, match=message):
            _graph_of(node, **options)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Neuron, {"refractory": 64}, "refractory must lie in 0..63"),
        (Neuron, {"refractory": -1}, "refractory must lie in 0..63"),
        (Delta, {"vth": np.array(-1)}, "vth must lie in"),
        (Delta, {"vth": np.array(513), "spike_exp": 7, "state_exp": 7}, "vth << 14 leaves 24"),
        (Delta, {"spike_exp": 8}, "spike_exp must lie in 0..7"),
        (Delta, {"scale": np.zeros(2)}, "scale must be positive"),
        (SigmaDelta, {"state_exp": -1}, "state_exp must lie in 0..7"),
        (SigmaDelta, {"bias": np.array(1 << 20), "state_exp": 4}, "bias << 4 leaves 24"),
        (SigmaDelta, {"bias": np.array([1, 2, 3])}, "bias has shape"),
        (SigmaDelta, {"activation": "tanh"}, "unknown activation 'tanh'"),
    ],
)
def test_nodes_that_no_chip_could_run(kind: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(GraphError, match=message) as error:
        kind("n", (2,), **({"vth": np.array(3)} | options))
    assert "'n'" in str(error.value)


def test_identities_lead_between_nodes_of_one_size() -> None:
    source = Input("input", (1, 2, 2))

    def make(shape: tuple[int, ...], **options: object) -> FixedGraph:
        node = Neuron("n", shape, vth=np.array(3))
        synapse = Identity(name="i", source="input", target="n", **options)  # type: ignore[arg-type]
        return FixedGraph(source, (node,), (synapse,))

    assert make((1, 2, 2), delay=0).drain == 0
    assert make((4,), delay=1).drain == 1
    for shape, options, message in (
        ((4,), {"delay": 0}, "identity without delay cannot lead"),
        ((5,), {"delay": 1}, "identity cannot lead"),
        ((4,), {"delay": -1}, "at least 0 steps, got -1"),
        ((1, 1, 1), {"pool": 2}, "takes no pool"),
        ((4,), {"weight_exp": 1}, "takes no pool, weight_exp"),
    ):
        with pytest.raises(GraphError, match=message):
            make(shape, **options)
    nodes = (Neuron("a", (1, 2, 2), vth=np.array(3)), Neuron("b", (1, 2, 2), vth=np.array(3)))
    first = Identity(name="i", source="input", target="a", delay=0)
    second = Identity(name="j", source="a", target="b", delay=0)
    with pytest.raises(GraphError, match="only an input's messages arrive without delay"):
        FixedGraph(source, nodes, (first, second))
    again = Identity(name="k", source="input", target="a", delay=0)
    with pytest.raises(GraphError, match="twice without delay, and Lava connects two ports once"):
        FixedGraph(source, nodes[:1], (first, again))


def test_a_graph_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    graph = replace(cases.graph("conv"), metadata={"notes": ['\u00fc "\\\n']})
    found = set()
    for turn in range(6):
        files.save(graph, tmp_path / str(turn))
        found.add((tmp_path / str(turn)).read_bytes())
    assert len(found) == 1
    assert files.load(tmp_path / "0").metadata == graph.metadata


def test_a_sparse_matrix_holds_a_place_once() -> None:
    """Lava would add up two weights of a place and cut the sum to 8 bits, the engines would not."""

    def make(indices: list[int], indptr: list[int], columns: int = 3) -> Sparse:
        data = np.full(len(indices), 252)
        return Sparse(
            name="s",
            source="input",
            target="n",
            data=data,
            indices=np.array(indices, np.int64),
            indptr=np.array(indptr),
            columns=columns,
        )

    make([2, 0, 1, 1], [0, 2, 3, 4])  # unsorted, and a column in several rows
    make([], [0, 0])
    for indices, indptr, said in (
        ([0, 2, 2], [0, 1, 3], r"'s': 1 weights .* row and column \(1, 2\); merge"),
        ([1, 0, 1, 1], [0, 4, 4], r"'s': 2 weights .* row and column \(0, 1\); merge"),
    ):
        with pytest.raises(GraphError, match=said):
            make(indices, indptr)


def test_sums_of_graded_messages_are_not_bounded_beforehand() -> None:
    """A bound on them would refuse every network of sigma-delta layers, so the run checks them."""
    graph = cases.graph("sigma_delta")
    assert not graph.bounded("s1")
    assert graph.input_bound("s1") > 2**24
    neurons = cases.graph("sigma_delta_neurons")
    proved = {k: getattr(neurons.nodes[4], k) for k in neurons.nodes[4].__dataclass_fields__}
    node = Neuron(**(proved | {"overflow": "proved", "du": 4095}))
    nodes = (*neurons.nodes[:4], node, neurons.nodes[5])
    with pytest.raises(GraphError, match="'n'.*24 bits hold"):
        FixedGraph(neurons.input, nodes, neurons.synapses, gated=False)


def test_every_chip_step_counts_where_there_is_no_gate() -> None:
    """An ungated readout adds its bias in T + D steps, and 2**31 - 1 is where it ends."""
    readout = Readout("n", (2,), bias=np.array(2**31 // 8 - 3))
    synapse = Dense(name="fc", source="input", target="n", weight=np.ones((2, 2), np.int64))
    source = Input("input", (2,))
    FixedGraph(source, (readout,), (synapse,), num_steps=8)
    with pytest.raises(GraphError, match="9 steps may reach"):
        FixedGraph(source, (readout,), (synapse,), num_steps=8, gated=False)
