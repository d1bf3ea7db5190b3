"""Quantization-aware fine-tuning: a network that computes with its own integers.

Every weighted layer rounds its weights to the chip's, in the units a quantizer chose, so weighted
input comes in weight units; neurons hold whole thresholds, round the leak and clip V as the
integers do. Spikes and scores are those of the quantized network, in training as in evaluation
(but for dropout), and gradients pass each rounding as if it were not there. Parameters stay real
numbers in the units of the network they came from, so learning rates mean what they did.
"""

import copy
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from spikeship.hw_models import fixed
from spikeship.hw_models.errors import InputError
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.graph.weight_grid import SNAP, UNITS
from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.quantization.integer_grid import IntegerGrid
from spikeship.training.quantization.rounding import (
    BiasRounding,
    WeightRounding,
    bias_units,
    straight,
)
from spikeship.training.snn.form import check_form, sample_shapes
from spikeship.training.snn.neurons import Scale, SpikingNeuron
from spikeship.training.snn.recompute import Value
from spikeship.training.snn.scan import HALF_UNIT, Recompute, Rule, scan
from spikeship.training.snn.spiking_network import SpikingNetwork


def quantization_aware(snn: SpikingNetwork, graph: FixedGraph) -> "AwareNetwork":
    """Make a network compute with the integers that it was quantized to.

    Args:
        snn: the network; it stays as it is.
        graph: what ``deploy.quantize`` made of it, for its scales and exponents.

    Returns:
        A network in ``snn``'s mode for ``stdb.finetune``; ``to_nir`` writes it so that the
        quantizer gives exactly the integers it computes with.

    Raises:
        GridError: a graph that was not made from this network.
        FormError: layers that no spiking network of ours has.
    """
    grid = IntegerGrid.of(graph)
    aware = AwareNetwork(snn.rounded() if isinstance(snn, AwareNetwork) else snn, grid)
    for name, (low, high) in aware.ranges.items():
        if name in aware.neurons:
            least = float(grid.scales[name].min())
            aware.ranges[name] = low / least, high / least
    return aware


class AwareNetwork(SpikingNetwork):
    """A spiking network in integers; weighted input and ranges of neurons are in weight units.

    Args:
        snn: the network in real numbers; ranges of neurons, if any, in weight units.
        grid: scales and exponents of its integers.

    Raises:
        GridError: the grid is not this network's.
        FormError: layers that no spiking network of ours has.
    """

    grid: IntegerGrid

    def __init__(self, snn: SpikingNetwork, grid: IntegerGrid) -> None:
        super().__init__(
            _aware(snn.network, grid),
            snn.coding,
            snn.num_steps,
            ranges=snn.ranges,
            data=snn.data,
            provenance=snn.provenance,
        )
        self.grid = grid
        self.train(snn.training)

    def _run(
        self, messages: Tensor, pools: Mapping[str, int]
    ) -> Iterator[tuple[Layer, tuple[Value, ...], Value]]:
        """Run all layers as :class:`SpikingNetwork`; the readout comes in real units."""
        if torch.is_autocast_enabled(messages.device.type):
            raise InputError(
                "integers need float32 and the precision is lower; fine-tune with precision 32-true"
            )
        return super()._run(messages, pools)

    def forward(self, messages: Tensor) -> Tensor:
        """Return the readout R, shape (batch, classes): the integers' sum, exact, times its scale.

        Args:
            messages: as for :class:`SpikingNetwork`.

        Raises:
            ValueError: messages of another shape, or a precision that cannot hold the integers.
        """
        scale = float(self.grid.scales[self.network.output][0])
        outputs = self.outputs(messages)
        units = (outputs.detach().double() / scale).round().sum(0)
        total = outputs.sum(0)
        return straight(total, (units * scale).to(total))

    @torch.no_grad()
    def rounded(self) -> SpikingNetwork:
        """Return the network in real numbers: its integers times their scales."""
        layers = []
        for layer in self.network.layers:
            match layer.module:
                case nn.Conv2d() | nn.Linear() | Scale():
                    module = _real(layer.module)
                case SumPool2d():
                    module = nn.AvgPool2d(layer.module.kernel_size)
                case AwareNeuron():
                    module = layer.module.rounded()
                case _:
                    module = copy.deepcopy(layer.module)
            layers.append(Layer(layer.name, module, layer.inputs))
        ranges = dict(self.ranges)
        for name in self.neurons.keys() & ranges.keys():
            most = float(self.grid.scales[name].max())
            ranges[name] = ranges[name][0] * most, ranges[name][1] * most
        return SpikingNetwork(
            Network(layers, self.network.input_shape),
            self.coding,
            self.num_steps,
            ranges=ranges,
            data=self.data,
            provenance=self.provenance,
        ).train(self.training)


