"""The classifier in 8-bit integers on ONNX Runtime: what a spiking network has to beat."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.deploy.errors import DeployError
from spikeship.hw_models.atomic import scratch
from spikeship.hw_models.errors import first_line
from spikeship.training.ann.network import Network
from spikeship.training.data.load import Samples

BATCH = 256
CALIBRATION_BATCH = 16
WEIGHTED = ("Conv", "Gemm", "MatMul")


@dataclass(frozen=True, eq=False)
class OnnxAnn:
    """A classifier that ONNX Runtime runs on the CPU.

    Attributes:
        session: ONNX Runtime's.
        entry: name of its input.
        calibration_images: how many images its ranges were observed on; 0 in float.
    """

    session: Any
    entry: str
    calibration_images: int = 0

    def scores(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class scores (images, classes) of normalised images (images, *input shape)."""
        found: NDArray[np.float32] = self.session.run(None, {self.entry: values})[0]
        return found

    def predict(self, images: Samples) -> NDArray[np.int64]:
        """Class of each normalised image (images, *input shape)."""
        parts = [
            self.scores(images[begin : begin + BATCH].numpy()).argmax(axis=1)
            for begin in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts).astype(np.int64)


def float_ann(network: Network, threads: int | None = None) -> OnnxAnn:
    """The classifier in float32, exported with torch's exporter.

    Args:
        network: in eval mode, on the CPU.
        threads: of a run; torch's number if None.

    Raises:
        DeployError: the exporter is not installed or cannot export the network.
    """
    return _session(_exported(network), threads, 0)


def quantize_int8(network: Network, calibration: Samples, threads: int | None = None) -> OnnxAnn:
    """The classifier with int8 weights, one scale a channel, and int8 activations.

    ONNX Runtime's static quantization: ranges are the smallest and largest values observed on the
    calibration images, biases and sums have 32 bits. The exporter folds batch norm into weights.

    Args:
        network: in eval mode, on the CPU.
        calibration: normalised training images (images, *input shape), float32.
        threads: of a run; torch's number if None.

    Raises:
        DeployError: the network cannot be exported, or not all its weighted layers be quantized,
            or calibration images that do not fit.
    """
    if len(calibration) == 0 or tuple(calibration.shape[1:]) != network.input_shape:
        raise DeployError(
            f"int8: calibration images of shape {tuple(calibration.shape)}, the network takes "
            f"(images, {', '.join(map(str, network.input_shape))}); give some of its training set"
        )
    if not all(bool(batch.isfinite().all()) for batch in _batches(calibration)):
        raise DeployError("int8: calibration images hold values that are not finite; correct them")
    exported = _exported(network)
    if not any(node.op_type in WEIGHTED for node in exported.graph.node):
        raise DeployError("int8: the network holds no weights; leave the int8 row out")
    with _refusing("ONNX Runtime cannot quantize the network"), _quiet():
        quantized = _quantized(exported, calibration)
    left = _in_float(quantized)
    if left:
        raise DeployError(
            f"int8: ONNX Runtime leaves {', '.join(left)} in float; compare with the float "
            "network instead"
        )
    return _session(quantized, threads, len(calibration))


def _exported(network: Network) -> onnx.ModelProto:
    training = network.training
    sample = torch.zeros(2, *network.input_shape)
    try:
        with _refusing("torch cannot export the network to ONNX"), _quiet():
            program = torch.onnx.export(
                network.eval(),
                (sample,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
            assert program is not None  # asked for the new exporter
            model: onnx.ModelProto = program.model_proto
    finally:
        network.train(training)
    return model


def _quantized(model: onnx.ModelProto, calibration: Samples) -> onnx.ModelProto:
    from onnxruntime import quantization

    entry = model.graph.input[0].name
    with scratch("int8") as folder:
        exact, made = folder / "float.onnx", folder / "int8.onnx"
        onnx.save(model, exact)
        quantization.quantize_static(
            exact,
            made,
            _reader(entry, calibration),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QInt8,
            weight_type=quantization.QuantType.QInt8,
            calibrate_method=quantization.CalibrationMethod.MinMax,
        )
        return onnx.load(made)


def _reader(entry: str, calibration: Samples) -> Any:
    """The images as ONNX Runtime asks for them: batch after batch, then None."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches = _batches(calibration)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            batch = next(self.batches, None)
            return None if batch is None else {entry: batch.numpy()}

    return Reader()


def _batches(images: Samples) -> Iterator[Tensor]:
    for begin in range(0, len(images), CALIBRATION_BATCH):
        yield images[begin : begin + CALIBRATION_BATCH]


def _in_float(model: onnx.ModelProto) -> list[str]:
    """Weighted layers of a quantized model whose image or weights are not integers."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in WEIGHTED
        and any(makers.get(name) != "DequantizeLinear" for name in node.input[:2])
    ]


def _session(model: onnx.ModelProto, threads: int | None, images: int) -> OnnxAnn:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads or torch.get_num_threads()
    settings.log_severity_level = 3  # errors
    with _refusing("ONNX Runtime cannot run the network"):
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), settings, providers=["CPUExecutionProvider"]
        )
    return OnnxAnn(session, model.graph.input[0].name, images)


@contextlib.contextmanager
def _refusing(what: str) -> Iterator[None]:
    """Turn whatever is raised into one line; exporters and runtimes share no base class."""
    try:
        yield
    except ImportError as error:
        raise DeployError(
            f"int8: {what}: {error.name} is not installed; pip install 'spikeship[int8]'"
        ) from error
    except Exception as error:
        raise DeployError(f"int8: {what} ({first_line(error)}); leave the int8 row out") from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep in what exporter and quantizer print, log and warn of themselves."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
