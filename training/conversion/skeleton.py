"""A classifier's layers with neurons in place of its activations."""

import copy

from torch import nn

from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.snn.form import ACTIVATIONS
from spikeship.training.snn.neurons import HeldDropout, Reset, Scale, SpikingNeuron


def skeleton(ann: Network, leak: float = 1.0, reset: Reset = "subtract") -> Network:
    """Copy a classifier's layers, with neurons for activations and a Scale on identity skips.

    Args:
        ann: of the form that ``form.check_form`` describes.
        leak: of the neurons.
        reset: of the neurons.
    """
    like = next(ann.parameters())
    layers: list[Layer] = []
    for layer in ann.layers:
        module, inputs = copy.deepcopy(layer.module), layer.inputs
        if isinstance(module, ACTIVATIONS):
            module = SpikingNeuron(1.0, leak=leak, reset=reset)
        elif isinstance(module, nn.Dropout):
            module = HeldDropout(module.p)
        elif isinstance(module, Add):
            if any(isinstance(reader.module, Add) for reader in ann.consumers(layer.name)):
                continue  # its branches go to the outer sum
            branches: list[str] = []
            for branch in ann.summands(layer.name):
                if branch == INPUT or not isinstance(ann[branch].module, nn.Conv2d | nn.Linear):
                    scale = Layer(f"{layer.name}.skip{len(branches)}", Scale(1.0), (branch,))
                    layers.append(scale)
                    branch = scale.name
                branches.append(branch)
            inputs = tuple(branches)
        layers.append(Layer(layer.name, module.to(like), inputs))
    return Network(layers, ann.input_shape).to(like)
