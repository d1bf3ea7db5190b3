"""Max pools in front of activations, moved behind them: max and a rising function change places."""

from torch import nn

from spikeship.training.ann.network import Layer, Network
from spikeship.training.snn.form import ACTIVATIONS


def pools_behind(network: Network) -> Network:
    """Give the same network with each max pool behind the activation that alone reads it.

    ``relu(max(x)) = max(relu(x))``, and an activation sends what a pool may take the largest of.
    The layers keep their names and modules.
    """
    inputs = {layer.name: layer.inputs for layer in network.layers}
    swapped: dict[str, str] = {}
    for layer in network.layers:
        readers = network.consumers(layer.name)
        if not isinstance(layer.module, nn.MaxPool2d) or len(readers) != 1:
            continue
        (reader,) = readers
        if isinstance(reader.module, ACTIVATIONS):
            swapped[layer.name] = reader.name
    if not swapped:
        return network
    for pool, activation in swapped.items():
        inputs[activation], inputs[pool] = inputs[pool], (activation,)
    after = {activation: pool for pool, activation in swapped.items()}
    layers: list[Layer] = []
    for layer in network.layers:
        if layer.name in swapped:
            continue  # it comes right behind its activation
        sources = inputs[layer.name]
        if layer.name not in after:
            sources = tuple(after.get(source, source) for source in sources)
        layers.append(Layer(layer.name, layer.module, sources))
        if layer.name in after:
            pool = after[layer.name]
            layers.append(Layer(pool, network[pool].module, (layer.name,)))
    return Network(layers, network.input_shape).train(network.training)
