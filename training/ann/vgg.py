"""Plain networks: 3 x 3 convolutions and 2 x 2 pools, then dense layers."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt

from torch import nn

from spikeship.hw_models.errors import InputError
from spikeship.training.ann.variant import (
    CONV_DROPOUT,
    DENSE_DROPOUT,
    Variant,
    initialise,
)
from spikeship.training.choices import Head, Start

_FULL_SIDE = 32


@dataclass(frozen=True)
class Vgg:
    """One of the VGGs.

    Attributes:
        features: channels of each convolution, and "A" for each 2 x 2 average pool.
        hidden: units of each of the two hidden dense layers.
        head: the dense layers where none are asked for: the paper's three, or one behind a global
            average pool.
        batch_norm: whether one follows each convolution where nobody says.
        start: the first weights, by name.
        shrinks: whether channels go with the side of the image and, within 128 and ``hidden``,
            dense layers keep half as many units as the first has inputs. Otherwise channels stay,
            and images of more than 32 x 32 get one more pool before the dense layers.
    """

    features: Sequence[int | str]
    hidden: int = 4096
    head: Head = "dense"
    batch_norm: bool = False
    start: Start = "he"
    shrinks: bool = False

    def build(self, arch: str, shape: tuple[int, ...], classes: int, variant: Variant) -> nn.Module:
        """Build the network; see ``zoo.build``.

        Raises:
            ValueError: images that the pools do not divide.
        """
        channels, height, width = shape
        variant = replace(variant.settled(self.batch_norm), head=variant.head or self.head)
        entries = [*self.features]
        if height > _FULL_SIDE and not self.shrinks:
            entries.append("A")
        pooled = 2 ** entries.count("A")
        if height != width or height % pooled:
            raise InputError(
                f"{arch} halves square images {entries.count('A')} times, got {height} x {width}; "
                f"pad them to a square whose side divides by {pooled}"
            )
        full = [
            entry * height // _FULL_SIDE if self.shrinks and isinstance(entry, int) else entry
            for entry in entries
        ]
        last = next(entry for entry in reversed(full) if isinstance(entry, int))
        side, hidden = height // pooled, self.hidden
        if self.shrinks:
            hidden = min(max(last * side**2 // 2, 128), hidden)
        last, hidden = variant.units(last), variant.units(hidden)
        model = nn.Sequential(OrderedDict(features=_features(channels, full, variant)))
        if variant.head == "pool":
            model.add_module("classifier", _pool_head(last, side, classes))
        else:
            model.add_module("classifier", _dense_head(last * side**2, hidden, classes, variant))
        initialise(model, variant.start or self.start, dense=sqrt(self.hidden / hidden))
        return model


def _features(channels: int, entries: Sequence[int | str], variant: Variant) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    convolution, pool = 0, 0
    for entry, following in zip(entries, [*entries[1:], None], strict=True):
        if isinstance(entry, str):
            pool += 1
            layers[f"pool{pool}"] = variant.pool()
            continue
        convolution += 1
        units = variant.units(entry)
        layers.update(variant.conv(convolution, channels, units))
        layers[f"relu{convolution}"] = variant.activation()
        if variant.dropout and following != "A":
            layers[f"dropout{convolution}"] = nn.Dropout(CONV_DROPOUT)
        channels = units
    return nn.Sequential(layers)


def _dense_head(flat: int, hidden: int, classes: int, variant: Variant) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    for number, inputs in ((1, flat), (2, hidden)):
        layers[f"fc{number}"] = nn.Linear(inputs, hidden, bias=False)
        layers[f"relu{number}"] = variant.activation()
        if variant.dropout:
            layers[f"dropout{number}"] = nn.Dropout(DENSE_DROPOUT)
    layers["fc3"] = nn.Linear(hidden, classes, bias=False)
    return nn.Sequential(layers)


def _pool_head(channels: int, side: int, classes: int) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    if side > 1:
        layers["pool"] = nn.AvgPool2d(side)
    layers["flatten"] = nn.Flatten()
    layers["fc"] = nn.Linear(channels, classes, bias=False)
    return nn.Sequential(layers)


VGGS = {
    "vgg5": Vgg((64, "A", 128, 128, "A"), start="paper", shrinks=True),
    "vgg9": Vgg((64, "A", 128, 256, "A", 256, 512, "A", 512, "A", 512)),
    "vgg11": Vgg((64, "A", 128, 256, "A", 512, 512, "A", 512, "A", 512, 512)),
    "vgg11-cifar100": Vgg((64, "A", 128, 256, 256, "A", *[512] * 3, "A", 512, 512), hidden=1024),
    "vgg13": Vgg((64, 64, "A", 128, 128, "A", 256, 256, "A", *[512] * 3, "A", 512)),
    "vgg16": Vgg((64, 64, "A", 128, 128, "A", *[256] * 3, "A", *[512] * 3, "A", *[512] * 3)),
    "vgg19": Vgg((64, 64, "A", 128, 128, "A", *[256] * 4, "A", *[512] * 4, "A", *[512] * 4)),
    # channels and depth of the networks that the CIFAR-10 speed runs use (K. Jordan,
    # arXiv 2404.00498), with what spiking networks can do: ReLU, and pools after it
    "fast9": Vgg(
        (24, 64, "A", 64, 256, "A", 256, 256, "A", 256, 256),
        head="pool",
        batch_norm=True,
        start="identity",
    ),
}
