"""The paper's networks: size, shape, names, first weights."""

import pytest
import torch
from torch import nn

from spikeship.training.models import build


def _weights(model: nn.Module) -> int:
    return sum(value.numel() for value in model.parameters())


def test_vgg5_has_the_papers_size_and_order() -> None:
    model = build("vgg5", (3, 32, 32), 10)
    assert _weights(model) == 50_595_520
    leaves = [name for name, module in model.named_modules() if not list(module.children())]
    assert leaves == [
        *(f"features.{name}" for name in ("conv1", "relu1", "pool1", "conv2", "relu2", "dropout2")),
        *(f"features.{name}" for name in ("conv3", "relu3", "pool2")),
        *(f"classifier.{name}" for name in ("flatten", "fc1", "relu1", "dropout1")),
        *(f"classifier.{name}" for name in ("fc2", "relu2", "dropout2", "fc3")),
    ]
    assert not any(name.endswith("bias") for name in model.state_dict())
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


@pytest.mark.parametrize(
    ("side", "channels", "hidden"), [(8, (16, 32), 128), (16, (32, 64), 512), (28, (56, 112), 2744)]
)
def test_vgg5_shrinks_with_the_image(side: int, channels: tuple[int, int], hidden: int) -> None:
    model = build("vgg5", (1, side, side), 7)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    first, second = channels
    assert shapes == {
        "features.conv1.weight": (first, 1, 3, 3),
        "features.conv2.weight": (second, first, 3, 3),
        "features.conv3.weight": (second, second, 3, 3),
        "classifier.fc1.weight": (hidden, second * (side // 4) ** 2),
        "classifier.fc2.weight": (hidden, hidden),
        "classifier.fc3.weight": (7, hidden),
    }
    assert model(torch.zeros(1, 1, side, side)).shape == (1, 7)


def test_first_weights_are_the_papers() -> None:
    torch.manual_seed(0)
    weights = build("vgg5", (3, 32, 32), 10).state_dict()
    conv, dense = weights["features.conv2.weight"], weights["classifier.fc2.weight"]
    assert conv.std().item() == pytest.approx((2 / (9 * 128)) ** 0.5, rel=0.02)
    assert dense.std().item() == pytest.approx(0.01, rel=0.01)
    assert abs(dense.mean().item()) < 1e-4


@pytest.mark.parametrize(
    ("arch", "shape", "classes", "reason"),
    [
        ("vgg6", (3, 32, 32), 10, "use one of vgg5"),
        ("vgg5", (3, 30, 30), 10, "divides by 4"),
        ("vgg5", (3, 32, 28), 10, "square"),
        ("vgg5", (784,), 10, "reshape"),
        ("vgg5", (3, 32, 32), 0, "at least one class"),
    ],
)
def test_impossible_networks_are_refused(
    arch: str, shape: tuple[int, ...], classes: int, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        build(arch, shape, classes)
    assert "\n" not in str(caught.value)
