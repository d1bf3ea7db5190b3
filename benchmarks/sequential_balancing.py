"""Threshold balancing as Rathi et al. (ICLR 2020) describe and code it, step by step.

For every neuron layer the network up to it is run again from the start, one time step after the
other, and the largest weighted input is its threshold. What the one pass of
``training/conversion/balance.py`` must agree with, and is measured against.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.snn.form import ACTIVATIONS


@torch.no_grad()
def sequential_thresholds(
    ann: Network,
    messages: Tensor,
    scale: float,
    *,
    hard: bool = False,
    paper: bool = False,
    batch_size: int = 64,
) -> dict[str, float]:
    """Thresholds of all neuron layers, by name.

    Args:
        ann: batch norm folded; sums of neurons' and weighted layers' results only.
        messages: int8, shape (images, T, *input_shape).
        scale: what a message is worth.
        hard: a spike sets V to 0 instead of subtracting the threshold.
        paper: a neuron decides on the V of the step before, as in the paper's code.
        batch_size: images run at once.
    """
    thresholds: dict[str, float] = {}
    for layer in ann.layers:
        if not isinstance(layer.module, ACTIVATIONS):
            continue
        largest = -float("inf")
        for batch in torch.split(messages, batch_size):
            prefix = Prefix(ann, scale, thresholds, layer.name, hard, paper)
            for step in batch.unbind(1):
                largest = max(largest, float(prefix.step(step).max()))
        thresholds[layer.name] = largest
    return thresholds


class Prefix:
    """The network up to one layer, run step by step.

    Args:
        ann: as for ``sequential_thresholds``.
        scale: what a message is worth.
        thresholds: of the neurons before the layer.
        end: the layer's name.
        hard: as for ``sequential_thresholds``.
        paper: likewise.
    """

    def __init__(
        self,
        ann: Network,
        scale: float,
        thresholds: dict[str, float],
        end: str,
        hard: bool = False,
        paper: bool = False,
    ) -> None:
        self._ann, self._thresholds, self._end = ann, thresholds, end
        self._hard, self._paper = hard, paper
        self._like = next(ann.parameters())
        self._potentials: dict[str, Tensor] = {}
        self.spikes: dict[str, Tensor] = {}
        self._parameters: dict[str, tuple[Tensor, Tensor | None]] = {}
        # what one unit of each layer's result is worth, and how many neurons come before it
        self._worth = {INPUT: scale}
        depth = {INPUT: 0}
        for layer in ann.layers:
            deepest = max(layer.inputs, key=lambda name: depth[name])
            worth, module = self._worth[deepest], layer.module
            if isinstance(module, nn.Conv2d | nn.Linear):
                # the first and the last weights hold what their input is worth
                gain = worth if depth[deepest] == 0 or layer.name == ann.output else 1.0
                worth /= gain
                bias = None if module.bias is None else module.bias / worth
                self._parameters[layer.name] = module.weight * gain, bias
            elif isinstance(module, ACTIVATIONS):
                worth *= thresholds.get(layer.name, 1.0)
            self._worth[layer.name] = worth
            depth[layer.name] = depth[deepest] + isinstance(module, ACTIVATIONS)
            if layer.name == end:
                break

    @torch.no_grad()
    def step(self, messages: Tensor) -> Tensor:
        """One time step; what the end receives, or gives if it is no neuron."""
        values = {INPUT: messages.to(self._like)}
        for layer in self._ann.layers:
            inputs = [values[name] for name in layer.inputs]
            if layer.name == self._end and isinstance(layer.module, ACTIVATIONS):
                return inputs[0]
            values[layer.name] = self._result(layer, inputs)
            if layer.name == self._end:
                return values[layer.name]
        raise KeyError(self._end)

    def _result(self, layer: Layer, inputs: list[Tensor]) -> Tensor:
        module, x = layer.module, inputs[0]
        if isinstance(module, nn.Conv2d):
            weight, bias = self._parameters[layer.name]
            return functional.conv2d(
                x, weight, bias, module.stride, module.padding, module.dilation, module.groups
            )
        if isinstance(module, nn.Linear):
            return functional.linear(x, *self._parameters[layer.name])
        if isinstance(module, Add):
            unit = self._worth[layer.name]
            ratios = [self._worth[name] / unit for name in layer.inputs]
            parts = zip(inputs, ratios, strict=True)
            return sum((x if ratio == 1.0 else x * ratio for x, ratio in parts), torch.zeros(()))
        if isinstance(module, ACTIVATIONS):
            self.spikes[layer.name] = self._fire(layer.name, x)
            return self.spikes[layer.name]
        result: Tensor = module(x)
        return result

    def _fire(self, name: str, weighted: Tensor) -> Tensor:
        theta = self._thresholds[name]
        if name not in self._potentials:
            self._potentials[name] = torch.zeros_like(weighted)
        v = self._potentials[name]
        if not self._paper:
            v.add_(weighted)
        spikes = (v > theta).to(v.dtype)
        if self._hard:
            v.mul_(1 - spikes)
        else:
            v.sub_(spikes, alpha=theta)
        if self._paper:
            v.add_(weighted)
        return spikes
