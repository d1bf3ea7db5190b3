"""The nodes of a FixedGraph: its input, neurons and readout, each checked when it is made.

Shapes are torch's: ``(channel, height, width)`` or ``(features,)``. Fields carry Lava's names. A
neuron is named after the activation it stands for, the readout after the last weighted layer.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.graph.checks import (
    MAX_MESSAGE,
    Array,
    Encoding,
    Overflow,
    Shape,
    per_neuron,
    plain_shape,
    require,
    within,
)


def _zero() -> Array:
    return np.zeros((), np.int64)


def _one() -> NDArray[np.float64]:
    return np.ones(())


class _Named:
    """What is shown by its name and shape, not by its arrays."""

    name: str
    shape: Shape

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} {self.shape}>"


@dataclass(frozen=True, eq=False, repr=False)
class Input(_Named):
    """Where messages enter.

    Attributes:
        name: name of the node.
        shape: ``(channel, height, width)`` or ``(features,)``.
        encoding: how an image becomes messages; ``spikes`` takes them as they arrive, graded
            ones where ``max_message`` is larger than 1.
        max_message: largest magnitude of a message (1 for spikes, 127 for 8-bit direct input).
        signed: whether messages may be negative.
        scale: real input = message * scale (folded into the first weights already).
    """

    name: str
    shape: Shape
    encoding: Encoding = "poisson"
    max_message: int = 1
    signed: bool = True
    scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", plain_shape(self.name, self.shape))
        require(
            1 <= self.max_message <= MAX_MESSAGE,
            f"input {self.name!r}: max_message must lie in 1..{MAX_MESSAGE}",
        )
        require(
            self.encoding in ("poisson", "direct", "spikes"),
            f"input {self.name!r}: unknown encoding {self.encoding!r}; poisson, direct or spikes",
        )


@dataclass(frozen=True, eq=False, repr=False)
class Neuron(_Named):
    """Leaky integrate-and-fire neurons, one population.

    Per local step, with ``a`` the sum of the synapses' results::

        u = tz(u * (4096 - (du + 1))) + (a << 6)
        v = saturate(tz(v * (4096 - dv)) + u + (bias_mant << bias_exp))
        s = v > vth << 6
        v = v - (vth << 6) where s, or 0 with ``reset="zero"``

    In the ``refractory`` steps after a spike v stays as it is (no leak, no input, no bias) and
    the neuron does not spike; u runs on.

    Attributes:
        name: name of the node.
        shape: shape of the population.
        vth: threshold, weight units, per neuron or broadcast (17 bits).
        du: decay of the current (4095: none kept, pure integration).
        dv: decay of the potential (0: no leak), per neuron or broadcast.
        bias_mant: bias mantissa, signed 13 bits.
        bias_exp: its exponent, 0..7.
        v0: potential at the start of a sample, in units of v (64 to a weight unit).
        reset: ``subtract`` (soft) or ``zero`` (hard).
        refractory: steps after a spike in which the neuron rests, at most 63.
        scale: real = integer weight * scale, per channel or one.
        overflow: whether the bound on ``a`` is proved, observed on data, or unchecked; in a staged
            graph that on ``v`` too.
        relay: whether it hands on the largest of what it reads (a max pool of a staged graph).
    """

    name: str
    shape: Shape
    vth: Array
    du: int = 4095
    dv: Array = field(default_factory=_zero)
    bias_mant: Array = field(default_factory=_zero)
    bias_exp: Array = field(default_factory=_zero)
    v0: Array = field(default_factory=_zero)
    reset: Literal["subtract", "zero"] = "subtract"
    scale: NDArray[np.float64] = field(default_factory=_one)
    overflow: Overflow = "unchecked"
    refractory: int = 0
    relay: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", plain_shape(self.name, self.shape))
        for key in ("vth", "dv", "bias_mant", "bias_exp", "v0", "scale"):
            per_neuron(self, key)
        within(
            self,
            {
                "vth": (0, fixed.VTH_MAX),
                "bias_mant": (fixed.BIAS_MANT_MIN, fixed.BIAS_MANT_MAX),
                "bias_exp": (0, fixed.BIAS_EXP_MAX),
                "v0": (-fixed.STATE_RAIL, fixed.STATE_RAIL),
                "du": (0, 4095),
                "dv": (0, 4095),
                "refractory": (0, fixed.REFRACTORY_MAX),
            },
        )
        require(bool(np.all(self.scale > 0)), f"neuron {self.name!r}: scale must be positive")
        require(
            self.reset in ("subtract", "zero"),
            f"neuron {self.name!r}: unknown reset {self.reset!r}; subtract or zero",
        )

    @property
    def bias(self) -> Array:
        """Effective bias in units of v, broadcastable to the shape."""
        return fixed.effective_bias(self.bias_mant, self.bias_exp).astype(np.int64)


@dataclass(frozen=True, eq=False, repr=False)
class Delta(_Named):
    """Sends changes of its input: Lava's ``Delta``, graded and signed messages.

    Per local step, with ``a`` the sum of the synapses' results::

        x = a << (spike_exp + state_exp)
        delta = x - act + residue
        s = delta where abs(delta) >= vth << (spike_exp + state_exp), else 0
        residue = delta - s;  act = x
        message = s >> state_exp                # floor

    With ``cum_error`` it is an error that meets the threshold, not delta::

        error = error + delta
        s = delta where abs(error) >= vth << (spike_exp + state_exp), else 0
        error = 0 where s is not 0

    Attributes:
        name: name of the node.
        shape: shape of the population.
        vth: threshold, before the shift, per neuron or broadcast.
        spike_exp: fraction bits of a message.
        state_exp: further fraction bits of the state.
        cum_error: whether deltas that were not sent add up until they are.
        scale: real message = message * scale, per channel or one.
    """

    name: str
    shape: Shape
    vth: Array
    spike_exp: int = 0
    state_exp: int = 0
    cum_error: bool = False
    scale: NDArray[np.float64] = field(default_factory=_one)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", plain_shape(self.name, self.shape))
        for key in ("vth", "scale"):
            per_neuron(self, key)
        _check_delta(self)

    @property
    def shift(self) -> int:
        """Bits by which input and threshold are shifted left."""
        return self.spike_exp + self.state_exp


@dataclass(frozen=True, eq=False, repr=False)
class SigmaDelta(_Named):
    """Adds up changes, applies an activation, sends the changes of that: Lava's ``SigmaDelta``.

    Per local step, with ``a`` the sum of the synapses' results::

        sigma = sigma + a
        x = activation(sigma + (bias << (spike_exp + state_exp)))

    and then as Delta, graded and signed messages included.

    Attributes:
        name: name of the node.
        shape: shape of the population.
        vth: threshold, before the shift, per neuron or broadcast.
        bias: before the shift, per neuron or broadcast.
        activation: ``relu``, or ``unit`` for none.
        spike_exp: fraction bits of a message.
        state_exp: further fraction bits of the state.
        cum_error: whether deltas that were not sent add up until they are.
        scale: real message = message * scale, per channel or one.
    """

    name: str
    shape: Shape
    vth: Array
    bias: Array = field(default_factory=_zero)
    activation: Literal["relu", "unit"] = "relu"
    spike_exp: int = 0
    state_exp: int = 0
    cum_error: bool = False
    scale: NDArray[np.float64] = field(default_factory=_one)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", plain_shape(self.name, self.shape))
        for key in ("vth", "bias", "scale"):
            per_neuron(self, key)
        _check_delta(self)
        require(
            int(np.abs(self.bias).max(initial=0)) << self.shift <= fixed.STATE_RAIL,
            f"neuron {self.name!r}: bias << {self.shift} leaves 24 bits; choose another scale",
        )
        require(
            self.activation in ("relu", "unit"),
            f"neuron {self.name!r}: unknown activation {self.activation!r}; relu or unit",
        )

    @property
    def shift(self) -> int:
        """Bits by which bias and threshold are shifted left."""
        return self.spike_exp + self.state_exp


def _check_delta(node: Delta | SigmaDelta) -> None:
    where = f"neuron {node.name!r}"
    limit = fixed.EXPONENT_MAX
    within(node, {"spike_exp": (0, limit), "state_exp": (0, limit), "vth": (0, fixed.STATE_RAIL)})
    require(
        int(node.vth.max(initial=0)) << node.shift <= fixed.STATE_RAIL,
        f"{where}: vth << {node.shift} leaves 24 bits; choose another scale",
    )
    require(bool(np.all(node.scale > 0)), f"{where}: scale must be positive")


@dataclass(frozen=True, eq=False, repr=False)
class Readout(_Named):
    """The accumulator at the end: ``v += a + bias``; no leak, threshold or spike. Weight units.

    It starts at ``v0``. One ``scale`` for all classes, or the largest potential would not be the
    largest score.
    """

    name: str
    shape: Shape
    bias: Array = field(default_factory=_zero)
    scale: float = 1.0
    v0: Array = field(default_factory=_zero)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", plain_shape(self.name, self.shape))
        per_neuron(self, "bias")
        per_neuron(self, "v0")
        require(self.scale > 0, f"readout {self.name!r}: scale must be positive")


GradedNode = Delta | SigmaDelta
SpikingNode = Neuron | Delta | SigmaDelta
Node = SpikingNode | Readout
