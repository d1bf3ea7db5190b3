"""Quantization-aware fine-tuning: a network that computes with its own integers.

Every weighted layer rounds its weights to the chip's, in the units a quantizer chose; neurons and
the readout compute as in ``integers``. Spikes and scores are those of the quantized network, in
training as in evaluation (but for dropout). Parameters stay real numbers in the units of the
network they came from, so learning rates mean what they did.
"""

import copy
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from spikeship.hw_models.graph import FixedGraph
from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.ann.sides import sides
from spikeship.training.quantization.integer_grid import IntegerGrid
from spikeship.training.quantization.integers import (
    IntegerNumbers,
    IntegerReadout,
    SumPool2d,
    integer_neuron,
    real_neuron,
)
from spikeship.training.quantization.rounding import BiasRounding, WeightRounding, bias_units
from spikeship.training.snn.form import check_form, sample_shapes
from spikeship.training.snn.neurons import Scale, SpikingNeuron
from spikeship.training.snn.spiking_network import Readout, SpikingNetwork


def quantization_aware(snn: SpikingNetwork, graph: FixedGraph) -> SpikingNetwork:
    """Make a network compute with the integers that it was quantized to.

    Args:
        snn: the network; it stays as it is.
        graph: what ``deploy.quantize`` made of it, for its scales and exponents.

    Returns:
        A network in ``snn``'s mode for ``stdb.finetune``; ``to_nir`` writes it so that the
        quantizer gives exactly the integers it computes with.

    Raises:
        GridError: a graph that was not made from this network.
        FormError: a layer that a spiking network cannot have.
    """
    grid = IntegerGrid.of(graph)
    aware = in_integers(in_real_numbers(snn), grid)
    for name, (low, high) in aware.ranges.items():
        if name in aware.neurons:
            least = float(grid.scales[name].min())
            aware.ranges[name] = low / least, high / least
    return aware


def in_integers(snn: SpikingNetwork, grid: IntegerGrid) -> SpikingNetwork:
    """Make a network compute in integers; weighted input comes in weight units.

    Args:
        snn: the network in real numbers; ranges of neurons, if any, in weight units.
        grid: scales and exponents of its integers.

    Raises:
        GridError: the grid is not this network's.
        FormError: a layer that a spiking network cannot have.
    """
    network = _aware(snn.network, grid)
    return _like(snn, network, snn.ranges, IntegerReadout(grid, network.output))


@torch.no_grad()
def in_real_numbers(snn: SpikingNetwork) -> SpikingNetwork:
    """Return a network in real numbers: its integers times their scales, or itself without."""
    grid = grid_of(snn)
    if grid is None:
        return snn
    layers = []
    for layer in snn.network.layers:
        match layer.module:
            case nn.Conv2d() | nn.Linear() | Scale():
                module = _real(layer.module)
            case SumPool2d():
                module = nn.AvgPool2d(layer.module.kernel_size)
            case SpikingNeuron():
                module = real_neuron(layer.module)
            case _:
                module = copy.deepcopy(layer.module)
        layers.append(Layer(layer.name, module, layer.inputs))
    ranges = dict(snn.ranges)
    for name in snn.neurons.keys() & ranges.keys():
        most = float(grid.scales[name].max())
        ranges[name] = ranges[name][0] * most, ranges[name][1] * most
    return _like(snn, Network(layers, snn.network.input_shape), ranges, None)


def grid_of(snn: SpikingNetwork) -> IntegerGrid | None:
    """Scales and exponents of a network that computes in integers; None for one that does not."""
    return snn.readout.grid if isinstance(snn.readout, IntegerReadout) else None


def _like(
    snn: SpikingNetwork,
    network: Network,
    ranges: dict[str, tuple[float, float]],
    readout: Readout | None,
) -> SpikingNetwork:
    """A spiking network of other layers, otherwise as ``snn``."""
    return SpikingNetwork(
        network,
        snn.coding,
        snn.num_steps,
        ranges=ranges,
        data=snn.data,
        provenance=snn.provenance,
        readout=readout,
    ).train(snn.training)


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
            module = integer_neuron(module, scale.to(module.threshold.device))
        elif isinstance(module, nn.AvgPool2d):
            module = SumPool2d(module.kernel_size)
        elif isinstance(module, Add):
            inputs = tuple(_weighted(network, name, layer.name, layers) for name in inputs)
        layers.append(Layer(layer.name, module, inputs))
    made = Network(layers, network.input_shape)
    for layer in made.layers:
        if isinstance(layer.module, SpikingNeuron):
            _join_biases(made, layer, grid)
    for layer in made.layers:
        if isinstance(layer.module, nn.Conv2d | nn.Linear | Scale):
            _round(made, layer, grid, shapes)
            fed = made[_target(made, layer.name)].module
            if isinstance(fed, SpikingNeuron) and not isinstance(layer.module, Scale):
                assert isinstance(fed.numbers, IntegerNumbers)
                fed.numbers.takes_bias_of(layer.module)
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
    areas = []
    while name != INPUT and not isinstance(network[name].module, SpikingNeuron):
        layer = network[name]
        if isinstance(layer.module, nn.AvgPool2d):
            areas.append(math.prod(sides(layer.module.kernel_size)))
        (name,) = layer.inputs
    factor = 1.0
    for area in reversed(areas):
        factor /= area
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