class AwareNeuron(SpikingNeuron):
    """Neurons that decide as their integers do, for weighted input in weight units.

    ``threshold`` is in the real unit of the network it came from; ``v0`` is in weight units.

    Args:
        neuron: the population in real numbers.
        scale: real = integer * scale, float64, broadcasting to the population.
    """

    scale_bits: Tensor

    def __init__(self, neuron: SpikingNeuron, scale: Tensor) -> None:
        super().__init__(
            neuron.threshold.detach().clone(),
            leak=neuron.leak.detach().clone(),
            reset=neuron.reset,
            surrogate_name=neuron.surrogate_name,
            attached=neuron.attached,
        )
        self.integers = True
        # in a tuple, so that the layer is not this one's too
        self._biased: tuple[nn.Conv2d | nn.Linear, ...] = ()
        # as bits, so that no change of precision rounds it
        self.register_buffer("scale_bits", scale.view(torch.int64), persistent=False)
        theta, start = neuron.threshold.detach().double(), neuron.v0.double()
        # half a threshold is half the integer one
        half = self._whole_threshold().detach() * UNITS / 2
        units = torch.where(start == theta / 2, half, (start * UNITS / scale).round())
        self.v0 = (units.clamp(-fixed.STATE_RAIL, fixed.STATE_RAIL) / UNITS).to(self.v0)

    @property
    def scale(self) -> Tensor:
        """Real = integer * scale, float64."""
        return self.scale_bits.view(torch.float64)

    def fire(
        self, weighted: Tensor, recompute: Recompute | None = None, pool: int = 1
    ) -> tuple[Tensor, Tensor]:
        """Spikes as :meth:`SpikingNeuron.fire`'s, from weighted input in weight units."""
        rule = Rule(self.reset == "zero", self.surrogate_name, self.attached, self.integers)
        bias = self._bias(weighted)
        again = None if recompute is None else lambda: _whole(recompute(), bias)
        whole: Tensor = _Whole.apply(weighted, bias)  # type: ignore[no-untyped-call]
        theta = self._whole_threshold().to(weighted)
        return scan(whole, theta, self._kept().to(weighted), self.v0, rule, again, pool)

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep what is learnt within the integers' widths."""
        super().constrain()
        if isinstance(self.threshold, nn.Parameter):
            low, high = self.scale * (1 + HALF_UNIT), self.scale * fixed.VTH_LIMIT
            if self.threshold.numel() == 1:
                low, high = low.max(), high.min()
            clamped = torch.minimum(torch.maximum(self.threshold.double(), low), high)
            self.threshold.copy_(clamped)
        if isinstance(self.leak, nn.Parameter):
            self.leak.clamp_(1 / fixed.DECAY_UNITY, 1.0)

    @torch.no_grad()
    def rounded(self) -> SpikingNeuron:
        """Return the population in real numbers: its integers times their scales.

        The threshold lies half a unit of V above the integer one, where the integers decide.
        """
        return SpikingNeuron(
            ((self._whole_threshold() + HALF_UNIT) * self.scale).to(self.threshold),
            leak=self._kept().to(self.leak),
            v0=(self.v0 * self.scale).to(self.v0),
            reset=self.reset,
            surrogate_name=self.surrogate_name,
            attached=self.attached,
        )

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

    def _whole_threshold(self) -> Tensor:
        units = self.threshold.double() / self.scale * SNAP
        return straight(units, units.detach().floor().clamp(1, fixed.VTH_LIMIT))

    def _kept(self) -> Tensor:
        kept = self.leak.double()
        decay = ((1.0 - kept.detach()) * fixed.DECAY_UNITY).round()
        return straight(kept, 1.0 - decay.clamp(max=fixed.DECAY_UNITY - 1) / fixed.DECAY_UNITY)


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


def _aware(network: Network, grid: IntegerGrid) -> Network:
    """Copy a network with all its numbers rounded as the grid says."""
    check_form(network)
    shapes = sample_shapes(network)
    layers: list[Layer] = []
    for layer in network.layers:
        module, inputs = copy.deepcopy(layer.module), layer.inputs
        if isinstance(module, SpikingNeuron):
            channels = grid.scale(layer.name, shapes[layer.name][0])
            scale = torch.from_numpy(channels).view(-1, *[1] * (len(shapes[layer.name]) - 1))
            module = AwareNeuron(module, scale.to(module.threshold.device))
        elif isinstance(module, nn.AvgPool2d):
            module = SumPool2d(module.kernel_size)
        elif isinstance(module, Add):
            inputs = tuple(_weighted(network, name, layer.name, layers) for name in inputs)
        layers.append(Layer(layer.name, module, inputs))
    made = Network(layers, network.input_shape)
    for layer in made.layers:
        if isinstance(layer.module, AwareNeuron):
            _join_biases(made, layer, grid)
    for layer in made.layers:
        if isinstance(layer.module, nn.Conv2d | nn.Linear | Scale):
            _round(made, layer, grid, shapes)
            fed = made[_target(made, layer.name)].module
            if isinstance(fed, AwareNeuron) and not isinstance(layer.module, Scale):
                fed.takes_bias_of(layer.module)
    return made.train(network.training)


