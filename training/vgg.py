"""The paper's VGG networks: 3 x 3 convolutions and average pools, then three dense layers."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from torch import nn

from spikeship.training.variant import (
    CONV_DROPOUT,
    DENSE_DROPOUT,
    Variant,
    initialise,
    initialise_even,
)

_FULL_SIDE = 32


@dataclass(frozen=True)
class Vgg:
    """One of the VGGs.

    Attributes:
        features: channels of each convolution, and "A" for each 2 x 2 average pool.
        hidden: units of each of the two hidden dense layers.
        shrinks: whether channels go with the side of the image and, within 128 and ``hidden``,
            dense layers keep half as many units as the first has inputs. Otherwise channels stay,
            and images of more than 32 x 32 get one more pool before the dense layers.
    """

    features: Sequence[int | str]
    hidden: int = 4096
    shrinks: bool = False

    def build(self, arch: str, shape: tuple[int, ...], classes: int, variant: Variant) -> nn.Module:
        """Build the network; see ``models.build``.

        Raises:
            ValueError: images that the pools do not divide.
        """
        channels, height, width = shape
        entries = [*self.features]
        if height > _FULL_SIDE and not self.shrinks:
            entries.append("A")
        pooled = 2 ** entries.count("A")
        if height != width or height % pooled:
            raise ValueError(
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
        flat, hidden = variant.units(last) * side**2, variant.units(hidden)
        model = nn.Sequential(
            OrderedDict(
                features=_features(channels, full, variant),
                classifier=_classifier(flat, hidden, classes, variant),
            )
        )
        if self.shrinks:
            initialise(model, dense=sqrt(self.hidden / hidden))
        else:
            initialise_even(model)
        return model


def _features(channels: int, entries: Sequence[int | str], variant: Variant) -> nn.Module:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    convolution, pool = 0, 0
    for entry, following in zip(entries, [*entries[1:], None], strict=True):
        if isinstance(entry, str):
            pool += 1
            layers[f"pool{pool}"] = nn.AvgPool2d(2)
            continue
        convolution += 1
        units = variant.units(entry)
        layers.update(variant.conv(convolution, channels, units))
        layers[f"relu{convolution}"] = variant.activation()
        if following != "A":
            layers[f"dropout{convolution}"] = nn.Dropout(CONV_DROPOUT)
        channels = units
    return nn.Sequential(layers)


def _classifier(flat: int, hidden: int, classes: int, variant: Variant) -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            flatten=nn.Flatten(),
            fc1=nn.Linear(flat, hidden, bias=False),
            relu1=variant.activation(),
            dropout1=nn.Dropout(DENSE_DROPOUT),
            fc2=nn.Linear(hidden, hidden, bias=False),
            relu2=variant.activation(),
            dropout2=nn.Dropout(DENSE_DROPOUT),
            fc3=nn.Linear(hidden, classes, bias=False),
        )
    )


VGGS = {
    "vgg5": Vgg((64, "A", 128, 128, "A"), shrinks=True),
    "vgg9": Vgg((64, "A", 128, 256, "A", 256, 512, "A", 512, "A", 512)),
    "vgg11": Vgg((64, "A", 128, 256, "A", 512, 512, "A", 512, "A", 512, 512)),
    "vgg11-cifar100": Vgg((64, "A", 128, 256, 256, "A", *[512] * 3, "A", 512, 512), hidden=1024),
    "vgg13": Vgg((64, 64, "A", 128, 128, "A", 256, 256, "A", *[512] * 3, "A", 512)),
    "vgg16": Vgg((64, 64, "A", 128, 128, "A", *[256] * 3, "A", *[512] * 3, "A", *[512] * 3)),
    "vgg19": Vgg((64, 64, "A", 128, 128, "A", *[256] * 4, "A", *[512] * 4, "A", *[512] * 4)),
}
