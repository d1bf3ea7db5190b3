"""Run a spiking network on images: its readout, and the ranges of weighted input in it.

Images are encoded by (seed, index), so every run here sees the same messages whatever the batch.
"""

import functools
import math
import operator

import torch
from torch import Tensor, nn

from spikeship.training.ann.network import Add, Network
from spikeship.training.data.load import Samples
from spikeship.training.snn.encoding import encode
from spikeship.training.snn.form import sample_shapes
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
    num_steps = num_steps or snn.num_steps
    batch_size = batch_size or fitting_batch(snn.network, num_steps)
    places = torch.arange(len(images)) if indices is None else indices
    training = snn.training
    snn.eval()
    results = [
        snn(encode(images[part], snn.coding, num_steps, seed=seed, indices=places[part])).cpu()
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


def _bias(network: Network, name: str) -> Tensor:
    """Bias in a weighted layer's or a sum's result, shaped to broadcast to it."""
    layer = network[name]
    if isinstance(layer.module, Add):
        return functools.reduce(operator.add, (_bias(network, part) for part in layer.inputs))
    bias = getattr(layer.module, "bias", None)
    if not isinstance(bias, Tensor):
        return torch.zeros(())
    return bias.reshape(-1, 1, 1) if isinstance(layer.module, nn.Conv2d) else bias
