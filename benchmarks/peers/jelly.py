"""The same network of SpikingJelly's multi-step neurons."""

from typing import Any

import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from spikeship.training.ann.network import INPUT
from spikeship.training.snn.neurons import HeldDropout, SpikingNeuron
from spikeship.training.snn.spiking_network import SpikingNetwork


class Jelly(nn.Module):
    """A chain of layers with SpikingJelly's IF neurons: soft reset, detached, ATan slope.

    Its arguments are SpikingJelly's own defaults for multi-step training on a CPU; stateless
    layers see time and batch in one axis, as its own containers have it.
    """

    def __init__(self, snn: SpikingNetwork) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        source = INPUT
        for layer in snn.network.layers:
            if layer.inputs != (source,):
                raise ValueError(f"layer {layer.name!r}: only chains of layers are made")
            source = layer.name
            module: nn.Module = layer.module
            if isinstance(module, SpikingNeuron):
                module = neuron.IFNode(
                    v_threshold=float(module.threshold),
                    v_reset=None,
                    surrogate_function=surrogate.ATan(),
                    detach_reset=True,
                    step_mode="m",
                )
            self.layers.append(module)

    def forward(self, messages: Tensor) -> Tensor:
        """Readout (batch, classes) of messages (batch, time, *input_shape)."""
        functional.reset_net(self)
        x: Any = messages.transpose(0, 1).to(next(self.parameters()).dtype)
        for module in self.layers:
            if isinstance(module, neuron.IFNode | HeldDropout):
                x = module(x)
            else:
                x = functional.seq_to_ann_forward(x, module)
        result: Tensor = x.sum(0, dtype=torch.float32)
        return result
