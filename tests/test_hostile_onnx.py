"""ONNX files made to do harm: refused in one line, at once, and nothing beside them is read."""

import os
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.graph import Dense, FixedGraph, GraphError, Input, Neuron, Readout
from spikeship.hw_models.memory import SETTING, MemoryClaimError
from spikeship.training.ann.network import Add, Layer, Network
from spikeship.training.frontends.onnx import from_onnx
from spikeship.training.frontends.onnx_file import MOST_NODES, OnnxError
from spikeship.training.frontends.refusal import UnsupportedLayerError
from spikeship.training.frontends.trace import trace
from spikeship.training.nir_io.from_nir import from_nir
from spikeship.training.snn.encoding import InputCoding

EYE = np.eye(4, dtype=np.float32)
Nodes = Sequence[Any]


def model(
    path: Path,
    nodes: Nodes,
    weights: dict[str, Any] | None = None,
    shape: tuple[int, ...] = (1, 4),
    change: Callable[[Any], None] = lambda model: None,
) -> Path:
    """Write the model of a graph from x to y; arrays are stored under their names."""
    stored = [
        numpy_helper.from_array(np.asarray(array), name) for name, array in (weights or {}).items()
    ]
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        stored,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    change(made)
    path.write_bytes(made.SerializeToString())
    return path


def dense(source: str = "x", weight: str = "w", result: str = "y", **attributes: Any) -> Any:
    return helper.make_node("Gemm", [source, weight], [result], "dense", **attributes)


def refused(path: Path, reason: str) -> None:
    """Refused in one line that names the file, and without the memory that it asks for."""
    tracemalloc.start()
    try:
        with pytest.raises(SpikeshipError, match=reason) as caught:
            from_onnx(path)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    text = str(caught.value)
    assert text.isprintable() and str(path) in text
    assert isinstance(caught.value, OnnxError | UnsupportedLayerError | MemoryClaimError)


# ---- what would be computed while reading


def test_a_loop_is_not_run(tmp_path: Path) -> None:
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Add", ["held", "held"], ["next"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("held", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, None),
        ],
    )
    loop = helper.make_node("Loop", ["times", "", "w"], ["made"], "forever", body=body)
    path = model(
        tmp_path / "a.onnx", [loop, dense(weight="made")], {"times": np.array(2**62), "w": EYE}
    )
    refused(path, r"node 'forever' \(Loop\): not known")


@pytest.mark.parametrize(
    ("kind", "inputs"),
    [
        ("ConstantOfShape", {"shape": np.array([2**20, 2**10])}),
        ("ConstantOfShape", {"shape": np.array([2**40, 2**40])}),
        ("Expand", {"one": np.ones(1, np.float32), "shape": np.array([2**15, 2**15])}),
        ("Tile", {"one": np.ones((1, 1), np.float32), "times": np.array([2**15, 2**15])}),
        ("Range", {"a": np.array(0), "b": np.array(2**40), "step": np.array(1)}),
        ("Range", {"a": np.array(0.0), "b": np.array(1.0), "step": np.array(1e-12)}),
        ("Add", {"row": np.ones((1, 2**14), np.float32), "column": np.ones((2**14, 1), "f4")}),
        ("Gather", {"data": np.ones((1, 2**14), np.float32), "places": np.zeros(2**14, int)}),
    ],
)
def test_what_grows_beyond_a_network_is_not_computed(
    tmp_path: Path, kind: str, inputs: dict[str, Any]
) -> None:
    node = helper.make_node(kind, list(inputs), ["made"], "bomb")
    path = model(tmp_path / "a.onnx", [node, dense(weight="made")], inputs)
    refused(path, rf"node 'bomb' \({kind}\): would make [\d,]+ numbers")


