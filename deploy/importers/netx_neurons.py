"""The neurons of a ``.net`` file as netx makes them: Lava's LIF, Delta, SigmaDelta and Sigma."""

import numpy as np

from spikeship.deploy.importers.netx_file import Layer, NetxError
from spikeship.hw_models import fixed
from spikeship.hw_models.graph import Array, Delta, Neuron, Node, Readout, Shape, SigmaDelta

LIF_KINDS = ("LOIHI", "CUBA")
BIAS_EXP = 6  # netx counts biases in weight units
EXPONENT = 6  # netx's spike_exp, and Lava's state_exp beside it
# the largest input whose shift by both exponents stays within the state's 24 bits
DELTA_INPUT = fixed.STATE_RAIL >> (2 * EXPONENT)


def input_node(layer: Layer, shape: Shape) -> Node:
    """The neurons of an input layer, which messages reach without a weight or a step's delay."""
    kind = _kind(layer)
    if kind == "SDNN":
        vth = layer.number("neuron/vThMant")
        return Delta(layer.name, shape, np.array(vth), EXPONENT, EXPONENT)
    _note_ignored(layer)
    return _lif(layer, shape, np.zeros((), np.int64))


def output_of(layer: Layer, shape: Shape, *, last: bool) -> Node:
    """The neurons of a weighted layer.

    Args:
        layer: a dense or convolutional layer.
        shape: of its neurons.
        last: whether no other layer follows; only the last may be a readout.

    Raises:
        NetxError: a neuron that netx, the chip or a FixedGraph could not run.
    """
    if "neuron" not in layer:
        if layer.kind == "conv":
            raise layer.error("a convolution without neurons, which netx cannot read; export it")
        return _integrator(layer, shape, last)
    if _kind(layer) != "SDNN":
        _note_ignored(layer)
        if _integrates(layer):
            return _integrator(layer, shape, last)
        return _lif(layer, shape, _bias(layer, shape))
    if "neuron/sigma_output" in layer:
        if "bias" in layer:
            raise layer.error("a sigma output with a bias, which netx cannot run; remove the bias")
        return _readout(layer, shape, last)
    if "neuron/activation" in layer and layer.text("neuron/activation") != "relu":
        layer.note(f"netx ignores activation {layer.text('neuron/activation')!r} and takes relu")
    vth = np.array(layer.number("neuron/vThMant"))
    return SigmaDelta(layer.name, shape, vth, _bias(layer, shape), "relu", EXPONENT, EXPONENT)


def _kind(layer: Layer) -> str:
    kind = layer.text("neuron/type")
    if "neuron/messageBits" in layer:
        raise layer.error("neuron has messageBits, which netx cannot read; remove the dataset")
    if kind in LIF_KINDS or kind == "SDNN":
        return kind
    raise layer.error(f"neuron type {kind!r} cannot be run here; CUBA, LOIHI and SDNN can")


def _integrates(layer: Layer) -> bool:
    """Whether the neuron is what netx gives a layer without one: u never decays, v follows u."""
    return (
        layer.number("neuron/iDecay") == 0
        and layer.number("neuron/vDecay") == fixed.DECAY_UNITY
        and layer.number("neuron/vThMant") > fixed.VTH_MAX
    )


def _integrator(layer: Layer, shape: Shape, last: bool) -> Readout:
    if "bias" in layer and layer.integers("bias").any():
        raise layer.error(
            "an integrator with a bias, which netx adds to the potential once and a readout in "
            "every step; remove the bias"
        )
    return _readout(layer, shape, last)


def _readout(layer: Layer, shape: Shape, last: bool) -> Readout:
    if not last:
        raise layer.error(
            "it only adds up what arrives and is not the last layer; end the network there with "
            f"--layers {layer.index + 1}"
        )
    return Readout(layer.name, shape)


def _lif(layer: Layer, shape: Shape, bias: Array) -> Neuron:
    du = layer.number("neuron/iDecay") - 1
    dv = layer.number("neuron/vDecay")
    vth = layer.number("neuron/vThMant")
    for key, value, top in (("iDecay", du + 1, 4096), ("vDecay", dv, 4095)):
        if not (key == "iDecay") <= value <= top:
            raise layer.error(
                f"{key} is {value}, the chip holds {int(key == 'iDecay')}..{top}; choose another "
                "decay"
            )
    return Neuron(
        name=layer.name,
        shape=shape,
        vth=np.array(vth),
        du=du,
        dv=np.array(dv),
        bias_mant=bias,
        bias_exp=np.array(BIAS_EXP),
        reset="zero",
    )


def _bias(layer: Layer, shape: Shape) -> Array:
    """A bias for each neuron or channel, as an array that broadcasts to the shape."""
    if "bias" not in layer:
        return np.zeros((), np.int64)
    bias = layer.integers("bias")
    if len(shape) == 1:
        if bias.size not in (1, shape[0]):
            raise _misfit(layer, bias, shape)
        return bias.reshape(-1)
    if bias.shape == shape[::-1]:  # Lava's axes (x, y, channel)
        return np.ascontiguousarray(bias.transpose())
    if bias.shape != shape[:1]:
        raise _misfit(layer, bias, shape)
    return bias.reshape(-1, 1, 1)


def _misfit(layer: Layer, bias: Array, shape: Shape) -> NetxError:
    return layer.error(f"bias has shape {bias.shape}, its neurons {shape}; export it again")


def _note_ignored(layer: Layer) -> None:
    """Remark on what the file asks of a LIF neuron and netx leaves out."""
    if "neuron/refDelay" in layer and layer.number("neuron/refDelay") > 1:
        steps = layer.number("neuron/refDelay")
        layer.note(f"netx ignores the refractory delay of {steps} steps, and so does this")
    if "neuron/wgtExp" in layer and layer.number("neuron/wgtExp") != 0:
        layer.note("netx ignores the neuron's wgtExp, and so does this")
    if "neuron/gradedSpike" in layer and layer.number("neuron/gradedSpike") != 0:
        layer.note("netx sends graded spikes of LIF neurons as plain ones, and so does this")
