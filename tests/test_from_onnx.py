"""ONNX files as torch exports them: the same numbers as onnxruntime, and names that remain."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional

import helpers
from spikeship.training.ann.network import Network
from spikeship.training.ann.zoo import build
from spikeship.training.conversion.fold_batchnorm import fold_batchnorm
from spikeship.training.frontends.onnx import OnnxError, from_onnx
from spikeship.training.frontends.refusal import UnsupportedLayerError


class Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.relu1 = nn.ReLU()
        self.drop = nn.Dropout(0.2)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1)
        self.bn2 = nn.BatchNorm2d(out)
        self.skip = nn.Conv2d(channels, out, 1, stride) if stride > 1 else nn.Identity()
        self.relu2 = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.drop(self.relu1(self.bn1(self.conv1(x))))))
        result: Tensor = self.relu2(y + self.skip(x))
        return result


class Residual(nn.Module):
    """Batch norm and residual sums, with an identity and with a strided 1 x 1 skip."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.blocks = nn.Sequential(Block(4, 4, 1), Block(4, 6, 2))
        self.pool = nn.AvgPool2d(2)
        self.fc1 = nn.Linear(24, 9)
        self.fc2 = nn.Linear(9, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.blocks(functional.relu(self.bn(self.stem(x)))))
        x = self.fc1(x.view(x.size(0), -1))
        result: Tensor = self.fc2(functional.relu(x))
        return result


def _vgg5() -> nn.Module:
    torch.manual_seed(0)
    return build("vgg5", (1, 8, 8), 10).eval()


def _residual() -> nn.Module:
    torch.manual_seed(0)
    model = Residual().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            for value in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(value)
            nn.init.uniform_(module.running_var, 0.2, 2.0)
    return model


def _export(model: nn.Module, path: Path, *, dynamo: bool, free: bool, raw: bool = False) -> None:
    """Export as torch does by default or, ``raw``, with nothing folded."""
    settings: dict[str, Any] = {"input_names": ["x"], "dynamo": dynamo}
    if dynamo:
        settings |= {"optimize": not raw, "verbose": False}
        if free:
            settings["dynamic_shapes"] = ({0: torch.export.Dim("batch")},)
    else:
        if raw:
            settings["do_constant_folding"] = False
            settings["training"] = torch.onnx.TrainingMode.PRESERVE
        if free:
            settings["dynamic_axes"] = {"x": {0: "batch"}}
    helpers.export_onnx(model, torch.randn(2, 1, 8, 8), path, **settings)


def _same_as_onnxruntime(path: Path, network: Network) -> None:
    images = np.random.default_rng(0).normal(size=(2, *network.input_shape)).astype(np.float32)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": images})
    with torch.no_grad():
        result = network(torch.from_numpy(images)).numpy()
    assert np.abs(expected).max() > 1e-3
    assert np.abs(result - expected).max() < 1e-4


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("dynamo", [True, False])
def test_vgg5_is_read_with_its_paths(tmp_path: Path, dynamo: bool, free: bool) -> None:
    model, path = _vgg5(), tmp_path / "model.onnx"
    _export(model, path, dynamo=dynamo, free=free)
    network = from_onnx(path)
    assert network.input_shape == (1, 8, 8)
    _same_as_onnxruntime(path, network)
    leaves = [name for name, module in model.named_modules() if not list(module.children())]
    assert [layer.name for layer in network.layers] == [
        name for name in leaves if "dropout" not in name
    ]


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("dynamo", [True, False])
def test_batch_norm_and_residual_sums_are_read(
    tmp_path: Path, dynamo: bool, free: bool, raw: bool
) -> None:
    path = tmp_path / "model.onnx"
    _export(_residual(), path, dynamo=dynamo, free=free, raw=raw)
    network = from_onnx(path)
    _same_as_onnxruntime(path, network)
    _same_as_onnxruntime(path, fold_batchnorm(network).eval())
    norms = [layer.name for layer in network.layers if isinstance(layer.module, nn.BatchNorm2d)]
    inner = [f"blocks.{block}.bn{place}" for block in (0, 1) for place in (1, 2)]
    assert norms == (["bn", *inner] if raw else [])
    names = {layer.name for layer in network.layers}
    assert names > {"stem", "blocks.0.conv1", "blocks.0.relu2", "blocks.1.skip", "pool", "fc2"}
    assert network["blocks.1.skip"].inputs == ("blocks.0.relu2",)


def _write(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    weights: dict[str, np.ndarray[Any, Any]] | None = None,
    shape: Sequence[int | str | None] = ("batch", 1, 4, 4),
) -> None:
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in (weights or {}).items()],
    )
    opsets = [helper.make_opsetid("", 20)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    )


