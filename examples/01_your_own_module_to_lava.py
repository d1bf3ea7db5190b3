"""Your own PyTorch module, trained, converted, fine-tuned, quantized, run on real Lava, exported.

python examples/01_your_own_module_to_lava.py [DIRECTORY]
"""

import sys
from pathlib import Path

import torch
from torch import Tensor, nn

from spikeship.deploy.compiler.quantize import quantize
from spikeship.deploy.export.lava import export_lava
from spikeship.deploy.io.inputs import messages_of, of_set
from spikeship.deploy.run.verify import verify
from spikeship.training.conversion.convert import convert
from spikeship.training.data import load as data
from spikeship.training.finetuning.stdb import finetune, stdb_config
from spikeship.training.fit.classifier import train_ann
from spikeship.training.fit.config import FitConfig
from spikeship.training.frontends.trace import trace
from spikeship.training.nir_io.to_nir import to_nir


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
    digits = data.load("digits")
    train, test = of_set(digits, split="train"), of_set(digits, split="test")
    labels = torch.from_numpy(train.labels)

    torch.manual_seed(0)
    model = Classifier()
    train_ann(model, digits, FitConfig(epochs=15, learning_rate=0.05), quiet=True)
    network = trace(model.eval(), digits.input_shape)

    snn = convert(network, train.values[:256], num_steps=16, data=train.data)
    snn, _ = finetune(
        snn,
        lambda indices: train.values[indices],
        labels,
        stdb_config(digits.input_shape, "linear", epochs=3),
        surrogate_name="linear",
        quiet=True,
    )

    graph = quantize(to_nir(snn), chip="loihi2")
    found = verify(graph, messages_of(graph, test.first(3), seed=0), "lava")
    print(f"{found.spikes_compared} values compared with Lava, equal: {found.spikes_equal}")
    print(f"the same network as Lava Processes: {export_lava(graph, out / 'lava')}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
