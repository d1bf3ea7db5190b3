"""From a trained ANN to a spiking network: units, threshold balancing and what it observed.

A neuron's spike is worth its threshold in units of its weighted input, so units multiply from
layer to layer. Biases are divided by the unit they are added in, the branches of a sum are brought
to the unit of its deepest one, and the last weights hold what the last spikes are worth, so that
R / T is the ANN's result. Thresholds are the largest weighted input (or a percentile of it) that
calibration images cause, layer by layer, times a factor.
"""

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from spikeship.training.balance import BalanceError, Calibration
from spikeship.training.encoding import Encoding, InputCoding, encode
from spikeship.training.fold import fold_batchnorm
from spikeship.training.form import check_form
from spikeship.training.network import INPUT, Add, Layer, Network
from spikeship.training.neurons import HeldDropout, Reset, Scale, SpikingNetwork, SpikingNeuron
from spikeship.training.observe import observe_ranges

# as the paper's code balances, however few steps the network is then made for
BALANCE_STEPS = 100


def convert(
    ann: Network,
    images: Tensor,
    *,
    num_steps: int,
    encoding: Encoding = "poisson",
    peak: float | None = None,
    balance: str = "max",
    balance_steps: int = BALANCE_STEPS,
    factor: float | None = None,
    leak: float = 1.0,
    reset: Reset = "subtract",
    seed: int = 0,
    batch_size: int | None = None,
    data: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> SpikingNetwork:
    """Convert a trained ANN (Rathi et al., ICLR 2020); ``ann`` stays as it is.

    Args:
        ann: network of the form that ``form.check_form`` describes, with ReLUs; batch norm after
            a convolution is folded.
        images: calibration images, normalised as for the ANN, shape (images, *input_shape).
        num_steps: T.
        encoding: how images become messages.
        peak: the |x| that uses the encoding's full range; by default the calibration images'
            largest. Give the training set's where the images are only some of it.
        balance: ``max``, or ``percentile:P`` with 0 < P <= 100 over all steps, neurons and images.
        balance_steps: steps to balance over; at least T of them are taken. In a few steps spikes
            may not reach the last layers at all, so there would be nothing to balance on.
        factor: what balanced thresholds are multiplied by; by default ``default_factor``'s.
        leak: factor on V from step to step of the result; thresholds are balanced with 1.
        reset: what a spike does to V.
        seed: of the encoding of the calibration images.
        batch_size: calibration images run at once; by default what memory allows. It changes
            nothing but time and memory.
        data: JSON object, ``name``, ``mean`` and ``std`` of the data set.
        provenance: JSON object, how the network came to be.

    Returns:
        A spiking network in eval mode on the ANN's device, with its ranges over the images.

    Raises:
        BalanceError: a balance or factor outside its range, or a neuron whose threshold would
            not be positive.
        FoldError: batch norm that cannot be folded.
        FormError: a layer that has no spiking form.
        EncodingError: images that cannot be encoded.
    """
    factor = default_factor(num_steps) if factor is None else factor
    if not (math.isfinite(factor) and factor > 0):
        raise BalanceError(f"factor must be positive, got {factor}")
    ann = fold_batchnorm(ann)
    check_form(ann)
    coding = InputCoding.for_images(encoding, images, peak)
    network = _skeleton(ann, leak, reset)
    snn = SpikingNetwork(network, coding, num_steps, data=data, provenance=provenance).eval()
    messages = encode(images, coding, max(num_steps, balance_steps), seed=seed)
    calibration = Calibration(network, messages, balance, reset, batch_size)
    _set_units(network, ann, coding.scale, calibration.threshold)
    # as the paper has it: first all are balanced against each other, then all are scaled
    balanced = {name: float(neuron.threshold) for name, neuron in snn.neurons.items()}
    _set_units(network, ann, coding.scale, lambda name: factor * balanced[name])
    snn.ranges = observe_ranges(snn, images, seed=seed, batch_size=batch_size)
    return snn


def default_factor(num_steps: int) -> float:
    """Factor on balanced thresholds: the paper's 0.7, or 0.5 for fewer than 20 steps.

    Measured on VGG5 for 8 x 8 digits, balanced over 100 steps (ANN 99.0 %): with 0.5 and 0.7,
    accuracy was 96.8 and 52.0 % at T = 8, 97.4 and 92.4 % at 12, 98.2 and 97.6 % at 16, 98.4 and
    98.6 % at 20.
    """
    return 0.7 if num_steps >= 20 else 0.5


def _skeleton(ann: Network, leak: float, reset: Reset) -> Network:
    """Copy an ANN's layers with neurons for its ReLUs and a Scale on every identity skip."""
    like = next(ann.parameters())
    layers: list[Layer] = []
    for layer in ann.layers:
        module, inputs = copy.deepcopy(layer.module), layer.inputs
        if isinstance(module, nn.ReLU):
            module = SpikingNeuron(1.0, leak=leak, reset=reset)
        elif isinstance(module, nn.Dropout):
            module = HeldDropout(module.p)
        elif isinstance(module, Add):
            if any(isinstance(reader.module, Add) for reader in ann.consumers(layer.name)):
                continue  # its branches go to the outer sum
            branches: list[str] = []
            for branch in _branches(ann, layer):
                if branch == INPUT or not isinstance(ann[branch].module, nn.Conv2d | nn.Linear):
                    scale = Layer(f"{layer.name}.skip{len(branches)}", Scale(1.0), (branch,))
                    layers.append(scale)
                    branch = scale.name
                branches.append(branch)
            inputs = tuple(branches)
        layers.append(Layer(layer.name, module.to(like), inputs))
    return Network(layers, ann.input_shape).to(like)


def _branches(ann: Network, add: Layer) -> list[str]:
    """Branches of a sum, those of sums within it included."""
    branches: list[str] = []
    for name in add.inputs:
        inner = name != INPUT and isinstance(ann[name].module, Add)
        branches += _branches(ann, ann[name]) if inner else [name]
    return branches


@torch.no_grad()
def _set_units(
    network: Network, ann: Network, input_scale: float, threshold_of: Callable[[str], float]
) -> None:
    """Set thresholds, and weights and biases from the ANN's in the units that follow from them.

    ``threshold_of`` is asked for each neuron, in order, when all before it is set.
    """
    worth = {INPUT: input_scale}
    depth = {INPUT: 0}
    for layer in network.layers:
        module = layer.module
        deepest = max(layer.inputs, key=lambda name: depth[name])
        unit = worth[deepest]
        if isinstance(module, nn.Conv2d | nn.Linear):
            trained = ann[layer.name].module
            assert isinstance(trained, nn.Conv2d | nn.Linear)
            gain = 1.0
            if depth[deepest] == 0 or layer.name == network.output:
                # the first weights hold what a message is worth, and the last what a spike is:
                # R / T is the ANN's result, and a loss on it starts where the ANN's ended
                gain, unit = unit, 1.0
            module.weight.copy_(trained.weight * gain)
            if module.bias is not None and trained.bias is not None:
                module.bias.copy_(trained.bias / unit)
        elif isinstance(module, Scale):
            module.factor.fill_(1.0)
        elif isinstance(module, Add):
            for branch in layer.inputs:
                _rescale(network[branch].module, worth[branch] / unit)
        elif isinstance(module, SpikingNeuron):
            module.threshold.fill_(threshold_of(layer.name))
            unit *= float(module.threshold)
        worth[layer.name] = unit
        depth[layer.name] = depth[deepest] + isinstance(module, SpikingNeuron)


def _rescale(branch: nn.Module, ratio: float) -> None:
    for key in ("weight", "bias", "factor"):
        value = getattr(branch, key, None)
        if isinstance(value, Tensor) and ratio != 1.0:
            value.mul_(ratio)
