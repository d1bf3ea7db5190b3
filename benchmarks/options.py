"""What each option of conversion and fine-tuning does to accuracy and synaptic operations.

``python benchmarks/options.py [--out DIR] [--json PATH|-] [--only convert|finetune]``

A narrow VGG5 (a quarter of the paper's channels and units) on Fashion-MNIST: three ANNs that differ
in their activation, converted in every way, and one of the conversions fine-tuned in every way, an
epoch over the same training images each. Every row is quantized to 8-bit Loihi 2 integers and run
by the simulator on the same test images: accuracy, and effective synaptic operations an image. The
ANNs are kept in DIR. Needs $SPIKESHIP_DATA.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import common
import torch
from torch import Tensor

from spikeship.deploy.compiler.quantize import quantize, training_room
from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.inputs import Images, of_set
from spikeship.deploy.run.evaluate import evaluate_graph
from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.checkpoint import load_ann, save_ann
from spikeship.training.ann.network import Network
from spikeship.training.ann.zoo import build
from spikeship.training.conversion.convert import convert
from spikeship.training.data import load as datasets
from spikeship.training.data.load import DataSet
from spikeship.training.finetuning.stdb import finetune, stdb_config
from spikeship.training.finetuning.tuning import Tuning
from spikeship.training.fit.classifier import evaluate_ann, train_ann
from spikeship.training.fit.config import FitConfig
from spikeship.training.frontends.trace import trace
from spikeship.training.nir_io.to_nir import to_nir
from spikeship.training.quantization.qat import quantization_aware
from spikeship.training.snn.spiking_network import SpikingNetwork

ARCH, WIDTH, EPOCHS = "vgg5", 0.25, 4
TEST_IMAGES, TUNED_ON = 2000, 6000
ACTIVATIONS: dict[str, Callable[[], torch.nn.Module]] = {
    "relu": torch.nn.ReLU,
    "clip": lambda: ClippedReLU(2.0),
    "qcfs:8": lambda: QCFS(2.0, 8),
}


@dataclass(frozen=True)
class Row:
    """One way to convert, and to fine-tune where ``tuning`` is not None."""

    name: str
    steps: tuple[int, ...] = (4, 8, 16)
    ann: str = "relu"
    conversion: dict[str, Any] = field(default_factory=dict)
    tuning: dict[str, Any] | None = None


DIRECT = {"encoding": "direct"}
# where fine-tuning starts: far enough from the ANN for options to differ
BASE = DIRECT | {"balance": "percentile:99.7"}
CONVERSIONS = (
    Row("max, Poisson input"),
    Row("max", conversion=DIRECT),
    Row("max, factor 1", conversion=DIRECT | {"factor": 1.0}),
    Row("max, per channel", conversion=DIRECT | {"per_channel": True}),
    Row("percentile:99.7", conversion=BASE),
    Row("percentile:99.7, V0 = theta/2", conversion=BASE | {"v0": "half"}),
    Row("mse", conversion=DIRECT | {"balance": "mse"}),
    Row("mse, V0 = theta/2", conversion=DIRECT | {"balance": "mse", "v0": "half"}),
    Row(
        "mse, V0 = theta/2, per channel",
        conversion=DIRECT | {"balance": "mse", "v0": "half", "per_channel": True},
    ),
    Row("mse, biases calibrated", conversion=DIRECT | {"balance": "mse", "calibrate": "bias"}),
    Row("mse, V0 calibrated", conversion=DIRECT | {"balance": "mse", "calibrate": "v0"}),
    Row("analytic, clipped ANN", ann="clip", conversion=DIRECT | {"balance": "analytic"}),
    Row("analytic, QCFS ANN", ann="qcfs:8", conversion=DIRECT | {"balance": "analytic"}),
)
TUNINGS = (
    Row("converted only", (8,), conversion=BASE),
    Row("linear (default)", (8,), conversion=BASE, tuning={}),
    Row("STDB slope", (8,), conversion=BASE, tuning={"surrogate_name": "stdb"}),
    Row("ATan slope", (8,), conversion=BASE, tuning={"surrogate_name": "atan"}),
    Row("triangle slope", (8,), conversion=BASE, tuning={"surrogate_name": "triangle"}),
    Row("sigmoid slope", (8,), conversion=BASE, tuning={"surrogate_name": "sigmoid"}),
    Row("attached reset", (8,), conversion=BASE, tuning={"attached": True}),
    Row("learnt thresholds", (8,), conversion=BASE, tuning={"learn_threshold": True}),
    Row(
        "learnt thresholds and leaks, per channel",
        (8,),
        conversion=BASE,
        tuning={"learn_threshold": True, "learn_leak": True, "learn_per": "channel"},
    ),
    Row("TET loss", (8,), conversion=BASE, tuning={"loss": "tet"}),
    Row("distillation", (8,), conversion=BASE, tuning={"distill": 0.5}),
    Row("T from 16 down to 8", (8,), conversion=BASE, tuning={"start_steps": 16, "epochs": 2}),
    Row("synop weight 0.1", (8,), conversion=BASE, tuning={"synop_weight": 0.1}),
    Row("synop weight 0.3", (8,), conversion=BASE, tuning={"synop_weight": 0.3}),
    Row("synop weight 1", (8,), conversion=BASE, tuning={"synop_weight": 1.0}),
    Row("in 8-bit integers", (8,), conversion=BASE, tuning={"bits": 8}),
    Row("4 bits, rounded afterwards", (8,), conversion=BASE, tuning={"round_to": 4}),
    Row("4 bits, fine-tuned in integers", (8,), conversion=BASE, tuning={"bits": 4}),
)


def trained(activation: str, data: DataSet, out: Path) -> tuple[Network, float]:
    """The ANN with such activations, and its accuracy on the test images."""
    path = out / f"ann-{activation.replace(':', '')}.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        shape = data.input_shape
        model = build(ARCH, shape, data.classes, width=WIDTH, activation=ACTIVATIONS[activation])
        config = FitConfig(epochs=EPOCHS, learning_rate=2e-2, schedule="cosine", device="cpu")
        train_ann(model, data, config, state_path=path.with_suffix(".state"))
        save_ann(
            path,
            model,
            arch=ARCH,
            input_shape=shape,
            classes=data.classes,
            data={"name": data.name, "mean": list(data.mean), "std": list(data.std)},
            provenance=config.recipe(),
            width=WIDTH,
        )
        path.with_suffix(".state").unlink()
    found = load_ann(path)
    test = of_set(data, limit=TEST_IMAGES)
    right = test.correct(evaluate_ann(found.model, test.values).numpy())
    assert right is not None
    return trace(found.model, found.input_shape), right / TEST_IMAGES


class Bench:
    """The data and the networks that all rows share."""

    def __init__(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        data = datasets.load("fashion-mnist")
        self.test: Images = of_set(data, limit=TEST_IMAGES)
        self.train: Images = of_set(data, split="train", limit=TUNED_ON)
        self.peak = self.train.peak()
        self.anns: dict[str, Network] = {}
        self.accuracy: dict[str, float] = {}
        for activation in ACTIVATIONS:
            self.anns[activation], self.accuracy[activation] = trained(activation, data, out)

    def run(self, row: Row, steps: int) -> dict[str, Any]:
        """Do as a row says; what the integers then do on the test images."""
        began = time.perf_counter()
        images = self.train.values[:128]
        snn = convert(self.anns[row.ann], images, num_steps=steps, peak=self.peak, **row.conversion)
        bits = 8
        if row.tuning is not None:
            options = dict(row.tuning)
            bits = options.get("bits") or options.pop("round_to", 8)
            snn = self._tuned(snn, row.ann, options)
        graph = quantize(to_nir(snn), weight_bits=bits)
        result = evaluate_graph(graph, self.test, seed=0)
        right = self.test.correct(result.predictions)
        assert right is not None and result.counts is not None
        return {
            "option": row.name,
            "ann": row.ann,
            "num_steps": steps,
            "accuracy": right / TEST_IMAGES,
            "synops": result.counts.per_inference()["synops"]["effective"],
            "seconds": time.perf_counter() - began,
        }

    def _tuned(self, snn: SpikingNetwork, ann: str, options: dict[str, Any]) -> SpikingNetwork:
        surrogate = options.pop("surrogate_name", "linear")
        bits, epochs = options.pop("bits", None), options.pop("epochs", 1)
        if bits is not None:
            fixed = quantize(to_nir(snn), weight_bits=bits, headroom=training_room(bits))
            snn = quantization_aware(snn, fixed)

        def images_of(indices: Tensor) -> Tensor:
            return self.train.values[indices]

        labels = torch.from_numpy(self.train.labels)
        shape = snn.network.input_shape
        config = stdb_config(shape, surrogate, epochs=epochs, device="cpu")
        teacher = self.anns[ann] if "distill" in options else None
        tuned, _ = finetune(
            snn,
            images_of,
            labels,
            config,
            surrogate_name=surrogate,
            tuning=Tuning(**options),
            teacher=teacher,
            quiet=True,
        )
        return tuned


def main() -> int:
    """Run all rows and print them."""
    parser = common.parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("options-out"))
    parser.add_argument("--only", choices=("convert", "finetune"))
    arguments = parser.parse_args()
    return common.conclude(
        "options", arguments.json, lambda say: (everything(arguments, say), common.DONE)
    )


def everything(arguments: argparse.Namespace, say: common.Say) -> dict[str, Any]:
    """Run the rows that were asked for.

    Raises:
        DataError: there are no images.
    """
    bench = Bench(arguments.out)
    anns = ", ".join(f"{name} {value:.2%}" for name, value in bench.accuracy.items())
    say(f"ANNs on {TEST_IMAGES} test images: {anns}")
    rows = []
    wanted = {"convert": CONVERSIONS, "finetune": TUNINGS, None: CONVERSIONS + TUNINGS}
    for row in wanted[arguments.only]:
        for steps in row.steps:
            try:
                rows.append(bench.run(row, steps))
            except DeployError as error:
                print(f"options: {row.name}, T = {steps}: {error}", file=sys.stderr)
                continue
            accuracy, synops = rows[-1]["accuracy"], rows[-1]["synops"]
            say(f"| {row.name} | {steps} | {accuracy:.2%} | {synops:,.0f} |")
    return {"anns": bench.accuracy, "images": TEST_IMAGES, "rows": rows}


if __name__ == "__main__":
    sys.exit(main())