def test_many_small_steps_have_a_limit_too(tmp_path: Path) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["shape"], ["made0"])]
    nodes += [
        helper.make_node("Neg", [f"made{place}"], [f"made{place + 1}"]) for place in range(200)
    ]
    path = model(
        tmp_path / "a.onnx", [*nodes, dense(weight="made200")], {"shape": np.array([10**3, 10**3])}
    )
    with pytest.raises(UnsupportedLayerError, match=r"\(Neg\): would make 1,000,000 numbers"):
        from_onnx(path)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Cast", ["w"], ["made"], "bomb", to=TensorProto.STRING),
        helper.make_node("Split", ["w"], ["made"], "bomb", num_outputs=2**40),
        helper.make_node("Einsum", ["w", "w"], ["made"], "bomb", equation="ij,kl->ijkl"),
        helper.make_node("Identity", ["w"], ["made"], "bomb", domain="elsewhere"),
        helper.make_node("RandomNormal", [], ["made"], "bomb", shape=[2**20, 2**20]),
        helper.make_node("Constant", [], ["made"], "bomb", value_string=b"text"),
    ],
)
def test_what_is_on_no_list_is_not_computed(tmp_path: Path, node: Any) -> None:
    refused(model(tmp_path / "a.onnx", [node, dense(weight="made")], {"w": EYE}), "node 'bomb'")


def test_shapes_and_weights_that_exporters_compute_are_computed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axis"], ["first"]),
        helper.make_node("Concat", ["first", "rest"], ["target"], axis=0),
        helper.make_node("Reshape", ["x", "target"], ["flat"]),
        helper.make_node("Transpose", ["w"], ["turned"], perm=[1, 0]),
        helper.make_node("Mul", ["turned", "two"], ["weight"]),
        helper.make_node("MatMul", ["flat", "weight"], ["y"], "dense"),
    ]
    weight = np.arange(20, dtype=np.float32).reshape(5, 4)
    stored = {
        "zero": np.array(0),
        "axis": np.array([0]),
        "rest": np.array([-1]),
        "w": weight,
        "two": np.array(2.0, np.float32),
    }
    network = from_onnx(model(tmp_path / "a.onnx", nodes, stored, (1, 1, 2, 2)))
    assert torch.equal(network[network.output].module.weight, torch.tensor(2 * weight))


# ---- what the file says of itself


def external(path: Path, location: str, **entries: Any) -> Path:
    def change(made: Any) -> None:
        tensor = made.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            tensor.external_data.add(key=key, value=str(value))

    return model(path, [dense()], {"w": EYE}, change=change)


def test_data_beside_the_model_is_read_and_none_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    secret = tmp_path / "secret"
    secret.write_bytes(EYE.tobytes())
    (folder / "data" / "own").write_bytes(b"head" + (2 * EYE).tobytes())
    network = from_onnx(external(folder / "a.onnx", "data/own", offset=4, length=64))
    assert torch.equal(network["dense"].module.weight, torch.tensor(2 * EYE.T))
    (folder / "link").symlink_to(secret)
    (folder / "inside").symlink_to(folder / "data" / "own")
    os.mkfifo(folder / "pipe")
    from_onnx(external(folder / "a.onnx", "inside", offset=4))
    for location, entries, reason in (
        ("../secret", {}, "'../secret', which is not read; keep it in a file beside"),
        ("data/../../secret", {}, "which is not read"),
        (str(secret), {}, "which is not read"),
        ("..\\secret", {}, "which is not read"),
        ("", {}, "which is not read"),
        ("a\x1b[2J", {}, "which is not read"),
        ("link", {}, "'link' is a link that leads elsewhere, which is not followed"),
        ("missing", {}, "missing is missing; put it beside the model"),
        ("pipe", {}, "pipe is missing"),
        ("data/own", {"offset": -4}, "64 bytes from byte -4 of 'data/own', which has 68"),
        ("data/own", {"offset": 8}, "64 bytes from byte 8 of 'data/own', which has 68"),
        ("data/own", {"length": 2**62}, "where its shape takes 64"),
        ("data/own", {"length": 4}, "where its shape takes 64"),
        ("data/own", {"offset": "four"}, "offset and length are no numbers"),
    ):
        refused(external(folder / "a.onnx", location, **entries), reason)


