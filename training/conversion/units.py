"""The scale of a message in the ANN's numbers, and the weights that follow from it.

A spike's scale is its neuron's threshold in units of that neuron's weighted input, so scales
multiply from layer to layer. Weighted input has one unit a layer. Where what comes in has the scale
different amounts (thresholds per channel), the weights take up the ratios.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.snn.form import sample_shapes
from spikeship.training.snn.neurons import Scale, SpikingNeuron

# one number, or float64 that broadcasts to a sample: (channel, 1, 1), after Flatten (features,)
MessageScale = float | Tensor
# of a neuron's name and the unit of its weighted input, in that unit
ThresholdOf = Callable[[str, float], MessageScale]


@torch.no_grad()
def set_units(
    network: Network,
    ann: Network,
    input_scale: float,
    threshold_of: ThresholdOf,
    start: float = 0.0,
) -> dict[str, MessageScale]:
    """Set thresholds, and weights and biases from the ANN's in the units that follow from them.

    Args:
        network: the spiking network, changed in place.
        ann: where its weights come from; layers have the same names.
        input_scale: scale of a message of the input.
        threshold_of: asked for each neuron, in order, when all before it is set.
        start: V0 in thresholds.

    Returns:
        The scale of a message of each layer: of a neuron its spike, of a weighted layer or a
        sum its unit.
    """
    scales: dict[str, MessageScale] = {INPUT: input_scale}
    depth = {INPUT: 0}
    shapes = sample_shapes(network)
    for layer in network.layers:
        module = layer.module
        deepest = max(layer.inputs, key=lambda name: depth[name])
        each = scales[deepest]
        if isinstance(module, nn.Conv2d | nn.Linear):
            # the first weights hold the scale of a message, and the last that of a spike:
            # R / T is the ANN's result, and a loss on it starts where the ANN's ended
            ends = depth[deepest] == 0 or layer.name == network.output
            unit = 1.0 if ends else _largest(each)
            _set_weights(module, ann[layer.name].module, each, unit)
            scales[layer.name] = unit
        elif isinstance(module, Scale):
            unit = _largest(each)
            module.factor = torch.as_tensor(each / unit).to(module.factor)
            scales[layer.name] = unit
        elif isinstance(module, Add):
            for branch in layer.inputs:
                _rescale(network[branch], scales[branch], each)
            scales[layer.name] = each
        elif isinstance(module, SpikingNeuron):
            assert isinstance(each, float)  # whatever feeds a neuron has one unit
            module.threshold = torch.as_tensor(threshold_of(layer.name, each)).to(module.threshold)
            module.v0 = module.threshold * start
            theta = module.threshold
            scales[layer.name] = each * (theta.double() if theta.ndim else float(theta))
        elif isinstance(module, nn.Flatten) and isinstance(each, Tensor):
            scales[layer.name] = each.expand(shapes[deepest]).flatten()
        else:
            scales[layer.name] = each
        depth[layer.name] = depth[deepest] + isinstance(module, SpikingNeuron)
    return scales


def _largest(scale: MessageScale) -> float:
    return float(scale.max()) if isinstance(scale, Tensor) else scale


def _set_weights(module: nn.Module, trained: nn.Module, each: MessageScale, unit: float) -> None:
    """Scale a layer's ANN weights for messages of value ``each``; the result is in ``unit``."""
    assert isinstance(module, nn.Conv2d | nn.Linear)
    assert isinstance(trained, nn.Conv2d | nn.Linear)
    if isinstance(each, Tensor):
        ratio = each.flatten() / unit
        if isinstance(module, nn.Conv2d):
            # (out, in / groups, 1, 1): a group's outputs see its own inputs only
            of_group = ratio.view(module.groups, 1, -1, 1, 1)
            per_group = module.out_channels // module.groups
            ratio = of_group.expand(-1, per_group, -1, 1, 1).flatten(0, 1)
        module.weight.copy_(trained.weight.double() * ratio)
    elif each == unit:
        module.weight.copy_(trained.weight)
    else:
        module.weight.copy_(trained.weight * (each / unit))
    if module.bias is not None and trained.bias is not None:
        module.bias.copy_(trained.bias / unit)


def _rescale(branch: Layer, scale: MessageScale, unit: MessageScale) -> None:
    """Bring a branch of a sum from its own unit to the sum's."""
    assert isinstance(scale, float) and isinstance(unit, float)
    for key in ("weight", "bias", "factor"):
        value = getattr(branch.module, key, None)
        if isinstance(value, Tensor) and scale != unit:
            value.mul_(scale / unit)
