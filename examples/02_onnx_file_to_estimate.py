"""An ONNX file that another program wrote, to accuracy in integers and an estimate on both chips.

    python examples/02_onnx_file_to_estimate.py [FILE.onnx]

Without a file, a small classifier is trained and exported first.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

from spikeship.deploy.compiler.quantize import quantize
from spikeship.deploy.io.inputs import of_set
from spikeship.deploy.run.evaluate import evaluate_graph, wilson
from spikeship.hw_models import chips
from spikeship.hw_models.estimate import estimate
from spikeship.hw_models.events.traffic import TrafficRecorder
from spikeship.training.conversion.convert import convert
from spikeship.training.data import load as data
from spikeship.training.fit.classifier import train_ann
from spikeship.training.fit.config import FitConfig
from spikeship.training.frontends.onnx import from_onnx
from spikeship.training.nir_io.to_nir import to_nir


def exported(path: Path) -> Path:
    """Train a small classifier on the digits and let torch export it."""
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(24 * 2 * 2, 10),
    )  # fmt: skip
    digits = data.load("digits")
    torch.manual_seed(0)
    train_ann(model, digits, FitConfig(epochs=20, learning_rate=0.05), quiet=True)
    torch.onnx.export(model.eval(), (torch.zeros(1, 1, 8, 8),), path, dynamo=True, verbose=False)
    return path


def main(path: Path) -> None:
    """Read the file, convert, quantize, count and estimate."""
    digits = data.load("digits")
    train, test = of_set(digits, split="train"), of_set(digits, split="test")
    snn = convert(from_onnx(path), train.values[:256], num_steps=32, data=train.data)
    graph = quantize(to_nir(snn))
    traffic = TrafficRecorder(graph)
    found = evaluate_graph(graph, test, seed=0, recorder=traffic)
    correct = test.correct(found.predictions)
    low, high = wilson(correct, len(test.values))
    print(f"in integers: {correct} of {len(test.values)} right (95 %: {low:.3f} to {high:.3f})")
    for name in ("loihi1", "loihi2"):
        cost = estimate(graph, found.counts, chips.get(name), traffic=traffic.traffic())
        total = cost.energy.dynamic + cost.energy.static
        print(
            f"{name}, estimated per image: {total:.2e} J ({cost.energy.low:.1e} to "
            f"{cost.energy.high:.1e}), {cost.latency_s:.2e} s, {cost.placement.cores} cores, "
            f"{cost.rates['synops']['effective']:.0f} synaptic operations"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(exported(Path(folder) / "digits.onnx"))
