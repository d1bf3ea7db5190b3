"""Rounding of weights and biases inside a network that trains, gradients passing straight through.

Parametrizations (``torch.nn.utils.parametrize``): the module keeps its real numbers as parameters,
and reading ``weight`` or ``bias`` gives what the chip will hold.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeship.hw_models import fixed
from spikeship.hw_models.graph.weight_grid import BIAS_LIMIT, UNITS, WeightGrid

# so many weights are rounded at a time, in float64
_CHUNK = 2**16


class WeightRounding(nn.Module):
    """Parametrization of a weighted layer's weights: real numbers in, weight units out.

    Attributes:
        grid: weights that its synapse may hold.
        exponent: of the synapse.
        factor: scale of a message within the average that its pools make.
        unit: real value of the result's unit: 1, for the readout its scale.
    """

    scale_bits: Tensor

    def __init__(
        self, weight: Tensor, bits: int, scale: Tensor, exponent: int, factor: float, unit: float
    ) -> None:
        super().__init__()
        self.register_buffer("scale_bits", scale.view(torch.int64), persistent=False)
        held = weight.detach().cpu().numpy()
        grid = WeightGrid.of(held, bits)
        # weights of one sign keep it: with two, every other of them could not be held
        if not (held < 0).any():
            grid = replace(grid, low=0)
        elif not (held > 0).any():
            grid = replace(grid, high=0)
        self.grid = grid
        self.exponent, self.factor, self.unit = exponent, factor, unit

    @property
    def scale(self) -> Tensor:
        """Real = integer * scale, one value a row, float64."""
        return self.scale_bits.view(torch.float64)

    def forward(self, weight: Tensor) -> Tensor:
        """Round; gradients pass, but for what would lead further beyond the grid's ends."""
        result: Tensor = _Rounded.apply(weight, self)  # type: ignore[no-untyped-call]
        return result

    def units(self, weight: Tensor) -> Tensor:
        """Weights on the grid, in weight units, the exponent not applied; no gradient."""
        rows = weight.detach().reshape(len(weight), -1)
        held = self._held(rows, self.grid)
        if self.grid.mixed:
            settled = self.grid.settled(bool((held < 0).any()), bool((held > 0).any()))
            if settled is not self.grid:
                held = self._held(rows, settled)
        return held.view(weight.shape)

    def _held(self, rows: Tensor, grid: WeightGrid) -> Tensor:
        result = torch.empty_like(rows)
        for part in _parts(rows):
            real = rows[part].double() * self.factor / self.scale[part, None]
            result[part] = grid.round(real / 2.0**self.exponent)
        return result

    def per_unit(self, weight: Tensor) -> Tensor:
        """Real value of one weight unit in these weights, float64."""
        return (self.scale / self.factor).view(-1, *[1] * (weight.ndim - 1))


def _parts(rows: Tensor) -> Iterator[slice]:
    """Slices of rows that fit a core's cache together."""
    count = max(1, _CHUNK // rows.shape[1])
    return (slice(first, first + count) for first in range(0, len(rows), count))


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, rounding: WeightRounding) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.rounding = rounding
        return rounding.units(weight).mul_(2.0**rounding.exponent * rounding.unit)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), rounding = ctx.saved_tensors, ctx.rounding
        grid, scale = rounding.grid, rounding.scale[:, None]
        gain = (rounding.factor * rounding.unit / scale).to(weight)
        unit = (scale * 2.0**rounding.exponent / rounding.factor).to(weight)
        rows, grad = weight.reshape(len(weight), -1), grads[0].reshape(len(weight), -1)
        result = torch.empty_like(grad)
        for part in _parts(rows):
            beyond = rows[part] - rows[part].clamp(grid.low * unit[part], grid.high * unit[part])
            # a step goes against the gradient
            outwards = beyond.mul_(grad[part]) < 0
            result[part] = (grad[part] * gain[part]).masked_fill_(outwards, 0.0)
        return result.view(weight.shape), None


class BiasRounding(nn.Module):
    """Parametrization of a layer's bias: the chip's mantissa and exponent, in weight units.

    Args:
        scale: real = integer * scale, one value a channel, float64.
        unit: 1, or for the readout, whose bias is a whole number of weight units, its scale.
    """

    def __init__(self, scale: NDArray[np.float64], unit: float, is_readout: bool) -> None:
        super().__init__()
        self.scale, self.unit, self.is_readout = scale, unit, is_readout

    def forward(self, bias: Tensor) -> Tensor:
        """Round; gradients pass."""
        real = bias.detach().cpu().double().numpy()
        units = np.rint(real / self.scale) if self.is_readout else bias_units(real, self.scale)
        exact = torch.from_numpy(units * self.unit).to(bias)
        value = bias * torch.from_numpy(self.unit / self.scale).to(bias)
        return straight(value, exact)

    def per_unit(self, bias: Tensor) -> Tensor:
        """Real value of one weight unit in this bias, float64."""
        return torch.from_numpy(self.scale).to(bias.device)


def bias_units(bias: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    """Real biases as the chip holds them, in weight units (64ths), kept within its widths."""
    whole = np.clip(np.rint(bias * UNITS / scale), -BIAS_LIMIT, BIAS_LIMIT).astype(np.int64)
    held: NDArray[np.float64] = fixed.effective_bias(*fixed.encode_bias(whole)) / UNITS
    return held


def straight(value: Tensor, exact: Tensor) -> Tensor:
    """Return ``exact`` with the gradient of ``value``."""
    return exact + (value - value.detach())
