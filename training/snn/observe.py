"""Run a spiking network on images: its readout, and the ranges of weighted input in it.

Images are encoded by (seed, index), so every run here sees the same messages whatever the batch.
"""

import functools
import math
import operator
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spikeship.training.ann.network import Add, Layer, Network
from spikeship.training.data.load import Samples
from spikeship.training.snn.encoding import encode
from spikeship.training.snn.form import sample_shapes
from spikeship.training.snn.neurons import HeldDropout, Scale, SpikingNeuron
from spikeship.training.snn.spiking_network import SpikingNetwork

# a batch is as large as lets its widest layer hold so many values (128 MiB in float32)
_VALUES = 2**25


def fitting_batch(network: Network, num_steps: int) -> int:
    """Number of samples to run at once so that no layer's result takes more than 128 MiB."""
    widest = max(math.prod(shape) for shape in sample_shapes(network).values())
    return max(1, _VALUES // (widest * num_steps))


@torch.no_grad()
def evaluate(
    snn: SpikingNetwork,
    images: Samples,
    *,
    seed: int = 0,
    indices: Tensor | None = None,
    num_steps: int | None = None,
    batch_size: int | None = None,
) -> Tensor:
    """Readout R of every image, on the CPU, shape (images, classes).

    Args:
        snn: the network, on whatever device; run in eval mode.
        images: real images (images, *input_shape), normalised as the network's training images
            were; for encoding ``spikes``, messages (images, time, *input_shape).
        seed: of the encoding.
        indices: int64, each image's place in its split; by default 0, 1, 2, …
        num_steps: T; by default the network's own.
        batch_size: images run at once; by default what memory allows.

    Raises:
        EncodingError: images the network's coding cannot carry.
    """
    sending = snn.input_steps(num_steps)
    batch_size = batch_size or fitting_batch(snn.network, sending)
    places = torch.arange(len(images)) if indices is None else indices
    training = snn.training
    snn.eval()
    results = [
        snn(encode(images[part], snn.coding, sending, seed=seed, indices=places[part])).cpu()
        for part in torch.split(torch.arange(len(images)), batch_size)
    ]
    snn.train(training)
    return torch.cat(results)


@torch.no_grad()
def observe_ranges(
    snn: SpikingNetwork, images: Tensor, *, seed: int = 0, batch_size: int | None = None
) -> dict[str, tuple[float, float]]:
    """Smallest and largest weighted input W·s of each neuron and of the readout.

    All branches are summed and biases left out, in the units of V; the readout stands under the
    last layer's name. What quantization takes for a bound where it cannot prove one.

    Args:
        snn: the network, on whatever device; run in eval mode for its own ``num_steps``.
        images: as for :func:`evaluate`.
        seed: of the encoding; image k has index k.
        batch_size: images run at once; by default what memory allows.

    Raises:
        EncodingError: images the network's coding cannot carry.
    """
    batch_size = batch_size or fitting_batch(snn.network, snn.num_steps)
    training = snn.training
    snn.eval()
    ranges: dict[str, tuple[float, float]] = {}
    for part in torch.split(torch.arange(len(images)), batch_size):
        messages = encode(images[part], snn.coding, snn.num_steps, seed=seed, indices=part)
        for name, weighted, spikes in snn.walk(messages):
            fed_by = name if spikes is None else snn.network[name].inputs[0]
            low, high = (weighted - _bias(snn.network, fed_by)).aminmax()
            before = ranges.get(name, (math.inf, -math.inf))
            ranges[name] = min(before[0], low.item()), max(before[1], high.item())
            del weighted, spikes
    snn.train(training)
    return ranges


@torch.no_grad()
def observe_arrivals(
    snn: SpikingNetwork, images: Tensor, *, seed: int = 0, batch_size: int | None = None
) -> dict[str, tuple[float, float]]:
    """Smallest and largest potential of each staged population in any step, as input arrives.

    Start and bias are in, and so is what a single step adds. Where branches meet, each may be
    anywhere between its first and its last message.

    Args:
        snn: a staged network; run in eval mode.
        images: as for :func:`evaluate`.
        seed: of the encoding; image k has index k.
        batch_size: images run at once; by default what memory allows.

    Raises:
        EncodingError: images the network's coding cannot carry.
    """
    batch_size = batch_size or fitting_batch(snn.network, snn.num_steps)
    training = snn.training
    snn.eval()
    ranges: dict[str, tuple[float, float]] = {}
    like = next(snn.parameters())
    for part in torch.split(torch.arange(len(images)), batch_size):
        messages = encode(images[part], snn.coding, snn.input_steps(), seed=seed, indices=part)
        # what has arrived after 1..T steps, one below the other
        so_far = messages.transpose(0, 1).to(like).cumsum(0)
        so_far = so_far.expand(snn.num_steps, *so_far.shape[1:]).flatten(0, 1)
        arriving = _Arriving(snn, len(part))
        for _ in snn.network.walk(_Between(so_far, None, None), arriving.call):
            pass
        for name, (low, high) in arriving.ranges.items():
            before = ranges.get(name, (math.inf, -math.inf))
            ranges[name] = min(before[0], low), max(before[1], high)
    snn.train(training)
    return ranges


class _Between(NamedTuple):
    """Values after 1..T steps (T * batch, …), and what their least and largest sums are."""

    so_far: Tensor
    least: Tensor | None
    most: Tensor | None


def _sum(parts: Iterable[Tensor | None]) -> Tensor:
    return functools.reduce(operator.add, (part for part in parts if part is not None))


class _Arriving:
    def __init__(self, snn: SpikingNetwork, images: int) -> None:
        self.snn, self.images = snn, images
        self.ranges: dict[str, tuple[float, float]] = {}

    def call(self, layer: Layer, inputs: tuple[_Between, ...]) -> _Between:
        """Run a layer on what has arrived after each step."""
        module, first = layer.module, inputs[0]
        if isinstance(module, SpikingNeuron):
            return self._fire(layer.name, module, first)
        if isinstance(module, HeldDropout):
            return first
        result = module(*(each.so_far for each in inputs))
        if isinstance(module, nn.Conv2d | nn.Linear | Scale):
            weighted = self._steps(result)
            bias = _bias(self.snn.network, layer.name).to(weighted)
            # before its first message there is the bias alone
            least = torch.minimum(weighted.amin(0), bias)
            most = torch.maximum(weighted.amax(0), bias)
            if layer.name == self.snn.network.output:
                self._note(layer.name, least, most)
            return _Between(result, least, most)
        if isinstance(module, Add):
            return _Between(result, *(_sum(each[place] for each in inputs) for place in (1, 2)))
        return _Between(result, None, None)

    def _fire(self, name: str, neuron: SpikingNeuron, arrived: _Between) -> _Between:
        assert arrived.least is not None and arrived.most is not None
        self._note(name, arrived.least + neuron.v0, arrived.most + neuron.v0)
        steps = self.snn.num_steps
        count = neuron.count(self._steps(arrived.so_far)[-1], steps)
        counted = torch.arange(1, steps + 1).to(count).reshape(-1, *[1] * count.ndim)
        return _Between(torch.minimum(count[None], counted).flatten(0, 1), None, None)

    def _note(self, name: str, least: Tensor, most: Tensor) -> None:
        step = float((most - least).max())  # the most that one step can add or take
        low, high = min(float(least.min()), -step), max(float(most.max()), step)
        self.ranges[name] = low, high

    def _steps(self, x: Tensor) -> Tensor:
        return x.view(self.snn.num_steps, self.images, *x.shape[1:])


def _bias(network: Network, name: str) -> Tensor:
    """Bias in a weighted layer's or a sum's result, shaped to broadcast to it."""
    layer = network[name]
    if isinstance(layer.module, Add):
        return functools.reduce(operator.add, (_bias(network, part) for part in layer.inputs))
    bias = getattr(layer.module, "bias", None)
    if not isinstance(bias, Tensor):
        return torch.zeros(())
    return bias.reshape(-1, 1, 1) if isinstance(layer.module, nn.Conv2d) else bias
