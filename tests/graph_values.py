"""What fills a random graph: weights, thresholds, leaks, biases and messages, edges included.

Hypothesis draws the style and a seed, NumPy the numbers: a large array costs a graph one draw, and
a failing graph shrinks in its structure and its styles.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.graph import Delta, Input, Neuron, Overflow, Readout, SigmaDelta

Array = NDArray[np.int64]
Shape = tuple[int, ...]
Draw = st.DrawFn
ROUNDED = 64  # a sum shifted apart for each delay ends this much further out at most
GRADED = (3, 28, 127, 2000, 2**15 - 1)  # widths of graded inputs

seeds = st.integers(0, 2**16 - 1).map(np.random.default_rng)


@dataclass(frozen=True)
class Reach:
    """What may arrive at a node in one step: the bound of ``a``, the grid it lies on.

    ``proved`` is whether nothing beyond the bound can arrive: graded neurons may send more.
    """

    bound: int
    step: int
    proved: bool


def weights(draw: Draw, shape: Shape) -> tuple[Array, int]:
    """Weights and the ``num_weight_bits`` that hold them; axis 0 is the output."""
    sign = draw(st.sampled_from(("mixed", "positive", "negative")))
    odd = (fixed.ODD_WEIGHT_BITS,) if sign == "mixed" else ()
    bits = draw(st.sampled_from((8, 8, 8, *odd, 7, 5, 3, 2, 1)))
    spread = draw(st.sampled_from(("small", "wide", "edges")))
    zeros = draw(st.sampled_from((0.0, 0.3, 0.9)))
    rng = draw(seeds)
    step = 1 << (fixed.WEIGHT_BITS - bits + (sign == "mixed"))
    low, high = fixed.weight_range(sign == "mixed", bits)
    low, high = (0 if sign == "positive" else low, 0 if sign == "negative" else high)
    least, most = -(-low // step), high // step
    if spread == "small":
        least, most = max(least, -3), min(most, 3)
    if spread == "edges":
        values = rng.choice(np.array([least, most, most, max(least, most - 1)]), shape)
    else:
        values = rng.integers(least, most + 1, shape)
    values = values * step
    values[rng.random(shape) < zeros] = 0
    if draw(st.booleans()):
        values[rng.integers(len(values))] = 0  # a whole row
    return held(values.astype(np.int64), bits)


def held(weight: Array, bits: int) -> tuple[Array, int]:
    """Weights of one sign only, which cannot be -256 nor take 9 bits, as they can be held."""
    if np.any(weight > 0) and np.any(weight < 0):
        return weight, bits
    step = fixed.weight_step(weight, bits)
    return weight.clip(-(255 // step) * step, None), min(bits, fixed.WEIGHT_BITS)


def per_neuron(draw: Draw, shape: Shape, choose: Any) -> Array:
    """``choose(size)`` for every neuron, for every channel, or one for all."""
    each = draw(st.sampled_from(("one", "channel", "neuron")))
    axes = (1,) * len(shape)
    size = {"one": axes, "channel": (shape[0], *axes[1:]), "neuron": shape}[each]
    return np.asarray(choose(size), dtype=np.int64)


def neuron(draw: Draw, name: str, shape: Shape, reach: Reach) -> Neuron:
    """A population whose thresholds its input can meet, most of the time."""
    du = draw(st.sampled_from((4095, 4095, 4095, 4094, 2000, 100, 0)))
    vth = thresholds(draw, shape, reach, fixed.VTH_MAX)
    bias_exp = draw(st.sampled_from((0, 0, 3, 7)))
    rng = draw(seeds)
    hot = draw(st.sampled_from((False, False, False, True)))  # at the rails, and driven there
    mantissa = {
        "none": lambda size: np.zeros(size),
        "small": lambda size: rng.integers(-9, 10, size),
        "any": lambda size: rng.integers(fixed.BIAS_MANT_MIN, fixed.BIAS_MANT_MAX + 1, size),
        "edges": lambda size: rng.choice([fixed.BIAS_MANT_MIN, fixed.BIAS_MANT_MAX], size),
    }["edges" if hot else draw(st.sampled_from(("none", "small", "any", "edges")))]
    start = {
        "zero": lambda size: np.zeros(size),
        "near": lambda size: np.broadcast_to(vth << 5, shape)[tuple(slice(n) for n in size)],
        "small": lambda size: rng.integers(-70, 71, size),
        "any": lambda size: rng.integers(-fixed.STATE_RAIL, fixed.STATE_RAIL + 1, size),
        "rails": lambda size: rng.choice([-fixed.STATE_RAIL, fixed.STATE_RAIL], size),
    }["rails" if hot else draw(st.sampled_from(("zero", "zero", "near", "small", "any")))]
    leak = {
        "none": lambda size: np.zeros(size),
        "slow": lambda size: rng.integers(0, 300, size),
        "any": lambda size: rng.integers(0, 4096, size),
        "all": lambda size: np.full(size, 4095),
    }["none" if hot else draw(st.sampled_from(("none", "none", "slow", "any", "all")))]
    provable = du == fixed.DECAY_UNITY - 1 and reach.bound <= fixed.INPUT_LIMIT - ROUNDED
    provable = provable and reach.proved
    known: tuple[Overflow, ...] = ("unchecked", "observed", "proved")
    return Neuron(
        name,
        shape,
        vth=vth,
        du=du,
        dv=per_neuron(draw, shape, leak),
        bias_mant=per_neuron(draw, shape, mantissa),
        bias_exp=per_neuron(draw, shape, lambda size: rng.integers(0, bias_exp + 1, size)),
        v0=per_neuron(draw, shape, start),
        reset=draw(st.sampled_from(("subtract", "zero"))),
        overflow=draw(st.sampled_from(known if provable else known[:2])),
        refractory=draw(st.sampled_from((0, 0, 0, 0, 1, 3))),
    )


def thresholds(draw: Draw, shape: Shape, reach: Reach, limit: int) -> Array:
    """Within the input's reach, on its grid (ties), or at the edges of the width."""
    style = draw(st.sampled_from(("reach", "reach", "grid", "grid", "tie", "tie", "edges", "any")))
    share = draw(st.sampled_from((4, 16, 64, 256)))
    rng = draw(seeds)
    top = min(limit, max(1, reach.bound // share))
    choose = {
        "reach": lambda size: rng.integers(0, top + 1, size),
        "grid": lambda size: rng.integers(0, top + 1, size) // reach.step * reach.step,
        "tie": lambda size: np.minimum(limit, rng.integers(0, 5, size) * reach.step),
        "edges": lambda size: rng.choice([0, 1, limit], size),
        "any": lambda size: rng.integers(0, limit + 1, size),
    }[style]
    return per_neuron(draw, shape, choose)


def delta(draw: Draw, name: str, shape: Shape, reach: Reach) -> Delta:
    """Neurons that send how much their input changed."""
    return Delta(
        name,
        shape,
        vth=thresholds(draw, shape, reach, 2**14),
        spike_exp=draw(st.sampled_from((0, 0, 1, 3, 6))),
        state_exp=draw(st.sampled_from((0, 0, 1, 2))),
        cum_error=draw(st.booleans()),
    )


def sigma_delta(draw: Draw, name: str, shape: Shape, reach: Reach) -> SigmaDelta:
    """Neurons that add up what arrives, and send how much their activation changed."""
    rng = draw(seeds)
    top = draw(st.sampled_from((0, 5, 2000)))
    return SigmaDelta(
        name,
        shape,
        vth=thresholds(draw, shape, reach, 2**14),
        bias=per_neuron(draw, shape, lambda size: rng.integers(-top, top + 1, size)),
        activation=draw(st.sampled_from(("relu", "unit"))),
        spike_exp=draw(st.sampled_from((0, 0, 1, 3, 6))),
        state_exp=draw(st.sampled_from((0, 0, 1, 2))),
        cum_error=draw(st.booleans()),
    )


def readout(draw: Draw, name: str, shape: Shape) -> Readout:
    """An accumulator; its bias may be of the size that leaves 32 bits."""
    rng = draw(seeds)
    top = draw(st.sampled_from((0, 0, 40, 40, 40, 2**16, 2**29)))
    return Readout(
        name, shape, bias=per_neuron(draw, shape, lambda size: rng.integers(-top, top + 1, size))
    )


def messages(draw: Draw, source: Input) -> Array:
    """Messages of the input's kind, (images 1..4, T 1..12, *shape)."""
    images, steps = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    style = draw(st.sampled_from(("random", "edges", "few", "still", "turning")))
    density = draw(st.sampled_from((0.5, 0.5, 0.8, 0.8, 1.0, 1.0, 0.1, 0.0)))
    rng = draw(seeds)
    top, shape = source.max_message, (images, steps, *source.shape)
    low = -top if source.signed else 0
    values = rng.integers(low, top + 1, shape)
    if style == "edges":
        values = rng.choice([low, top], shape)
    elif style == "few":
        density = min(density, 0.05)
    elif style == "still":  # direct input: the same in every step
        values = np.broadcast_to(values[:, :1], shape)
    elif style == "turning" and source.signed:  # one sign, then the other: rails are met and left
        turn = np.where(np.arange(steps) < (steps + 1) // 2, 1, -1)
        values = np.abs(values) * turn.reshape(1, -1, *[1] * len(source.shape))
    if style != "still":
        values = np.where(rng.random(shape) < density, values, 0)
    return np.ascontiguousarray(values, dtype=np.int64)
