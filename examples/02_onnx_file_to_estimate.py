"""An ONNX file that another program wrote, to accuracy in integers and an estimate on both chips.

    python examples/02_onnx_file_to_estimate.py [FILE.onnx]

Without a file, a small classifier is trained and exported first.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import nn

import spikeship as ss


def exported(path: Path) -> Path:
    """Train a small classifier on the digits and let torch export it."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 12, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Conv2d(12, 24, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2),
        nn.Flatten(), nn.Linear(24 * 2 * 2, 10),
    )  # fmt: skip
    ss.train(model, "digits", epochs=20)
    torch.onnx.export(model.eval(), (torch.zeros(1, 1, 8, 8),), path, dynamo=True, verbose=False)
    return path


def main(path: Path) -> None:
    """Read the file, convert, quantize, count and estimate."""
    net = ss.quantize(ss.convert(path, "digits", num_steps=32))
    print(ss.simulate(net, "digits"))
    for chip in ("loihi1", "loihi2"):
        cost = ss.estimate(net, "digits", chip=chip)
        total = cost.energy.dynamic + cost.energy.static
        print(
            f"{chip}, estimated per image: {total:.2e} J ({cost.energy.low:.1e} to "
            f"{cost.energy.high:.1e}), {cost.latency_s:.2e} s, {cost.placement.cores} cores, "
            f"{cost.rates['synops']['effective']:.0f} synaptic operations"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(exported(Path(folder) / "digits.onnx"))