def stored(**fields: Any) -> Callable[[Any], None]:
    def change(made: Any) -> None:
        tensor = made.graph.initializer[0]
        for name, value in fields.items():
            if name == "dims":
                del tensor.dims[:]
                tensor.dims.extend(value)
            else:
                setattr(tensor, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (stored(dims=[2**31, 2**31]), "array 'w': its data does not fill shape"),
        (stored(dims=[-4, -4]), r"array 'w': has shape \(-4, -4\)"),
        (stored(dims=[1] * 40), "array 'w': has shape"),
        (stored(data_type=TensorProto.STRING), "array 'w': holds values of type STRING"),
        (stored(data_type=TensorProto.COMPLEX64), "array 'w': holds values of type COMPLEX64"),
        (stored(data_type=77), "array 'w': holds values of type 77"),
        (stored(raw_data=b"few"), "array 'w': its data does not fill shape"),
    ],
)
def test_arrays_are_what_they_say(
    tmp_path: Path, change: Callable[[Any], None], reason: str
) -> None:
    refused(model(tmp_path / "a.onnx", [dense()], {"w": EYE}, change=change), reason)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.nan, "holds NaN"),
        (np.inf, "holds infinity"),
        (1e300, "holds numbers beyond 32-bit floats"),
    ],
)
def test_weights_that_are_no_numbers_are_named(tmp_path: Path, value: float, said: str) -> None:
    weight = EYE.astype(np.float64)
    weight[1, 2] = value
    refused(model(tmp_path / "a.onnx", [dense()], {"w": weight}), rf"'dense' \(Gemm\): 'w' {said}")


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"strides": [2**62, 1]}, r"strides is \[4611686018427387904, 1\]; give 2 whole numbers"),
        ({"strides": [0, 1]}, "strides is"),
        ({"strides": [1.0, 1.0]}, "strides is"),
        ({"pads": [2**40] * 4}, "pads is"),
        ({"pads": [-1] * 4}, "pads is"),
        ({"pads": [2**15] * 4}, "gives [0-9,]+ values, 268,435,456 are taken"),
        ({"dilations": [2**40, 1]}, "dilations is"),
        ({"group": 0}, "group is 0, of 4 channels"),
        ({"group": 3}, "group is 3, of 4 channels"),
        ({"group": 2**62}, "group is"),
    ],
)
def test_sizes_that_no_image_has_are_refused(
    tmp_path: Path, attributes: dict[str, Any], reason: str
) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], "conv", **attributes)
    weights = {"w": np.ones((4, 1, 3, 3), np.float32)}
    refused(model(tmp_path / "a.onnx", [node], weights, (1, 1, 8, 8)), reason)


def test_batch_norms_that_divide_by_nothing_are_refused(tmp_path: Path) -> None:
    names = ["factor", "offset", "mean", "variance"]
    conv = helper.make_node("Conv", ["x", "w"], ["c"], "conv")
    for variance, attributes, reason in (
        (-1.0, {}, "'variance' holds a negative variance"),
        (1.0, {"epsilon": float("nan")}, "epsilon is nan"),
        (1.0, {"epsilon": -1.0}, "epsilon is -1.0"),
    ):
        norm = helper.make_node("BatchNormalization", ["c", *names], ["y"], "norm", **attributes)
        arrays = {name: np.full(4, variance, np.float32) for name in names}
        weights = {"w": np.ones((4, 1, 1, 1), np.float32), **arrays}
        refused(model(tmp_path / "a.onnx", [conv, norm], weights, (1, 1, 2, 2)), reason)


def test_images_larger_than_memory_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SETTING, "1")
    flat = helper.make_node("Flatten", ["x"], ["y"])
    refused(model(tmp_path / "a.onnx", [flat], shape=(1, 2**20, 2**20)), "input 'x': claims")


