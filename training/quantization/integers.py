"""The chip's integers inside a network that trains: neurons, readout and pools.

Weighted input comes in weight units; neurons hold whole thresholds, round the leak and clip V as
the chip does. Gradients pass each rounding as if it were not there.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeship.hw_models import fixed
from spikeship.hw_models.errors import InputError
from spikeship.hw_models.graph.weight_grid import SNAP, UNITS
from spikeship.training.quantization.integer_grid import IntegerGrid
from spikeship.training.quantization.rounding import straight
from spikeship.training.snn.neurons import SpikingNeuron
from spikeship.training.snn.scan import HALF_UNIT, Recompute, scan


class IntegerReadout:
    """The integers' sum, exact, times its scale.

    Args:
        grid: scales and exponents of the network's integers.
        output: name of its last layer.
    """

    def __init__(self, grid: IntegerGrid, output: str) -> None:
        self.grid = grid
        self.scale = float(grid.scales[output][0])

    def check(self, device: torch.device) -> None:
        """Check that the precision in force on a device can hold the integers.

        Raises:
            InputError: it is lower than float32.
        """
        if torch.is_autocast_enabled(device.type):
            raise InputError(
                "integers need float32 and the precision is lower; fine-tune with precision 32-true"
            )

    def sum(self, outputs: Tensor) -> Tensor:
        """Sum outputs of shape (time, batch, classes) over time."""
        units = (outputs.detach().double() / self.scale).round().sum(0)
        total = outputs.sum(0)
        return straight(total, (units * self.scale).to(total))


class IntegerNumbers(nn.Module):
    """The integers of one population; its weighted input comes in weight units.

    The neuron's ``threshold`` is in the real unit of the network it came from, its ``v0`` in
    weight units.

    Args:
        scale: real = integer * scale, float64, broadcasting to the population.
    """

    integers = True
    scale_bits: Tensor

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        # in a tuple, so that the layer is not this one's too
        self._biased: tuple[nn.Conv2d | nn.Linear, ...] = ()
        # as bits, so that no change of precision rounds it
        self.register_buffer("scale_bits", scale.view(torch.int64), persistent=False)

    @property
    def scale(self) -> Tensor:
        """Real = integer * scale, float64."""
        return self.scale_bits.view(torch.float64)

    def fire(
        self, neuron: SpikingNeuron, weighted: Tensor, recompute: Recompute | None, pool: int
    ) -> tuple[Tensor, Tensor]:
        """Spikes of the neuron, and the same in bytes; arguments as ``SpikingNeuron.fire``'s."""
        bias = self._bias(weighted)
        again = None if recompute is None else lambda: _whole(recompute(), bias)
        whole: Tensor = _Whole.apply(weighted, bias)  # type: ignore[no-untyped-call]
        theta, leak = self.threshold(neuron).to(weighted), self.leak(neuron).to(weighted)
        return scan(whole, theta, leak, neuron.v0, neuron.rule, again, pool)

    def constrain(self, neuron: SpikingNeuron) -> None:
        """Keep a learnt threshold and leak within the integers' widths."""
        if isinstance(neuron.threshold, nn.Parameter):
            low, high = self.scale * (1 + HALF_UNIT), self.scale * fixed.VTH_LIMIT
            if neuron.threshold.numel() == 1:
                low, high = low.max(), high.min()
            least = torch.maximum(
                low, torch.tensor(neuron.least_threshold, dtype=low.dtype, device=low.device)
            )
            clamped = torch.minimum(torch.maximum(neuron.threshold.double(), least), high)
            neuron.threshold.copy_(clamped)
        if isinstance(neuron.leak, nn.Parameter):
            neuron.leak.clamp_(1 / fixed.DECAY_UNITY, 1.0)

    def threshold(self, neuron: SpikingNeuron) -> Tensor:
        """The neuron's threshold in weight units, whole."""
        units = neuron.threshold.double() / self.scale * SNAP
        return straight(units, units.detach().floor().clamp(1, fixed.VTH_LIMIT))

    def leak(self, neuron: SpikingNeuron) -> Tensor:
        """The neuron's leak as its whole decay makes it."""
        kept = neuron.leak.double()
        decay = ((1.0 - kept.detach()) * fixed.DECAY_UNITY).round()
        return straight(kept, 1.0 - decay.clamp(max=fixed.DECAY_UNITY - 1) / fixed.DECAY_UNITY)

    def takes_bias_of(self, layer: nn.Conv2d | nn.Linear) -> None:
        """Know whose bias is in the weighted input: without it, that is whole numbers."""
        if layer.bias is not None:
            self._biased = (layer,)

    @torch.no_grad()
    def _bias(self, weighted: Tensor) -> Tensor:
        for layer in self._biased:
            assert layer.bias is not None  # or it would not be here
            return layer.bias.detach().view(-1, *[1] * (weighted.ndim - 3))
        return weighted.new_zeros(())


@torch.no_grad()
def integer_neuron(neuron: SpikingNeuron, scale: Tensor) -> SpikingNeuron:
    """Make a population decide as its integers do.

    Args:
        neuron: the population in real numbers; it stays as it is.
        scale: real = integer * scale, float64, broadcasting to the population.
    """
    numbers = IntegerNumbers(scale)
    theta, start = neuron.threshold.detach().double(), neuron.v0.double()
    # half a threshold is half the integer one
    half = numbers.threshold(neuron) * UNITS / 2
    units = torch.where(start == theta / 2, half, (start * UNITS / scale).round())
    return SpikingNeuron(
        neuron.threshold.detach().clone(),
        leak=neuron.leak.detach().clone(),
        v0=(units.clamp(-fixed.STATE_RAIL, fixed.STATE_RAIL) / UNITS).to(neuron.v0),
        reset=neuron.reset,
        surrogate_name=neuron.surrogate_name,
        attached=neuron.attached,
        numbers=numbers,
    )


@torch.no_grad()
def real_neuron(neuron: SpikingNeuron) -> SpikingNeuron:
    """Make a population decide in real numbers: its integers times their scales.

    The threshold lies half a unit of V above the integer one, where the integers decide.
    """
    numbers = neuron.numbers
    assert isinstance(numbers, IntegerNumbers)
    return SpikingNeuron(
        ((numbers.threshold(neuron) + HALF_UNIT) * numbers.scale).to(neuron.threshold),
        leak=numbers.leak(neuron).to(neuron.leak),
        v0=(neuron.v0 * numbers.scale).to(neuron.v0),
        reset=neuron.reset,
        surrogate_name=neuron.surrogate_name,
        attached=neuron.attached,
    )


class SumPool2d(nn.AvgPool2d):
    """A pool that hands on the sum, a whole number; the average's divisor is in the weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Pool ``x``, shape (batch, channel, height, width)."""
        result: Tensor = _SumPool.apply(x, self.kernel_size)  # type: ignore[no-untyped-call]
        return result


class _SumPool(torch.autograd.Function):
    """Keeps nothing for backward, where torch would keep its input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, size: int | tuple[int, int]) -> Tensor:
        ctx.side = size if isinstance(size, int) else size[0]
        return functional.avg_pool2d(x, size, divisor_override=1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return functional.interpolate(grads[0], scale_factor=ctx.side), None


class _Whole(torch.autograd.Function):
    """Sums of whole numbers to the whole numbers they are: a device's convolutions may round."""

    @staticmethod
    def forward(ctx: Any, weighted: Tensor, bias: Tensor) -> Tensor:
        return _whole(weighted, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return grads[0], None


def _whole(weighted: Tensor, bias: Tensor) -> Tensor:
    return (weighted - bias).round_().add_(bias)
