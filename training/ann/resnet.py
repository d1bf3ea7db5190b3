"""Residual networks: convolutions, stages of basic blocks, one dense layer."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from torch import Tensor, nn

from spikeship.hw_models.errors import InputError
from spikeship.training.ann.network import Add
from spikeship.training.ann.variant import CONV_DROPOUT, Variant, initialise
from spikeship.training.choices import Start

_FULL_SIDE = 32


@dataclass(frozen=True)
class ResNet:
    """One of the ResNets.

    The paper's have three convolutions and a pool before the blocks, and one dense layer on all
    places of the last stage. Those that everybody else trains on CIFAR (He et al., CVPR 2016,
    section 4.2) have one convolution, no pool, and average the last stage over its places.

    Attributes:
        blocks: number of basic blocks in each stage; each stage but the first halves the sides
            and doubles the channels.
        channels: of the first stage.
        paper: whether stem and head are the paper's.
        batch_norm: whether one follows each convolution where nobody says.
        start: the first weights, by name.
    """

    blocks: Sequence[int]
    channels: int = 64
    paper: bool = True
    batch_norm: bool = False
    start: Start = "paper"

    def build(self, arch: str, shape: tuple[int, ...], classes: int, variant: Variant) -> nn.Module:
        """Build the network; see ``zoo.build``.

        Images of more than 32 x 32 are halved by the first convolution too, and the last stage is
        averaged over its positions.

        Raises:
            ValueError: images whose sides cannot be halved often enough, or an option of VGGs.
        """
        channels, height, width = shape
        variant.refuse(arch, head="a ResNet has its own", pooling="its only pools are averages")
        variant = variant.settled(self.batch_norm)
        large = height > _FULL_SIDE
        halvings = len(self.blocks) - 1 + self.paper + large
        if height != width or height % 2**halvings:
            raise InputError(
                f"{arch} halves square images {halvings} times, got {height} x {width}; "
                f"pad them to a square whose side divides by {2**halvings}"
            )
        units = variant.units(self.channels)
        stride = 2 if large else 1
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            stem=_stem(channels, units, 3 if self.paper else 1, stride, variant)
        )
        for stage, blocks in enumerate(self.blocks):
            inputs, units = units, variant.units(self.channels * 2**stage)
            first = _Block(inputs, units, 2 if stage else 1, variant)
            rest = [_Block(units, units, 1, variant) for _ in range(blocks - 1)]
            named = {f"block{number}": block for number, block in enumerate([first, *rest], 1)}
            parts[f"stage{stage + 1}"] = nn.Sequential(OrderedDict(named))
        side = height // 2**halvings
        classifier: OrderedDict[str, nn.Module] = OrderedDict()
        if (large or not self.paper) and side > 1:
            classifier["pool"] = nn.AvgPool2d(side)
            side = 1
        classifier["flatten"] = nn.Flatten()
        classifier["fc"] = nn.Linear(units * side**2, classes, bias=not self.paper)
        parts["classifier"] = nn.Sequential(classifier)
        model = nn.Sequential(parts)
        initialise(model, variant.start or self.start, dense=sqrt(1 / variant.width))
        return model


def _stem(channels: int, units: int, count: int, stride: int, variant: Variant) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number in range(1, count + 1):
        layers.update(variant.conv(number, channels, units, stride=stride))
        layers[f"relu{number}"] = variant.activation()
        if variant.dropout and number < count:
            layers[f"dropout{number}"] = nn.Dropout(CONV_DROPOUT)
        channels, stride = units, 1
    if count > 1:
        layers["pool"] = nn.AvgPool2d(2)
    return nn.Sequential(layers)


class _Block(nn.Module):
    """Two convolutions beside a skip, which is a 1 x 1 convolution where shapes differ."""

    def __init__(self, inputs: int, units: int, stride: int, variant: Variant) -> None:
        super().__init__()
        residual: OrderedDict[str, nn.Module] = OrderedDict()
        residual.update(variant.conv(1, inputs, units, stride=stride))
        residual["relu1"] = variant.activation()
        if variant.dropout:
            residual["dropout1"] = nn.Dropout(CONV_DROPOUT)
        residual.update(variant.conv(2, units, units))
        skip: dict[str, nn.Module] = {}
        if stride != 1 or inputs != units:
            skip = variant.conv(1, inputs, units, kernel=1, stride=stride)
        self.residual = nn.Sequential(residual)
        self.skip = nn.Sequential(OrderedDict(skip))
        self.sum = Add()
        self.relu = variant.activation()

    def forward(self, x: Tensor) -> Tensor:
        """Run one block on (batch, channel, height, width)."""
        result: Tensor = self.relu(self.sum(self.residual(x), self.skip(x)))
        return result


RESNETS = {
    "resnet8": ResNet((1, 1)),
    "resnet12": ResNet((1, 1, 1, 1)),
    "resnet20": ResNet((2, 2, 2, 2)),
    # the 0.27 million weights that everybody else calls ResNet20
    "resnet20-small": ResNet((3, 3, 3), channels=16, paper=False, batch_norm=True, start="he"),
    # as the paper's ANN; its SNN, and everyone else, have one block more in the third stage
    "resnet34": ResNet((3, 4, 5, 3)),
    "resnet34-standard": ResNet((3, 4, 6, 3)),
}
