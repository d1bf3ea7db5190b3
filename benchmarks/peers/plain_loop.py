"""STDB as Rathi et al. (ICLR 2020) describe it: all layers, one time step after the other.

Nothing is folded over time and autograd keeps what it wants; this is what a reader of the paper
would write first. It computes exactly what a SpikingNetwork computes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from spikeship.training.ann.network import INPUT
from spikeship.training.snn.neurons import HeldDropout, SpikingNeuron
from spikeship.training.snn.spiking_network import SpikingNetwork

ALPHA, BETA, NEVER = 0.3, 0.01, -1000.0


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, since: Tensor) -> Tensor:
        ctx.save_for_backward(since)
        return (z > 0).to(z.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (since,) = ctx.saved_tensors
        return grads[0] * ALPHA * torch.exp(-BETA * since), None


class PlainLoop(nn.Module):
    """A spiking network run step by step; shares its weights with the one it is made of."""

    def __init__(self, snn: SpikingNetwork) -> None:
        super().__init__()
        self.snn = snn

    def forward(self, messages: Tensor) -> Tensor:
        """Readout (batch, classes) of messages (batch, time, *input_shape)."""
        layers = self.snn.network.layers
        potentials: dict[str, Tensor] = {}
        last: dict[str, Tensor] = {}
        masks: dict[str, Tensor] = {}
        readout: Tensor | None = None
        for t in range(messages.shape[1]):
            values = {INPUT: messages[:, t].to(next(self.parameters()).dtype)}
            for layer in layers:
                x, module = [values[name] for name in layer.inputs], layer.module
                if isinstance(module, SpikingNeuron):
                    values[layer.name] = self._neuron(layer.name, module, x[0], t, potentials, last)
                elif isinstance(module, HeldDropout):
                    if self.training and layer.name not in masks:
                        masks[layer.name] = nn.functional.dropout(torch.ones_like(x[0]), module.p)
                    values[layer.name] = x[0] * masks[layer.name] if self.training else x[0]
                else:
                    values[layer.name] = module(*x)
            current = values[layers[-1].name]
            current = current.to(torch.promote_types(current.dtype, torch.float32))
            readout = current if readout is None else readout + current
        assert readout is not None  # there is at least one step
        return readout

    def _neuron(
        self,
        name: str,
        module: SpikingNeuron,
        current: Tensor,
        t: int,
        potentials: dict[str, Tensor],
        last: dict[str, Tensor],
    ) -> Tensor:
        theta = module.threshold
        before = potentials.get(name, torch.zeros_like(current))
        v = module.leak * before + current
        since = t - last.get(name, torch.full_like(current, NEVER))
        spikes: Tensor = _Spike.apply(v / theta - 1.0, since)  # type: ignore[no-untyped-call]
        fired = spikes.detach()
        last[name] = torch.where(fired > 0, float(t), last.get(name, torch.full_like(v, NEVER)))
        potentials[name] = v - theta * fired
        return spikes
