"""A FixedGraph as a network of SpikingJelly's IF neurons, computing in whole numbers.

Weights and thresholds are the chip's integers held in float32, whose sums are exact as long as
they stay below 2**24. The step is SpikingJelly's own, with two changes to its neuron. It fires
at the threshold and the chip only above it (and a threshold raised a little would, with a soft
reset, subtract too much), so its neurons decide by a surrogate function x > 0. And where the
chip's potential would stop at a rail, so much less is given to it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from spikingjelly.activation_based import functional, neuron
from torch import Tensor, nn

from spikeship.hw_models.fixed import DECAY_UNITY, STATE_RAIL, STATE_SHIFT
from spikeship.hw_models.graph import AnySynapse, Conv, Dense, FixedGraph, Neuron

EXACT = 2**24
RAIL = STATE_RAIL / 2**STATE_SHIFT  # in weight units


class Above(nn.Module):
    """Spike where the argument is above 0, and not at 0."""

    def forward(self, x: Tensor) -> Tensor:
        return (x > 0).to(x.dtype)


class RailedNode(neuron.IFNode):
    """SpikingJelly's IF node, given what keeps its potential between the chip's rails."""

    def multi_step_functional_forward(
        self, inputs: tuple[Tensor, ...], states: tuple[Any, ...], **kwargs: Any
    ) -> tuple[tuple[Tensor, ...], tuple[Any, ...]]:
        (v, *others), spikes = states, []
        for x in inputs[0]:
            within = (v + x).clamp(-RAIL, RAIL) - v
            (fired,), (v, *_) = self.single_step_functional_forward((within,), (v, *others))
            spikes.append(fired)
        return (torch.stack(spikes),), (v, *others)


class JellyIntegers(nn.Module):
    """A chain of layers of integers: neurons without leak, bias and V0, with any reset.

    Raises:
        ValueError: a graph that is something else, or whose sums float32 does not hold.
    """

    def __init__(self, graph: FixedGraph) -> None:
        super().__init__()
        self.names: list[str] = []
        self.shapes = {node.name: node.shape for node in graph.nodes}
        self.sums, self.neurons = nn.ModuleList(), nn.ModuleList()
        source = graph.input.name
        for node in graph.nodes:
            synapses = graph.incoming(node.name)
            if not graph.gated or [synapse.source for synapse in synapses] != [source]:
                raise ValueError(f"node {node.name!r}: only gated chains of layers are made")
            if graph.input_bound(node.name) >= EXACT:
                raise ValueError(f"node {node.name!r}: float32 does not hold its sums")
            source = node.name
            self.names.append(node.name)
            self.sums.append(_Sum(synapses[0]))
            if isinstance(node, Neuron):
                self.neurons.append(_neuron(node))
            else:
                bias = np.broadcast_to(node.bias, node.shape).astype(np.float64)
                self.register_buffer("bias", torch.from_numpy(bias))

    @torch.no_grad()
    def walk(self, messages: NDArray[Any]) -> Iterator[tuple[str, Tensor]]:
        """Run messages (images, T, *input shape).

        Yields:
            In order each node's name and its spikes (T, images, *shape) in its own local steps;
            of the readout, which comes last, its potential after every step, in float64.
        """
        functional.reset_net(self)
        x = torch.from_numpy(messages).transpose(0, 1).to(torch.float32)
        for number, (name, layer) in enumerate(zip(self.names, self.sums, strict=True)):
            x = functional.seq_to_ann_forward(x, layer)
            x = x.reshape(*x.shape[:2], *self.shapes[name])
            if number == len(self.neurons):
                yield name, (x + self.get_buffer("bias")).cumsum(0)
            else:
                x = self.neurons[number](x)
                yield name, x


class _Sum(nn.Module):
    """A synapse: what arrives at its target in one step, (batch, ...)."""

    def __init__(self, synapse: AnySynapse) -> None:
        super().__init__()
        if not isinstance(synapse, Conv | Dense):
            raise ValueError(f"synapse {synapse.name!r}: only conv and dense ones are made")
        self.synapse = synapse
        weight = torch.from_numpy(np.asarray(synapse.weight, np.float32))
        self.register_buffer("weight", weight)

    def forward(self, x: Tensor) -> Tensor:
        synapse, weight = self.synapse, self.get_buffer("weight")
        if synapse.pool > 1:
            # rounded, as dividing by an odd number of values leaves more than whole numbers
            x = (nn.functional.avg_pool2d(x, synapse.pool) * synapse.pool**2).round()
        if isinstance(synapse, Dense):
            x = nn.functional.linear(x.flatten(1), weight)
        else:
            x = nn.functional.conv2d(
                x, weight, None, synapse.stride, synapse.padding, synapse.dilation, synapse.groups
            )
        return (x * 2.0**synapse.weight_exp).floor()


def _neuron(node: Neuron) -> neuron.IFNode:
    """SpikingJelly's node with a population's thresholds, in weight units."""
    current = node.du != DECAY_UNITY - 1
    if current or node.refractory or np.any(node.bias) or np.any(node.v0) or np.any(node.dv):
        raise ValueError(f"node {node.name!r}: only integration without bias or V0 is made")
    made = RailedNode(
        v_reset=None if node.reset == "subtract" else 0.0,
        surrogate_function=Above(),
        step_mode="m",
    )
    # a threshold for each neuron, where its constructor takes one number
    made.v_threshold = torch.from_numpy(np.broadcast_to(node.vth, node.shape).astype(np.float32))
    return made
