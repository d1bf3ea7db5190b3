"""The paper's networks (Rathi et al., ICLR 2020, arXiv 2005.01807), built by name.

They convert well: bias-free 3 x 3 convolutions, ReLU, 2 x 2 average pools, no batch norm, dropout
after each convolution's ReLU except where a pool follows, and between the dense layers.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from math import sqrt

from torch import nn

# numbers are channels for 32 x 32 images, "A" is a pool
_VGG5 = (64, "A", 128, 128, "A")
_FULL_SIDE, _FULL_HIDDEN, _LEAST_HIDDEN = 32, 4096, 128
_CONV_DROPOUT, _DENSE_DROPOUT = 0.2, 0.5


def build(arch: str, input_shape: Sequence[int], classes: int) -> nn.Module:
    """Build an untrained network; its weights come from torch's global generator.

    Args:
        arch: a name in ``ARCHITECTURES``.
        input_shape: shape of one image, (channel, height, width).
        classes: number of classes.

    Returns:
        A module from (batch, channel, height, width) to (batch, classes).

    Raises:
        ValueError: an unknown name, or a shape the architecture cannot take.
    """
    if arch not in ARCHITECTURES:
        raise ValueError(
            f"architecture {arch!r} is not known; use one of {', '.join(sorted(ARCHITECTURES))}"
        )
    shape = tuple(int(n) for n in input_shape)
    if len(shape) != 3 or min(shape) < 1 or classes < 1:
        raise ValueError(
            f"{arch} takes images of shape (channel, height, width) and at least one class, "
            f"got shape {shape} and {classes} classes; reshape the images"
        )
    return ARCHITECTURES[arch](shape, classes)


def _vgg5(shape: tuple[int, ...], classes: int) -> nn.Module:
    """64 A 128 128 A, then 4096-4096-classes, for 32 x 32 images; smaller for smaller ones.

    Channels go with the image's side. The dense layers keep the paper's half as many units as
    the first of them has inputs, within 128 and 4096.
    """
    channels, height, width = shape
    if height != width or height % 4:
        raise ValueError(
            f"vgg5 pools square images twice, got {height} x {width}; "
            "pad them to a square whose side divides by 4"
        )
    features: OrderedDict[str, nn.Module] = OrderedDict()
    side, convolution, pool = height, 0, 0
    for place, entry in enumerate(_VGG5):
        if entry == "A":
            pool += 1
            features[f"pool{pool}"] = nn.AvgPool2d(2)
            side //= 2
            continue
        assert isinstance(entry, int)
        convolution += 1
        wider = entry * height // _FULL_SIDE
        features[f"conv{convolution}"] = nn.Conv2d(channels, wider, 3, padding=1, bias=False)
        features[f"relu{convolution}"] = nn.ReLU()
        if _VGG5[place + 1] != "A":
            features[f"dropout{convolution}"] = nn.Dropout(_CONV_DROPOUT)
        channels = wider
    flat = channels * side**2
    hidden = min(max(flat // 2, _LEAST_HIDDEN), _FULL_HIDDEN)
    classifier: OrderedDict[str, nn.Module] = OrderedDict(
        flatten=nn.Flatten(),
        fc1=nn.Linear(flat, hidden, bias=False),
        relu1=nn.ReLU(),
        dropout1=nn.Dropout(_DENSE_DROPOUT),
        fc2=nn.Linear(hidden, hidden, bias=False),
        relu2=nn.ReLU(),
        dropout2=nn.Dropout(_DENSE_DROPOUT),
        fc3=nn.Linear(hidden, classes, bias=False),
    )
    model = nn.Sequential(
        OrderedDict(features=nn.Sequential(features), classifier=nn.Sequential(classifier))
    )
    # 0.01 at 4096 units; fewer need more each to pass on the same signal
    _initialise(model, dense=0.01 * sqrt(_FULL_HIDDEN / hidden))
    return model


def _initialise(model: nn.Module, dense: float) -> None:
    """Draw the paper's weights: conv N(0, sqrt(2 / (k * k * out))), dense N(0, ``dense``)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            taps = module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, 0.0, sqrt(2.0 / (taps * module.out_channels)))
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, dense)


ARCHITECTURES: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {"vgg5": _vgg5}
