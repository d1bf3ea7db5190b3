"""The classifier in int8: what its weights are, how far it is from float, and what is refused."""

import logging
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from spiking import chain, images, residual
from torch import nn

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io import int8_classifier as int8_ann
from spikeship.deploy.io.int8_classifier import float_ann, quantize_int8
from spikeship.training.ann.network import INPUT, Layer, Network
from spikeship.training.fit.classifier import evaluate_ann

pytest.importorskip("onnxscript", reason="onnxscript is not installed; make installs it")


def quantized(network: Network, calibration: torch.Tensor) -> onnx.ModelProto:
    return int8_ann._quantized(int8_ann._exported(network), calibration)


def dense(weights: list[list[float]]) -> Network:
    layer = nn.Linear(len(weights[0]), len(weights), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights))
    return Network([Layer("classes", layer, (INPUT,))], (len(weights[0]),)).eval()


def test_weights_are_int8_with_a_scale_for_every_output_channel() -> None:
    network = chain(bias=True)
    model = quantized(network, images())
    stored = {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
    conv = next(node for node in model.graph.node if node.op_type == "Conv")
    (dequantize,) = (node for node in model.graph.node if conv.input[1] in node.output)
    integers, scales = stored[dequantize.input[0]], stored[dequantize.input[1]]
    first = network["features.0"].module
    assert isinstance(first, nn.Conv2d)
    weights = first.weight.detach().numpy()
    expected = np.abs(weights).max(axis=(1, 2, 3)) / 127
    assert scales == pytest.approx(expected, rel=1e-6) and len(set(scales.tolist())) == 6
    assert integers.dtype == np.int8
    whole = np.rint(weights / scales[:, None, None, None]).astype(np.int8)
    assert np.array_equal(integers, whole)


def test_a_dense_layer_worked_by_hand() -> None:
    """Weights of 127 and less are themselves; inputs of 0..25.5 have steps of a tenth."""
    network = dense([[127.0, -3.0], [-127.0, 100.0]])
    calibration = torch.tensor([[0.0, 25.5], [25.5, 0.0], [25.5, 25.5]])
    exact, whole = float_ann(network, 1), quantize_int8(network, calibration, 1)
    given = np.array([[1.04, 2.06]], dtype=np.float32)
    assert exact.scores(given) == pytest.approx(np.array([[125.9, 73.92]]), rel=1e-5)
    # inputs 10 and 21 tenths; results, seen in -3238.5..3238.5 and so in steps of a 255th of that
    results = np.array([[127 * 1.0 - 3 * 2.1, -127 * 1.0 + 100 * 2.1]])
    step = 2 * 3238.5 / 255
    found = whole.scores(given)
    assert found == pytest.approx(results, abs=step / 2 + 1e-3)
    assert found / step == pytest.approx(np.rint(found / step), abs=1e-4)
    assert whole.calibration_images == 3 and exact.calibration_images == 0


@pytest.mark.parametrize("network", [chain(bias=True), residual(), residual(strided=True)])
def test_float_is_the_networks_own_and_int8_close_to_it(network: Network) -> None:
    x = images(120)
    with torch.no_grad():
        expected = network(x).numpy()
    assert float_ann(network).scores(x.numpy()) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    whole = quantize_int8(network, x)
    error = np.abs(whole.scores(x.numpy()) - expected).max() / np.abs(expected).max()
    assert 1e-4 < error < 0.1  # 8 bits of each value
    own = evaluate_ann(network, x).numpy()
    assert (whole.predict(x) == own).mean() > 0.9
    assert not network.training


def test_batch_norm_is_folded_and_no_weighted_layer_stays_in_float() -> None:
    model = quantized(residual(strided=True), images())
    kinds = [node.op_type for node in model.graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv") == 4 and kinds.count("Gemm") == 1
    assert int8_ann._in_float(model) == []
    left = int8_ann._in_float(int8_ann._exported(residual()))
    assert len(left) == 4


class Depends(nn.Module):
    """What no exporter can follow: its work depends on the image's values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if float(x.sum()) > 0 else x


def test_what_cannot_be_quantized_is_refused_in_a_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    network = dense([[1.0, 2.0], [3.0, 4.0]])
    for calibration in (torch.zeros(0, 2), torch.zeros(4, 3)):
        with pytest.raises(DeployError, match="calibration images of shape"):
            quantize_int8(network, calibration)
    strange = Network([Layer("strange", Depends(), (INPUT,))], (2,)).eval()
    with pytest.raises(DeployError, match="torch cannot export") as raised:
        quantize_int8(strange, torch.zeros(4, 2))
    assert "\n" not in str(raised.value)
    weightless = Network([Layer("relu", nn.ReLU(), (INPUT,))], (2,)).eval()
    with pytest.raises(DeployError, match="holds no weights"):
        quantize_int8(weightless, torch.ones(4, 2))
    nothing = torch.full((4, 2), float("nan"))
    with pytest.raises(DeployError, match="not finite"):
        quantize_int8(network, nothing)
    monkeypatch.setattr(int8_ann, "_in_float", lambda model: ["conv1"])
    with pytest.raises(DeployError, match="leaves conv1 in float"):
        quantize_int8(network, torch.ones(4, 2))
    assert "Traceback" not in "".join(capfd.readouterr())


def test_a_missing_exporter_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*given: Any, **named: Any) -> None:
        raise ModuleNotFoundError("No module named 'onnxscript'", name="onnxscript")

    monkeypatch.setattr(torch.onnx, "export", absent)
    with pytest.raises(DeployError, match="onnxscript is not installed; pip install"):
        float_ann(dense([[1.0]]))


def test_exporter_and_quantizer_say_nothing_of_themselves(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    quantize_int8(chain(), images())
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []
