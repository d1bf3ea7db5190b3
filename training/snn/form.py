"""The form a network must have to become, or to be, a spiking one, checked layer by layer."""

import torch
from torch import Tensor, nn

from spikeship.hw_models.errors import SpikeshipError
from spikeship.training import choices
from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.ann.sides import sides
from spikeship.training.snn.neurons import HeldDropout, Scale, SpikingNeuron

Timing = choices.Timing

# what an ANN may have where a spiking network has neurons
ACTIVATIONS = (nn.ReLU, ClippedReLU, QCFS)


class FormError(SpikeshipError, ValueError):
    """A layer that has no spiking form: its name, the reason and the fix, in one line."""


def check_form(network: Network, timing: Timing = "pipelined") -> None:
    """Check that messages and weighted input take turns, from the input to a dense readout.

    The input and neurons send messages; pools, dropout and flatten pass messages on; ``Conv2d``,
    ``Linear`` and ``Scale`` turn messages into weighted input; ``Add`` sums it (and messages, an
    identity skip); a neuron, in an ANN one of ``ACTIVATIONS``, takes it. Pools are average pools
    whose kernel is their stride and divides their input; in staged timing max pools too, of what
    an activation or another max pool sends.

    Raises:
        FormError: the first layer that breaks this.
    """
    sends = {INPUT}
    for layer in network.layers:
        _check_layer(layer, sends)
        if isinstance(layer.module, nn.MaxPool2d):
            _check_max_pool(network, layer, timing)
        if not isinstance(layer.module, _WEIGHTED):
            sends.add(layer.name)
        if layer.name != network.output:
            _check_readers(network, layer, layer.name in sends)
    last = network.layers[-1]
    if not isinstance(last.module, nn.Linear):
        raise FormError(
            f"layer {last.name!r}: is the network's output but no Linear layer; "
            "end the network with the Linear layer that gives the class scores"
        )
    shapes = sample_shapes(network)
    for layer in network.layers:
        _check_shapes(layer, [shapes[source] for source in layer.inputs])


def sample_shapes(network: Network) -> dict[str, tuple[int, ...]]:
    """Shape of the input (``"input"``) and of every layer's result for one sample.

    Raises:
        FormError: a layer that cannot take what comes before it.
    """
    training = network.training
    shapes = {INPUT: network.input_shape}
    like = next(network.parameters())
    sample = torch.zeros(1, *network.input_shape, dtype=like.dtype, device=like.device)
    network.eval()
    try:
        with torch.no_grad():
            for layer, _, result in network.walk(sample, _one_step):
                shapes[layer.name] = tuple(result.shape[1:])
    except RuntimeError as error:
        at = network.layers[len(shapes) - 1].name
        raise FormError(
            f"layer {at!r}: cannot take its input when samples have shape {network.input_shape} "
            f"({str(error).splitlines()[0]}); correct the layer or the input shape"
        ) from error
    finally:
        network.train(training)
    return shapes


def _one_step(layer: Layer, inputs: tuple[Tensor, ...]) -> Tensor:
    module = layer.module
    if isinstance(module, SpikingNeuron | HeldDropout):
        # these take an axis of time before the samples'
        return module.forward(inputs[0].unsqueeze(0)).squeeze(0)
    result: Tensor = module(*inputs)
    return result


def _check_layer(layer: Layer, sends: set[str]) -> None:
    module = layer.module
    kind = type(module).__name__
    if not isinstance(module, _KNOWN):
        raise FormError(f"layer {layer.name!r}: {_FIXES.get(kind, _UNKNOWN.format(kind))}")
    if isinstance(module, _TAKES) and layer.inputs[0] in sends:
        raise FormError(
            f"layer {layer.name!r}: follows {layer.inputs[0]!r}, not a weighted layer or a sum; "
            "put the ReLU directly after the Conv2d, Linear or sum it belongs to"
        )
    if isinstance(module, ClippedReLU | QCFS) and not module.level > 0:
        raise FormError(
            f"layer {layer.name!r}: its level is {module.level.item():g}, not positive; "
            "train with a larger one or a smaller learning rate"
        )
    if isinstance(module, nn.Conv2d) and module.padding_mode != "zeros":
        raise FormError(f"layer {layer.name!r}: pads with {module.padding_mode!r}; pad with zeros")
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1):
        raise FormError(f"layer {layer.name!r}: flattens only some axes; use nn.Flatten()")
    if isinstance(module, nn.AvgPool2d):
        kernel, stride, padding = map(sides, (module.kernel_size, module.stride, module.padding))
        plain = not module.ceil_mode and module.divisor_override is None and padding == (0, 0)
        if not plain or kernel != stride or kernel[0] != kernel[1]:
            raise FormError(
                f"layer {layer.name!r}: a pool of kernel {kernel}, stride {stride} and padding "
                f"{padding} has no spiking form; use AvgPool2d(k), whose kernel is its stride, "
                "without padding, ceil_mode or divisor"
            )


def _check_max_pool(network: Network, layer: Layer, timing: Timing) -> None:
    assert isinstance(layer.module, nn.MaxPool2d)
    where, pool = f"layer {layer.name!r}", layer.module
    if timing == "pipelined":
        raise FormError(
            f"{where}: MaxPool2d has no spiking form in pipelined timing; convert with --timing "
            "staged, where it is exact, or train with AvgPool2d of the same size (--max-pool "
            "average, then fine-tune)"
        )
    if pool.ceil_mode or pool.return_indices:
        raise FormError(f"{where}: has ceil_mode or return_indices; use MaxPool2d without")
    source = layer.inputs[0]
    while source != INPUT and isinstance(network[source].module, nn.Dropout | HeldDropout):
        (source,) = network[source].inputs
    module = None if source == INPUT else network[source].module
    if not isinstance(module, (*_TAKES, nn.MaxPool2d)):
        what = "the input" if source == INPUT else f"{source!r}, a {type(module).__name__}"
        raise FormError(
            f"{where}: takes the largest of what {what} gives, which has no exact spiking form; "
            "put it behind a ReLU (max and ReLU may change places), or use AvgPool2d"
        )


def _check_readers(network: Network, layer: Layer, sends: bool) -> None:
    readers = network.consumers(layer.name)
    if not readers:
        raise FormError(f"layer {layer.name!r}: nothing reads it; leave it out")
    if sends:
        return
    if len(readers) > 1:
        raise FormError(
            f"layer {layer.name!r}: {len(readers)} layers read it; only what a ReLU gives may be "
            "read more than once"
        )
    if not isinstance(readers[0].module, (*_TAKES, Add)):
        raise FormError(
            f"layer {readers[0].name!r}: reads {layer.name!r}, which is no ReLU's result; "
            "put a ReLU between the two"
        )


def _check_shapes(layer: Layer, inputs: list[tuple[int, ...]]) -> None:
    if isinstance(layer.module, Add) and len(set(inputs)) > 1:
        raise FormError(f"layer {layer.name!r}: sums shapes {inputs}; give its branches one shape")
    if isinstance(layer.module, nn.AvgPool2d):
        side, shape = sides(layer.module.kernel_size)[0], inputs[0]
        if len(shape) != 3 or shape[1] % side or shape[2] % side:
            raise FormError(
                f"layer {layer.name!r}: a {side}x{side} pool does not divide shape {shape}; "
                "pad the images so that every pool divides evenly"
            )


_TAKES = (*ACTIVATIONS, SpikingNeuron)
_WEIGHTED = (nn.Conv2d, nn.Linear, Scale, Add)
_KNOWN = (
    *_WEIGHTED,
    *_TAKES,
    nn.AvgPool2d,
    nn.MaxPool2d,
    nn.Dropout,
    HeldDropout,
    nn.Flatten,
)
_UNKNOWN = "{} has no spiking form; use Conv2d, Linear, ReLU, AvgPool2d, Dropout or a sum"
_FIXES = {
    "BatchNorm2d": "BatchNorm2d cannot be folded here; put it directly after a convolution",
}
