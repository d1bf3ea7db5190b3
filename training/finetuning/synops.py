"""Synaptic operations in training: what spikes cost, with gradients.

One operation is one spike arriving at one existing synapse of non-zero weight. Taps on padding do
not exist, and a neuron before a pool stands for its window: ``hw_models.counts`` counts the same
events in the integers. Only neurons' spikes are counted: no weight changes the input's own.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeship.training.ann.network import Network
from spikeship.training.snn.neurons import HeldDropout, Scale


def synops(network: Network, events: Mapping[str, Tensor], *, connected: bool = False) -> Tensor:
    """Operations that so many spikes cause with the weights as they are now.

    Args:
        network: layers of the form that ``form.check_form`` describes, with spiking neurons.
        events: by neuron, how often each of its population spiked, of the population's shape.
        connected: count synapses whose weight is zero, too.

    Returns:
        A float64 scalar, exact up to 2**53; its gradient goes to the events, none to the weights.
    """
    # messages, pooled and flattened, by the layer that hands them on
    carried = {name: count.double().unsqueeze(0) for name, count in events.items()}
    total = torch.zeros((), dtype=torch.float64, device=next(network.parameters()).device)
    for layer in network.layers:
        module = layer.module
        for messages in [carried[name] for name in layer.inputs if name in carried]:
            if isinstance(module, nn.AvgPool2d):
                carried[layer.name] = functional.avg_pool2d(
                    messages, module.kernel_size, divisor_override=1
                )
            elif isinstance(module, nn.Flatten):
                carried[layer.name] = messages.flatten(1)
            elif isinstance(module, HeldDropout):
                # it thins out messages in training only
                carried[layer.name] = messages
            else:
                total = total + _arriving(module, messages, connected).sum()
    return total


def _arriving(module: nn.Module, messages: Tensor, connected: bool) -> Tensor:
    """Operations in one layer that takes messages, summed over its output channels."""
    if isinstance(module, nn.Conv2d):
        stored = _stored(module.weight, connected)
        per_group = stored.reshape(module.groups, -1, *stored.shape[1:]).sum(1).double()
        return functional.conv2d(
            messages,
            per_group,
            None,
            module.stride,
            module.padding,
            module.dilation,
            module.groups,
        )
    if isinstance(module, nn.Linear):
        return messages * _stored(module.weight, connected).sum(0).double()
    if isinstance(module, Scale):
        return messages * _stored(module.factor, connected).double()
    return messages  # a sum takes an identity skip as it comes


def _stored(weight: Tensor, connected: bool) -> Tensor:
    return torch.ones_like(weight, dtype=torch.bool) if connected else weight.detach() != 0
