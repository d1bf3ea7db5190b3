"""Calibration of a converted network: biases or V0 that bring mean firing to the ANN's means.

Few steps round what neurons say, and thresholds clip it, so each layer passes on a mean that is
off; so is then what the next layer gets. The errors are taken out layer by layer, each on what
really reaches it (Li et al., ICML 2021).
"""

import torch
from torch import Tensor, nn

from spikeship.hw_models.errors import SpikeshipError
from spikeship.training import choices
from spikeship.training.ann.network import Add, Layer, Network
from spikeship.training.conversion.passage import Passage, Received
from spikeship.training.conversion.units import MessageScale
from spikeship.training.snn.encoding import encode, real_images
from spikeship.training.snn.form import ACTIVATIONS
from spikeship.training.snn.neurons import SpikingNeuron
from spikeship.training.snn.observe import fitting_batch
from spikeship.training.snn.spiking_network import SpikingNetwork

Calibrated = choices.Calibrated

# a mean answers a change by less than the change, as only some neurons fire
_ROUNDS = 4


class CalibrationError(SpikeshipError, ValueError):
    """What cannot be calibrated, in one line."""


@torch.no_grad()
def match_means(
    snn: SpikingNetwork,
    ann: Network,
    images: Tensor,
    scales: dict[str, MessageScale],
    by: Calibrated,
    *,
    seed: int = 0,
    batch_size: int | None = None,
) -> None:
    """Bring each channel's, or dense unit's, mean firing to the mean of the ANN's activation.

    Layers without a bias get one; a chip adds it for nothing. With ``bias`` the readout's is set
    too, so that R / T has the mean of the ANN's scores.

    Args:
        snn: the converted network, changed in place; run for its own ``num_steps``.
        ann: where it comes from, batch norm folded.
        images: calibration images (images, *input_shape), normalised as for the ANN.
        scales: of a message of each layer, from ``units.set_units``.
        by: ``bias``, or ``v0``: the potential that neurons start with.
        seed: of the encoding.
        batch_size: images run at once; by default what memory allows.

    Raises:
        CalibrationError: a sum of identity skips only, which has no place for a bias.
        EncodingError: images that the network's coding cannot carry.
    """
    network, steps = snn.network, snn.num_steps
    wanted = _means(ann, real_images(images, snn.coding), scales, batch_size)
    visits = list(snn.neurons) + ([network.output] if by == "bias" else [])
    messages = encode(images, snn.coding, steps, seed=seed)
    passage = Passage(network, messages, visits, batch_size)
    for name in visits:
        layer = network[name]
        received = passage.receive(name)
        if not isinstance(layer.module, SpikingNeuron):
            _bias(layer).add_(wanted[name] - _mean(received, None))
            continue
        neuron = layer.module
        unit = scales[layer.inputs[0]]
        bias = _bias(_biased(network, layer)) if by == "bias" else None
        for _ in range(_ROUNDS):
            theta = neuron.threshold.flatten().double()
            error = wanted[name] / unit - _mean(received, neuron) * theta
            spread = error.to(neuron.threshold).reshape(-1, *[1] * (len(passage.shape(name)) - 1))
            if bias is None:
                neuron.v0 = neuron.v0 + steps * spread
            else:
                bias.add_(error)
                received.shift(spread)
        passage.send(name, neuron, received)


def _means(
    ann: Network, images: Tensor, scales: dict[str, MessageScale], batch_size: int | None
) -> dict[str, Tensor]:
    """Mean of each activation's channels or units, and of the scores, over images; float64.

    Activations are clipped at the value of one spike a step: no bias can make a neuron give more,
    and one that tried would raise the small values for the large ones.
    """
    like = next(ann.parameters())
    training = ann.training
    ann.eval()
    totals: dict[str, Tensor] = {}
    for part in torch.split(images, batch_size or fitting_batch(ann, 1)):
        for layer, _, result in ann.walk(part.to(like)):
            if isinstance(layer.module, ACTIVATIONS):
                most = torch.as_tensor(scales[layer.name]).to(result)
                result = torch.minimum(result, most)
            elif layer.name != ann.output:
                continue
            mean = _places(result.double())
            totals[layer.name] = totals.get(layer.name, torch.zeros_like(mean[0])) + mean.sum(0)
    ann.train(training)
    return {name: total / len(images) for name, total in totals.items()}


def _mean(received: Received, neuron: SpikingNeuron | None) -> Tensor:
    """Mean of each channel or unit over time, images and places; float64.

    Of what a neuron sends for what it received, or without one of that itself.
    """
    total, images = torch.zeros(()), 0
    for weighted in received:
        values = weighted if neuron is None else neuron(weighted)
        total = _places(values.mean(0, dtype=torch.float64)).sum(0) + total.to(values.device)
        images += weighted.shape[1]
    return total / images


def _places(values: Tensor) -> Tensor:
    """Mean over the places of each channel, (images, channel), of dense units as they are."""
    return values.flatten(2).mean(2) if values.ndim > 2 else values


def _biased(network: Network, neuron: Layer) -> Layer:
    """The layer whose bias a neuron gets: the one that feeds it, of a sum any weighted branch."""
    source = network[neuron.inputs[0]]
    branches = [network[name] for name in source.inputs] if isinstance(source.module, Add) else []
    for layer in (source, *branches):
        if isinstance(layer.module, nn.Conv2d | nn.Linear):
            return layer
    raise CalibrationError(
        f"neuron {neuron.name!r}: reads a sum of identity skips, which have no bias; "
        "calibrate 'v0' instead"
    )


def _bias(layer: Layer) -> Tensor:
    """Bias of a weighted layer, which gets one of zeros where it has none."""
    module = layer.module
    assert isinstance(module, nn.Conv2d | nn.Linear)
    if module.bias is None:
        module.bias = nn.Parameter(torch.zeros_like(module.weight.flatten(1)[:, 0]))
    return module.bias
