"""Networks by name: the paper's (Rathi et al., ICLR 2020, arXiv 2005.01807), and two small ones.

The paper's convert well: bias-free 3 x 3 convolutions, ReLU, 2 x 2 average pools, dropout after
each convolution's ReLU except where a pool follows, and between the dense layers. With batch norm
they train more easily, without dropout; it is folded away before conversion, and biases appear.
VGG5 and the ResNets start with the paper's weights, deeper VGGs with larger ones, without which
they hardly learn.

``resnet20-small`` is the ResNet20 of 0.27 million weights that others train on CIFAR, ``fast9`` a
plain network made to be trained quickly. Both have batch norm.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import nn

from spikeship.hw_models.errors import InputError
from spikeship.training.ann.resnet import RESNETS
from spikeship.training.ann.variant import Variant
from spikeship.training.ann.vgg import VGGS
from spikeship.training.choices import Head, Pooling, Start


class _Architecture(Protocol):
    def build(
        self, arch: str, shape: tuple[int, ...], classes: int, variant: Variant
    ) -> nn.Module: ...


ARCHITECTURES: dict[str, _Architecture] = {**VGGS, **RESNETS}


def build(
    arch: str,
    input_shape: Sequence[int],
    classes: int,
    *,
    batch_norm: bool | None = None,
    width: float = 1.0,
    activation: Callable[[], nn.Module] = nn.ReLU,
    dropout: bool | None = None,
    head: Head | None = None,
    pooling: Pooling | None = None,
    start: Start | None = None,
) -> nn.Module:
    """Build an untrained network; its weights come from torch's global generator.

    Options that are None are the architecture's own choice.

    Args:
        arch: a name in ``ARCHITECTURES``.
        input_shape: shape of one image, (channel, height, width): square, its side divided by
            every pool. 32 x 32 is what the networks were made for; larger ones (224 x 224) get
            the pool more that ImageNet's have.
        classes: number of classes.
        batch_norm: whether one follows each convolution; the paper's have none.
        width: factor on all hidden channels and units, which are rounded and at least one.
        activation: makes what stands for each ReLU, such as one of ``ann.activations``.
        dropout: whether there is any; by default where there is no batch norm.
        head: of a VGG: ``"dense"``, the paper's three dense layers, or ``"pool"``, one behind a
            global average pool.
        pooling: of a VGG's 2 x 2 pools: ``"average"`` or ``"max"``.
        start: the first weights: ``"paper"``, ``"he"`` or ``"identity"``; see
            ``variant.initialise``.

    Returns:
        A module from (batch, channel, height, width) to (batch, classes).

    Raises:
        ValueError: an unknown name, a width that is not positive, or a shape or an option that
            the architecture cannot take.
    """
    if arch not in ARCHITECTURES:
        raise InputError(f"architecture {arch!r} is not known; use one of {known()}")
    shape = tuple(int(n) for n in input_shape)
    if len(shape) != 3 or min(shape) < 1 or classes < 1:
        raise InputError(
            f"{arch} takes images of shape (channel, height, width) and at least one class, "
            f"got shape {shape} and {classes} classes; reshape the images"
        )
    if not 0 < width < float("inf"):
        raise InputError(f"{arch}: width must be a positive factor, got {width}; 1 is the paper's")
    variant = Variant(batch_norm, width, activation, dropout, head, pooling, start)
    return ARCHITECTURES[arch].build(arch, shape, classes, variant)


def known() -> str:
    """Names of all architectures, as an error or a help text lists them."""
    return ", ".join(ARCHITECTURES)