def test_graphs_that_say_a_thing_twice_or_never_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    relu = helper.make_node("Relu", ["h"], ["y"], "act")
    twice = [dense(result="h"), dense(result="h"), relu]
    refused(model(path, twice, {"w": EYE}), "two nodes give 'h'")
    refused(model(path, [dense(result="w"), relu], {"w": EYE}), "two nodes give 'w'")
    refused(model(path, [relu], {"w": EYE}), "reads 'h', which nothing before it gives")
    refused(model(path, [dense(source="y")], {"w": EYE}), "reads 'y', which nothing before it")
    refused(model(path, [dense(result="")], {"w": EYE}), "gives nothing")
    shape = helper.make_node("Shape", ["h"], ["y"])
    refused(model(path, [dense(result="h"), shape], {"w": EYE}), "is not what its last layer gives")


def test_names_are_bounded_and_printable(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"

    def renamed(name: str) -> Path:
        node = helper.make_node("Gemm", ["x", "w"], ["y"], name)
        return model(path, [node], {"w": EYE})

    refused(renamed("a\x1b[2J"), "a name is no text")
    refused(renamed("a" * 1_001), "a name of 1001 letters")
    for name, kept in (
        ("../../etc/passwd", "etc.passwd"),
        ("/a//b/Gemm", "a.b"),
        ("..", "gemm"),
        ("a" * 1_000, "a" * 200),
    ):
        network = from_onnx(renamed(name))
        assert [layer.name for layer in network.layers] == [kept], name


def test_more_nodes_than_networks_have_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], [f"v{place}"]) for place in range(MOST_NODES + 1)]
    with pytest.raises(OnnxError, match="has 100001 nodes, 100000 are read"):
        from_onnx(model(tmp_path / "a.onnx", nodes))


# ---- work that grows with the number of nodes, and no faster