def _floats(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def test_spellings_that_torch_leaves_out_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    weights = {
        "w": _floats(3, 1, 2, 2),
        "v": _floats(12, 6),
        "b": _floats(1, 6),
        "u": _floats(6, 2),
    }
    weights |= {"n": _floats(1), "ratio": np.array(0.3, np.float32), "to": np.array([0, -1])}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], "first", strides=[2, 2]),
        helper.make_node("Dropout", ["c", "ratio"], ["d"], "drop"),
        helper.make_node("AveragePool", ["d"], ["p"], kernel_shape=[1, 1]),
        helper.make_node("Relu", ["p"], ["q"]),
        helper.make_node("Relu", ["q"], ["q2"]),
        helper.make_node("Reshape", ["q2", "to"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["m"], "second"),
        helper.make_node("Add", ["b", "m"], ["s"], "bias"),
        helper.make_node("Flatten", ["s"], ["f"], "again"),
        helper.make_node("Gemm", ["f", "u", "n"], ["g"], "third"),
    ]
    _write(path, nodes, weights)
    network = from_onnx(path)
    _same_as_onnxruntime(path, network)
    names = [layer.name for layer in network.layers]
    assert names[:3] == ["first", "drop", "averagepool"]
    assert names[3:] == ["relu", "relu_1", "reshape", "second", "third"]
    drop = network["drop"].module
    assert isinstance(drop, nn.Dropout)
    assert drop.p == pytest.approx(0.3)


def test_a_sum_is_not_hidden_from_its_other_readers(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"], "flat"),
        helper.make_node("MatMul", ["f", "v"], ["m"], "dense"),
        helper.make_node("Identity", ["m"], ["same"], "same"),
        helper.make_node("Add", ["same", "b"], ["s"], "bias"),
        helper.make_node("Add", ["s", "m"], ["y"], "sum"),
    ]
    _write(path, nodes, {"v": _floats(16, 6), "b": _floats(6)})
    # as a bias of the layer, the constant would arrive in both branches
    with pytest.raises(UnsupportedLayerError, match="node 'bias' .*adds a constant"):
        from_onnx(path)


def test_everything_unknown_is_listed_at_once(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    weights = {"w": _floats(2, 1, 3, 3), "v": _floats(2, 2, 3, 3), "n": _floats(8, 8)}
    weights |= {"s": _floats(2, 1, 1), "norm": _floats(2), "to": np.array([-1, 4])}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], "conv", auto_pad="SAME_UPPER"),
        helper.make_node("Sigmoid", ["a"], ["b"], "sigmoid"),
        helper.make_node("Conv", ["b", "v"], ["c"], "uneven", pads=[1, 1, 0, 0]),
        helper.make_node("MaxPool", ["c"], ["d"], "pool", kernel_shape=[2, 2], ceil_mode=1),
        helper.make_node("AveragePool", ["d"], ["e"], "ceil", kernel_shape=[2, 2], ceil_mode=1),
        helper.make_node("AveragePool", ["e"], ["f"], "pads", kernel_shape=[3, 3], pads=[1] * 4),
        helper.make_node("Relu", ["f"], ["g"], "fine"),
        helper.make_node("Add", ["g", "s"], ["h"], "constant"),
        helper.make_node("Add", ["h", "h"], ["i"], "twice"),
        helper.make_node("Own", ["i"], ["j"], "own", domain="some.where"),
        helper.make_node(
            "BatchNormalization", ["j", *["norm"] * 4], ["k"], "mode", training_mode=1
        ),
        helper.make_node("Flatten", ["k"], ["l"], "axis", axis=2),
        helper.make_node("Gemm", ["l", "n"], ["m"], "alpha", alpha=0.5),
        helper.make_node("MatMul", ["m", "m"], ["o"], "product"),
        helper.make_node("Reshape", ["x", "to"], ["q"], "shape"),
        helper.make_node("Add", ["o", "q"], ["y"], "sum"),
    ]
    _write(path, nodes, weights)
    with pytest.raises(UnsupportedLayerError) as caught:
        from_onnx(path)
    message = str(caught.value)
    assert "\n" not in message
    wanted = {node.name for node in nodes} - {"fine", "sum"}
    assert {name for name in wanted | {"fine", "sum"} if f"node '{name}'" in message} == wanted
    for part in (
        "auto_pad is 'SAME_UPPER'",
        "(MaxPool): has ceil_mode",
        "ceil_mode is 1",
        "(Own)",
    ):
        assert part in message


@pytest.mark.parametrize("dynamo", [True, False])
def test_what_follows_from_a_refused_layer_is_not_listed(tmp_path: Path, dynamo: bool) -> None:
    model, path = _residual(), tmp_path / "model.onnx"
    model.pool = nn.Sequential(nn.Tanh(), nn.AvgPool2d(2))
    _export(model, path, dynamo=dynamo, free=True, raw=True)
    with pytest.raises(UnsupportedLayerError, match=r"\(Tanh\): not known") as caught:
        from_onnx(path)
    assert str(caught.value).count("node '") == 1


