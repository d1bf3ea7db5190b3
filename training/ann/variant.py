"""What the built-in networks have in common: options, layers and first weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt

import torch
from torch import nn

from spikeship.hw_models.errors import InputError
from spikeship.training.choices import Head, Pooling, Start

CONV_DROPOUT, DENSE_DROPOUT = 0.2, 0.5
_DENSE_STD = 0.01


@dataclass(frozen=True)
class Variant:
    """How a network is built. What is None is the architecture's own choice.

    Attributes:
        batch_norm: whether one follows each convolution, to be folded into it later.
        width: factor on all hidden channels and units.
        activation: makes what stands for each ReLU.
        dropout: whether there is any; None where there is no batch norm.
        head: of a VGG: the paper's three dense layers, or one behind a global average pool.
        pooling: what its 2 x 2 pools take, the average or the largest value.
        start: which first weights are drawn; see :func:`initialise`.
    """

    batch_norm: bool | None = None
    width: float = 1.0
    activation: Callable[[], nn.Module] = nn.ReLU
    dropout: bool | None = None
    head: Head | None = None
    pooling: Pooling | None = None
    start: Start | None = None

    def settled(self, batch_norm: bool) -> "Variant":
        """Put an architecture's choice of batch norm, and what follows from it, where nobody chose.

        Args:
            batch_norm: the architecture's own.
        """
        norm = batch_norm if self.batch_norm is None else self.batch_norm
        dropout = not norm if self.dropout is None else self.dropout
        return replace(self, batch_norm=norm, dropout=dropout)

    def refuse(self, arch: str, **unusable: str) -> None:
        """Refuse options that an architecture has no use for: by name, what it has instead.

        Raises:
            ValueError: one of them is set.
        """
        for name, instead in unusable.items():
            if getattr(self, name) is not None:
                raise InputError(f"{arch}: {name} cannot be chosen, {instead}; leave it out")

    def units(self, full: int) -> int:
        """Channels or units where the paper has ``full``."""
        return max(1, round(full * self.width))

    def conv(
        self, number: int, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1
    ) -> dict[str, nn.Module]:
        """Give a bias-free convolution that keeps a side (or divides it by the stride), by name."""
        padding = kernel // 2
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        layers: dict[str, nn.Module] = {f"conv{number}": convolution}
        if self.batch_norm:
            layers[f"bn{number}"] = nn.BatchNorm2d(outputs)
        return layers

    def pool(self) -> nn.Module:
        """Give a pool over 2 x 2 places."""
        return nn.MaxPool2d(2) if self.pooling == "max" else nn.AvgPool2d(2)


def initialise(model: nn.Module, start: Start, dense: float = 1.0) -> None:
    """Draw a network's first weights; convolutions and dense layers in order, batch norm stays.

    - ``paper``: conv N(0, sqrt(2 / (k * k * out))), dense N(0, 0.01 * ``dense``), as Rathi et al.,
      ICLR 2020 (arXiv 2005.01807).
    - ``he``: N(0, sqrt(2 / inputs of one output)), see :func:`_he`.
    - ``identity``: as ``he``, but each convolution after the first begins by handing on its
      inputs: its first output channels are its input channels, as many as there are. What a
      deep plain network knows at the start then reaches its end. (Used by the CIFAR-10 speed
      runs of K. Jordan, arXiv 2404.00498.)

    Args:
        model: the network.
        start: which.
        dense: 1 at the paper's width; fewer units need more each to pass on the same signal.
    """
    if start == "paper":
        _paper(model, dense)
        return
    _he(model)
    if start == "identity":
        convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
        for convolution in convolutions[1:]:
            with torch.no_grad():
                nn.init.dirac_(convolution.weight[: convolution.in_channels])


def _paper(model: nn.Module, dense: float) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            taps = module.kernel_size[0] * module.kernel_size[1]
            nn.init.normal_(module.weight, 0.0, sqrt(2.0 / (taps * module.out_channels)))
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, _DENSE_STD * dense)


def _he(model: nn.Module) -> None:
    """Draw weights that pass on the signal at its size: N(0, sqrt(2 / inputs of one output)).

    From He et al., ICCV 2015 (arXiv 1502.01852). The paper's shrink it wherever channels widen,
    and in each dense layer to a fifth: deep plain networks then stand still for thousands of
    steps. Measured on Fashion-MNIST at 16 x 16, a quarter of the width, batch 64, rate 0.01, loss
    after 400 steps: VGG9 2.303 with the paper's and 1.047 with these, VGG16 2.303 (so still
    after 4,200) and 2.144.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, sqrt(2.0 / module.weight[0].numel()))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