def _weighted(network: Network, name: str, add: str, layers: list[Layer]) -> str:
    """Give a sum's branch a weight if it is an identity skip without one."""
    if name != INPUT and isinstance(network[name].module, nn.Conv2d | nn.Linear | Scale | Add):
        return name
    layers.append(Layer(f"{add}.skip{len(layers)}", Scale(1.0), (name,)))
    return layers[-1].name


@torch.no_grad()
def _join_biases(network: Network, neuron: Layer, grid: IntegerGrid) -> None:
    """Put the biases of a sum's branches into the first: the chip rounds only their sum."""
    branches = [network[name].module for name in network.summands(neuron.inputs[0])]
    biased = [
        (module, module.bias)
        for module in branches
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None
    ]
    if len(biased) < 2:
        return
    total = np.sum([bias.double().cpu().numpy() for _, bias in biased], axis=0)
    scale = grid.scale(neuron.name, len(total))
    biased[0][1].copy_(torch.from_numpy(bias_units(total, scale) * scale))
    for module, _ in biased[1:]:
        module.bias = None


def _round(
    network: Network, layer: Layer, grid: IntegerGrid, shapes: dict[str, tuple[int, ...]]
) -> None:
    """Have a weighted layer round its weights and bias."""
    module, target = layer.module, _target(network, layer.name)
    source, factor = _source(network, layer.inputs[0])
    is_readout = target == network.output
    channels = grid.scale(target, shapes[target][0])
    unit = float(channels[0]) if is_readout else 1.0
    key, name = "weight", layer.name
    if isinstance(module, Scale):
        key, name = "factor", f"{source}->{target}"
        least = (shapes[target][0], *[1] * (len(shapes[target]) - 1))
        module.factor = module.factor.expand(
            torch.broadcast_shapes(module.factor.shape, least)  # type: ignore[no-untyped-call]
        ).clone()
    weight = getattr(module, key)
    scale = torch.from_numpy(channels).to(weight.device)
    rounding = WeightRounding(weight, grid.weight_bits, scale, grid.exponent(name), factor, unit)
    parametrize.register_parametrization(module, key, rounding)
    if getattr(module, "bias", None) is not None:
        rounded = BiasRounding(channels, unit, is_readout)
        parametrize.register_parametrization(module, "bias", rounded)


def _target(network: Network, name: str) -> str:
    """Name of the neuron that a weighted layer feeds, or of the readout itself."""
    while name != network.output:
        (layer,) = network.consumers(name)
        name = layer.name
        if isinstance(layer.module, SpikingNeuron):
            break
    return name


def _source(network: Network, name: str) -> tuple[str, float]:
    """Neuron, or input, whose messages a weighted layer takes, and what pools divide them by."""
    sides = []
    while name != INPUT and not isinstance(network[name].module, SpikingNeuron):
        layer = network[name]
        if isinstance(layer.module, nn.AvgPool2d):
            side = layer.module.kernel_size
            sides.append(side if isinstance(side, int) else side[0])
        (name,) = layer.inputs
    factor = 1.0
    for side in reversed(sides):
        factor /= side**2
    return name, factor


def _real(module: nn.Conv2d | nn.Linear | Scale) -> nn.Module:
    """A layer with this one's integers times their scales."""
    if isinstance(module, Scale):
        return Scale(_scaled(module, "factor"))
    # without storage: the numbers come from here, and no random ones are drawn
    with torch.device("meta"):
        if isinstance(module, nn.Linear):
            made: nn.Conv2d | nn.Linear = nn.Linear(module.in_features, module.out_features)
        else:
            made = nn.Conv2d(
                module.in_channels,
                module.out_channels,
                module.kernel_size,  # type: ignore[arg-type]
                module.stride,  # type: ignore[arg-type]
                module.padding,  # type: ignore[arg-type]
                module.dilation,  # type: ignore[arg-type]
                module.groups,
            )
    made.weight = nn.Parameter(_scaled(module, "weight"))
    made.bias = None if module.bias is None else nn.Parameter(_scaled(module, "bias"))
    return made


def _scaled(module: nn.Module, key: str) -> Tensor:
    """The rounded numbers under ``key``, times their scale."""
    rounding = module.parametrizations[key][0]  # type: ignore[index]
    assert isinstance(rounding, WeightRounding | BiasRounding)
    value: Tensor = getattr(module, key).detach()
    return (value.double() / rounding.unit * rounding.per_unit(value)).to(value)
