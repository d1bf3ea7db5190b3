"""The networks that conventional hardware runs, each as one thing to time and to score."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.deploy.analysis.gpu_row import tensor_float
from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import Images
from spikeship.deploy.io.int8_classifier import OnnxAnn, float_ann, quantize_int8
from spikeship.training.snn.encoding import encode
from spikeship.training.snn.observe import fitting_batch
from spikeship.training.snn.spiking_network import SpikingNetwork

DIFFERENT = 64  # images that a batch repeats
AT_ONCE = 250  # images whose classes are found at a time
LARGEST_ON_CPU = 256


@dataclass(frozen=True, eq=False)
class Networks:
    """What is measured, and on what.

    Attributes:
        ann: the classifier. snn: the float spiking network, or None.
        images: test images, in memory. calibration: training images, for int8.
        name: of the networks, as the result says it.
    """

    ann: Ann
    snn: SpikingNetwork | None
    images: Images
    calibration: Tensor
    name: str


@dataclass(frozen=True, eq=False)
class Subject:
    """One network in one precision on one processor.

    Attributes:
        workload: ``ann`` or ``snn``. precision: of its arithmetic.
        runtime: ``torch`` or ``onnxruntime``. processor: ``cpu`` or ``cuda``.
        prepare: input of images by their places, where the network wants it.
        classify: class scores (images, classes) of such an input.
        largest: batch not to go beyond.
        setting: what it runs within.
        num_steps: T of a spiking network.
    """

    workload: str
    precision: str
    runtime: str
    processor: str
    prepare: Callable[[Tensor], Tensor]
    classify: Callable[[Tensor], Tensor]
    largest: int
    setting: Callable[[], AbstractContextManager[None]] = nullcontext
    num_steps: int | None = None

    def work(self, images: Images, batch: int) -> Callable[[], None]:
        """What does one batch, its input already in place."""
        different = min(DIFFERENT, batch, len(images.values))
        few = self.prepare(torch.arange(different))
        given = few[(torch.arange(batch) % different).to(few.device)]

        @torch.inference_mode()
        def run() -> None:
            self.classify(given)

        return run

    @torch.inference_mode()
    def predictions(self, images: Images) -> NDArray[np.int64]:
        """Class of every image."""
        at_once = min(AT_ONCE, self.largest)
        parts = torch.arange(len(images.values)).split(at_once)
        with self.setting():
            scores = [self.classify(self.prepare(part)) for part in parts]
        return np.asarray(torch.cat(scores).argmax(1).cpu().numpy(), dtype=np.int64)


def on_cuda(networks: Networks, largest: int) -> list[Subject]:
    """The ANN in float32, TensorFloat32 and float16, and the spiking network in float32."""
    subjects = [
        _ann(networks, "float32", "cuda", largest, torch.float32, partial(tensor_float, False)),
        _ann(networks, "tf32", "cuda", largest, torch.float32, partial(tensor_float, True)),
        _ann(networks, "float16", "cuda", largest, torch.float16, nullcontext),
    ]
    if networks.snn is not None:
        subjects.append(_snn(networks, networks.snn, "cuda", largest, partial(tensor_float, False)))
    return subjects


def on_cpu(networks: Networks, threads: int, note: Callable[[str], None]) -> list[Subject]:
    """The ANN in torch, in ONNX Runtime and there in int8, and the spiking network.

    Args:
        networks: what to measure.
        threads: of the CPU.
        note: is told what cannot be exported or quantized, which is left out.
    """
    network = networks.ann.network
    subjects = [_ann(networks, "float32", "cpu", LARGEST_ON_CPU, torch.float32, nullcontext)]
    for precision, make in (
        ("float32", partial(float_ann, network, threads)),
        ("int8", partial(quantize_int8, network, networks.calibration, threads)),
    ):
        try:
            subjects.append(_onnx(networks, make(), precision))
        except DeployError as error:
            note(f"ann in {precision} by onnxruntime on cpu: {error}")
    if networks.snn is not None:
        most = min(LARGEST_ON_CPU, fitting_batch(networks.snn.network, networks.snn.num_steps))
        subjects.append(_snn(networks, networks.snn, "cpu", most, nullcontext))
    return subjects


def _ann(
    networks: Networks,
    precision: str,
    processor: str,
    largest: int,
    dtype: torch.dtype,
    setting: Callable[[], AbstractContextManager[None]],
) -> Subject:
    network = deepcopy(networks.ann.network).eval().to(processor, dtype)
    values = networks.images.values

    def prepare(places: Tensor) -> Tensor:
        return values[places].to(processor, dtype)

    return Subject("ann", precision, "torch", processor, prepare, network, largest, setting)


def _snn(
    networks: Networks,
    snn: SpikingNetwork,
    processor: str,
    largest: int,
    setting: Callable[[], AbstractContextManager[None]],
) -> Subject:
    network = deepcopy(snn).eval().to(processor)
    source = networks.images.source(snn.coding.encoding)

    def prepare(places: Tensor) -> Tensor:
        messages = encode(
            source[places], snn.coding, snn.num_steps, indices=networks.images.indices[places]
        )
        return messages.to(processor)

    return Subject(
        "snn",
        "float32",
        "torch",
        processor,
        prepare,
        network,
        largest,
        setting,
        num_steps=snn.num_steps,
    )


def _onnx(networks: Networks, ann: OnnxAnn, precision: str) -> Subject:
    values = networks.images.values

    def classify(given: Tensor) -> Tensor:
        return torch.from_numpy(ann.scores(given.numpy()))

    return Subject(
        "ann", precision, "onnxruntime", "cpu", values.__getitem__, classify, LARGEST_ON_CPU
    )