class Pooling(nn.Module):
    """Every way of averaging over positions, and a max pool."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1)
        self.pool = pool
        self.conv2 = nn.Conv2d(3, 6, 3, padding=1)
        self.parts = nn.AdaptiveAvgPool2d(2)
        self.whole = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.parts(functional.relu(self.conv2(self.pool(functional.relu(self.conv1(x))))))
        result: Tensor = self.fc(x.mean((2, 3)) + self.whole(x).flatten(1))
        return result


@pytest.mark.parametrize("dynamo", [True, False])
def test_averages_over_positions_are_read(tmp_path: Path, dynamo: bool) -> None:
    torch.manual_seed(0)
    path = tmp_path / "model.onnx"
    _export(Pooling(nn.AvgPool2d(2)).eval(), path, dynamo=dynamo, free=True)
    network = from_onnx(path)
    _same_as_onnxruntime(path, network)
    kernels = [
        layer.module.kernel_size
        for layer in network.layers
        if isinstance(layer.module, nn.AvgPool2d)
    ]
    assert [k if isinstance(k, int) else k[0] for k in kernels] == [2, 2, 2, 2]


@pytest.mark.parametrize("dynamo", [True, False])
def test_max_pools_are_kept_or_averaged(tmp_path: Path, dynamo: bool) -> None:
    torch.manual_seed(0)
    path, wanted = tmp_path / "model.onnx", tmp_path / "wanted.onnx"
    model = Pooling(nn.MaxPool2d(2)).eval()
    _export(model, path, dynamo=dynamo, free=True)
    _same_as_onnxruntime(path, from_onnx(path))
    model.pool = nn.MaxPool2d(3, 2, padding=1)
    _export(model, wanted, dynamo=dynamo, free=True)
    _same_as_onnxruntime(wanted, from_onnx(wanted))
    model.pool = nn.AvgPool2d(2)
    _export(model, wanted, dynamo=dynamo, free=True)
    _same_as_onnxruntime(wanted, from_onnx(path, max_pool="average"))
    model.pool = nn.MaxPool2d(2, 2, ceil_mode=True)
    _export(model, path, dynamo=dynamo, free=True)
    for how, reason in (("average", "no average stands for"), ("keep", "has ceil_mode")):
        with pytest.raises(UnsupportedLayerError, match=reason):
            from_onnx(path, max_pool=how)  # type: ignore[arg-type]


def test_means_over_other_axes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    axes = {"channel": np.array([1]), "all": np.array([1, 2, 3])}
    nodes = [
        helper.make_node("ReduceMean", ["x", "channel"], ["a"], "first"),
        helper.make_node("ReduceMean", ["a", "all"], ["y"], "second", keepdims=0),
    ]
    _write(path, nodes, axes)
    with pytest.raises(UnsupportedLayerError, match="only over height and width") as caught:
        from_onnx(path)
    assert "node 'first'" in str(caught.value) and "node 'second'" in str(caught.value)


def _relu(inputs: Sequence[str] = ("x",)) -> onnx.NodeProto:
    return helper.make_node("Relu", list(inputs), ["y"], "relu")


def _two_inputs(path: Path) -> None:
    _write(path, [helper.make_node("Add", ["x", "z"], ["y"], "sum")])
    model = onnx.load(path)
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1, 4]))
    onnx.save(model, path)


def _truncated(path: Path) -> None:
    _export(_vgg5(), path, dynamo=False, free=True)
    path.write_bytes(path.read_bytes()[:-5000])


def _without_its_weights(path: Path) -> None:
    _export(_vgg5(), path, dynamo=True, free=True)
    path.with_name(f"{path.name}.data").unlink()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "is missing"),
        (lambda path: path.write_bytes(b""), "not an ONNX file"),
        (lambda path: path.write_bytes(b"nonsense" * 99), "not a whole ONNX file"),
        (lambda path: path.mkdir(), "not a whole ONNX file"),
        (_truncated, "not a whole ONNX file"),
        (_without_its_weights, "model.onnx.data"),
        (_two_inputs, "has 2 inputs"),
        (lambda path: _write(path, [_relu()], shape=("n", 1, "h", "w")), "no fixed shape"),
        (lambda path: _write(path, [_relu(["other"])]), "node 'relu' .*reads 'other'"),
        (
            lambda path: _write(
                path,
                [helper.make_node("Conv", ["x", "w"], ["y"], "conv")],
                {"w": _floats(2, 3, 1, 1)},
            ),
            "node 'conv' .*does not fit shape",
        ),
        (
            lambda path: _write(
                path,
                [helper.make_node("MatMul", ["x", "w"], ["y"], "dense")],
                {"w": _floats(4, 4)},
            ),
            "put a Flatten before",
        ),
    ],
)
def test_unusable_files_are_refused_in_one_line(
    tmp_path: Path, make: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "model.onnx"
    make(path)
    with pytest.raises(ValueError, match=reason) as caught:
        from_onnx(path)
    assert isinstance(caught.value, OnnxError | UnsupportedLayerError)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
