"""Your own PyTorch module, trained, converted, fine-tuned, quantized, run on real Lava, exported.

python examples/01_your_own_module_to_lava.py [DIRECTORY]
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

import spikeship as ss


class Classifier(nn.Module):
    """Any feed-forward module will do: this one has batch norm and a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.pool = nn.AvgPool2d(2)
        self.conv1 = nn.Conv2d(12, 12, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(12, 12, 3, padding=1)
        self.relu2 = nn.ReLU()
        self.fc = nn.Linear(12 * 4 * 4, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Return a score for each class."""
        x = self.pool(self.stem(x))
        x = self.relu2(self.conv2(self.relu1(self.conv1(x))) + x)
        return self.fc(torch.flatten(x, 1))


def main(out: Path) -> None:
    """Go the whole way on scikit-learn's handwritten digits."""
    torch.manual_seed(0)
    trained = ss.train(Classifier(), "digits", epochs=15)
    snn = ss.convert(trained, "digits", num_steps=16)
    tuned = ss.finetune(snn, "digits", epochs=3)
    net = ss.quantize(tuned, chip="loihi2")

    print(ss.simulate(net, "digits"))
    found = ss.verify(net, "digits", limit=3)
    print(f"{found.spikes_compared} spikes compared with Lava, equal: {found.spikes_equal}")
    print(f"the same network as Lava Processes: {ss.export(net, out / 'lava')}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