def lines(work: Callable[[], object]) -> int:
    """Lines of Python that a call runs, in the files of ours that read networks."""
    count = 0

    def line(frame: Any, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return line

    def call(frame: Any, event: str, argument: object) -> Any:
        return line if "spikeship" in str(frame.f_globals.get("__name__")) else None

    before = sys.gettrace()
    sys.settrace(call)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def onnx_chain(folder: Path, length: int) -> Callable[[], object]:
    nodes, last = [], "x"
    for place in range(length):
        # one name for all, which then need numbers of their own
        kind, inputs = ("Relu", [last]) if place % 2 else ("Gemm", [last, "w"])
        nodes.append(helper.make_node(kind, inputs, [f"v{place}"], "same"))
        last = f"v{place}"
    nodes.append(helper.make_node("Gemm", [last, "w"], ["y"], "last"))
    path = model(folder / f"{length}.onnx", nodes, {"w": EYE})
    return lambda: from_onnx(path)


def fx_chain(folder: Path, length: int) -> Callable[[], object]:
    layers = [nn.ReLU() if place % 2 else nn.Linear(4, 4) for place in range(length)]
    module = nn.Sequential(*layers)
    return lambda: trace(module, (4,))


def nir_chain(folder: Path, length: int) -> Callable[[], object]:
    ones = np.ones(4, np.float32)
    nodes: dict[str, Any] = {"input": nir.Input(np.array([4])), "output": nir.Output(np.array([4]))}
    names = ["input"]
    for place in range(length):
        names.append(f"n{place}")
        nodes[names[-1]] = nir.IF(r=ones, v_threshold=ones) if place % 2 else nir.Linear(EYE)
    names += ["last", "output"]
    nodes["last"] = nir.Linear(EYE)
    edges = list(zip(names, names[1:], strict=False))[::-1]
    graph = nir.NIRGraph(nodes, edges, type_check=False)
    coding = InputCoding("direct", 1.0, 1, False)
    return lambda: from_nir(graph, coding=coding, num_steps=4, reset="subtract", dt=1.0)


def integer_chain(folder: Path, length: int) -> Callable[[], object]:
    names = ["input", *(f"n{place}" for place in range(length)), "out"]
    nodes = [*(Neuron(name=name, shape=(4,), vth=3) for name in names[1:-1])]
    weight = np.eye(4, dtype=np.int64)
    synapses = [
        Dense(name=f"to {target}", source=source, target=target, weight=weight, delay=2)
        for source, target in zip(names, names[1:], strict=False)
    ]
    out = Readout(name="out", shape=(4,))
    return lambda: FixedGraph(Input(name="input", shape=(4,)), (*nodes, out), tuple(synapses))


@pytest.mark.parametrize("chain", [onnx_chain, fx_chain, nir_chain, integer_chain])
def test_work_grows_with_the_nodes_and_no_faster(
    tmp_path: Path, chain: Callable[[Path, int], Callable[[], object]]
) -> None:
    chain(tmp_path, 2)()  # what the first call imports
    few, many = (lines(chain(tmp_path, length)) for length in (100, 400))
    assert few > 400
    assert many < 4.4 * few


def test_sums_of_sums_have_a_limit() -> None:
    layers = [Layer("a0", nn.ReLU(), ("input",)), Layer("b0", nn.ReLU(), ("input",))]
    for place in range(40):
        before = (f"a{place}", f"b{place}")
        layers += [Layer(f"{name}{place + 1}", Add(), before) for name in "ab"]
    layers.append(Layer("out", Add(), ("a40", "b40")))
    with pytest.raises(ValueError, match="layer 'out': adds more than 10000 branches"):
        Network(layers, (4,)).summands("out")
    deep = [Layer("s0", nn.ReLU(), ("input",))]
    deep += [Layer(f"s{place}", Add(), (f"s{place - 1}", "input")) for place in range(1, 3_000)]
    assert Network(deep, (4,)).summands("s2999") == ["s0", *["input"] * 2999]


# ---- names in our own forms


BAD_NAMES = ["", "a\x1b[2Jb", "a\nb", "../a", "a/../b", "/a", "a//b", "a\\b", "..", "a" * 241]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_no_layer_node_or_synapse_has_a_name_that_does_harm(name: str) -> None:
    weight = np.eye(4, dtype=np.int64)

    def graph(node: str = "n", synapse: str = "s") -> FixedGraph:
        return FixedGraph(
            Input(name="input", shape=(4,)),
            (Readout(name=node, shape=(4,)),),
            (Dense(name=synapse, source="input", target=node, weight=weight),),
        )

    graph()
    for make, kind in (
        (lambda: graph(node=name), "node"),
        (lambda: graph(synapse=name), "synapse"),
    ):
        with pytest.raises(GraphError, match=rf"{kind} .*; give it another name") as caught:
            make()
        assert str(caught.value).isprintable()
    with pytest.raises(SpikeshipError, match="; rename it") as raised:
        Network([Layer(name, nn.ReLU(), ("input",))], (4,))
    assert str(raised.value).isprintable()


def test_two_layers_are_not_called_alike_but_for_a_slash() -> None:
    layers = [Layer("a.b", nn.ReLU(), ("input",)), Layer("a/b", nn.ReLU(), ("a.b",))]
    with pytest.raises(SpikeshipError, match="layer 'a/b': another's name differs"):
        Network(layers, (4,))


def test_names_that_nir_graphs_bring_lead_nowhere() -> None:
    nodes = {
        "input": nir.Input(np.array([4])),
        "../w": nir.Linear(EYE),
        "w": nir.IF(r=np.ones(4, "f4"), v_threshold=np.ones(4, "f4")),
        "a/b": nir.Linear(EYE),
        "output": nir.Output(np.array([4])),
    }
    names = list(nodes)
    graph = nir.NIRGraph(nodes, list(zip(names, names[1:], strict=False)), type_check=False)
    coding = InputCoding("direct", 1.0, 1, False)
    network = from_nir(graph, coding=coding, num_steps=4, reset="subtract", dt=1.0).network
    assert [layer.name for layer in network.layers] == ["w", "w_1", "a.b"]
