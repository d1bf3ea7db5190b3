"""The zoo: small networks in integers that every layer of tests shares, by name.

Each shows one thing that can go wrong on the way to the chip. ``messages`` gives the inputs.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import cases_chip
import numpy as np
import staged_cases
from case_parts import STEPS, Rng, even, one_conv, readout
from numpy.typing import NDArray

from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Sparse


def dense(rng: Rng) -> FixedGraph:
    """Dense layers only, flat input."""
    synapse = Dense(name="fc0", source="input", target="n", weight=even(rng, 11, 9))
    fc, out = readout(rng, "n", 11)
    node = Neuron("n", (11,), vth=np.array(70))
    return FixedGraph(Input("input", (9,)), (node, out), (synapse, fc), num_steps=STEPS)


def conv(rng: Rng) -> FixedGraph:
    """A padded 3x3 convolution; height and width differ, so that turned axes show."""
    return one_conv(rng, source=Input("input", (2, 5, 7)))


def stride(rng: Rng) -> FixedGraph:
    """Stride, an odd kernel shape and different padding each way."""
    options = {"stride": (2, 1), "padding": (0, 1), "kernel": (2, 3)}
    return one_conv(rng, conv=options, source=Input("input", (2, 6, 5)))


def dilation(rng: Rng) -> FixedGraph:
    """Dilated taps behind a pool."""
    options = {"dilation": (2, 1), "pool": 2, "padding": (2, 1)}
    return one_conv(rng, conv=options, source=Input("input", (2, 8, 6)))


def groups(rng: Rng) -> FixedGraph:
    """A grouped convolution."""
    return one_conv(rng, 4, conv={"groups": 2}, source=Input("input", (4, 5, 5)))


def wide(rng: Rng) -> FixedGraph:
    """128 channels, which Lava's own typing of Conv cannot hold."""
    first = one_conv(rng, 128, source=Input("input", (1, 4, 4)))
    second = Conv(
        name="conv2",
        source="n",
        target="n2",
        weight=even(rng, 128, 1, 3, 3),
        padding=(1, 1),
        groups=128,
    )
    node = Neuron("n2", (128, 4, 4), vth=rng.integers(60, 120, (128, 1, 1)))
    fc, out = readout(rng, "n2", 2048)
    return FixedGraph(
        first.input, (first.nodes[0], node, out), (first.synapses[0], second, fc), num_steps=STEPS
    )


def pool_conv(rng: Rng) -> FixedGraph:
    """A pool before a convolution."""
    return one_conv(rng, conv={"pool": 2}, source=Input("input", (2, 6, 8)))


def pool_dense(rng: Rng) -> FixedGraph:
    """A pool before a dense layer, which takes two steps."""
    graph = one_conv(rng, source=Input("input", (2, 4, 6)))
    fc = Dense(name="fc", source="n", target="out", weight=even(rng, 5, 18), pool=2, delay=2)
    return replace(graph, synapses=(graph.synapses[0], fc))


def residual_identity(rng: Rng) -> FixedGraph:
    """A block whose identity skip has an exponent of its own and one step more of delay."""
    return _block(rng, pool=1)


def residual_pooled(rng: Rng) -> FixedGraph:
    """The same behind a pool, as in every ResNet's first block."""
    return _block(rng, pool=2)


def _block(rng: Rng, pool: int) -> FixedGraph:
    side = 4 * pool
    source = Input("input", (2, side, side))
    stem = Conv(
        name="stem",
        source="input",
        target="x",
        weight=even(rng, 3, 2, 3, 3),
        padding=(1, 1),
    )
    inner = Conv(
        name="conv1",
        source="x",
        target="inner",
        weight=even(rng, 3, 3, 3, 3),
        padding=(1, 1),
        pool=pool,
    )
    outer = Conv(
        name="conv2",
        source="inner",
        target="outer",
        weight=even(rng, 3, 3, 3, 3),
        padding=(1, 1),
    )
    size = 3 * 4 * 4
    skip = Sparse(
        name="x->outer",
        source="x",
        target="outer",
        data=rng.integers(20, 120, size),
        indices=np.arange(size),
        indptr=np.arange(size + 1),
        columns=size,
        pool=pool,
        weight_exp=2,
        delay=2,
    )
    fc, out = readout(rng, "outer", size)
    nodes = (
        Neuron("x", (3, side, side), vth=np.array(90)),
        Neuron("inner", (3, 4, 4), vth=np.array(110)),
        Neuron("outer", (3, 4, 4), vth=np.array(240)),
        out,
    )
    return FixedGraph(source, nodes, (stem, inner, outer, skip, fc), num_steps=STEPS)


def residual_strided(rng: Rng) -> FixedGraph:
    """A block that halves its sides: the skip is a strided 1x1 convolution with a delay of 2."""
    source = Input("input", (3, 6, 6))
    inner = Conv(
        name="conv1",
        source="x",
        target="inner",
        weight=even(rng, 4, 3, 3, 3),
        stride=(2, 2),
        padding=(1, 1),
    )
    stem = Conv(name="stem", source="input", target="x", weight=even(rng, 3, 3, 1, 1))
    outer = Conv(
        name="conv2",
        source="inner",
        target="outer",
        weight=even(rng, 4, 4, 3, 3),
        padding=(1, 1),
    )
    skip = Conv(
        name="skip",
        source="x",
        target="outer",
        weight=even(rng, 4, 3, 1, 1),
        stride=(2, 2),
        delay=2,
        weight_exp=1,
    )
    fc, out = readout(rng, "outer", 36)
    nodes = (
        Neuron("x", (3, 6, 6), vth=np.array(40)),
        Neuron("inner", (4, 3, 3), vth=np.array(80)),
        Neuron("outer", (4, 3, 3), vth=np.array(150)),
        out,
    )
    return FixedGraph(source, nodes, (stem, inner, outer, skip, fc), num_steps=STEPS)


def bias(rng: Rng) -> FixedGraph:
    """Biases of both signs, with exponents."""
    options = {
        "bias_mant": rng.integers(-2000, 2000, (3, 1, 1)),
        "bias_exp": np.array([0, 3, 3]).reshape(3, 1, 1),
    }
    return one_conv(rng, neuron=options)


def v0(rng: Rng) -> FixedGraph:
    """Potentials that start at half the threshold, with a bias and a leak beside them."""
    return one_conv(rng, neuron={"v0": np.array(130 << 5), "bias_mant": np.array(-90), "dv": 200})


def leak(rng: Rng) -> FixedGraph:
    """A leak. One channel has no input: there its rounding toward zero alone decides the spikes."""
    options = {
        "dv": 900,
        "vth": np.array([0, 60, 60]).reshape(3, 1, 1),
        "bias_mant": np.array([1, 0, 0]).reshape(3, 1, 1),
        "v0": np.array([-5, 0, 0]).reshape(3, 1, 1),
    }
    graph = one_conv(rng, neuron=options)
    first = graph.synapses[0]
    assert isinstance(first, Conv)
    weight = np.array(first.weight)
    weight[0] = 0
    return replace(graph, synapses=(replace(first, weight=weight), graph.synapses[1]))


def leak_per_channel(rng: Rng) -> FixedGraph:
    """A leak and a start for each channel, one of them without leak."""
    options = {
        "dv": np.array([0, 300, 1500]).reshape(3, 1, 1),
        "v0": np.array([-2000, 0, 3900]).reshape(3, 1, 1),
        "vth": np.array(90),
    }
    return one_conv(rng, neuron=options, source=Input("input", (2, 5, 7)))


def current(rng: Rng) -> FixedGraph:
    """A current that decays over several steps (du below 4095)."""
    return one_conv(rng, neuron={"du": 1200, "dv": 128, "vth": np.array(200)})


def unsigned(rng: Rng) -> FixedGraph:
    """Spikes at the input, none negative: Lava's binary message path."""
    return one_conv(rng, source=Input("input", (2, 6, 6), "spikes", signed=False))


def direct(rng: Rng) -> FixedGraph:
    """Direct input: signed 8-bit values every step."""
    source = Input("input", (2, 6, 6), "direct", max_message=127)
    return one_conv(rng, neuron={"vth": np.array(4000)}, source=source)


def hard_reset(rng: Rng) -> FixedGraph:
    """Reset to zero."""
    return one_conv(rng, neuron={"reset": "zero", "vth": np.array(75)})


def lower_rail(rng: Rng) -> FixedGraph:
    """Negative weights, then inputs of the other sign: potentials meet the lower rail."""
    source = Input("input", (2, 5, 5), "spikes", max_message=28)
    graph = one_conv(rng, neuron={"vth": np.array(9000)}, source=source)
    first = graph.synapses[0]
    assert isinstance(first, Conv)
    strong = np.where(rng.random(first.weight.shape) < 0.85, -254, 254)
    return replace(graph, synapses=(replace(first, weight=strong), graph.synapses[1]))


def per_channel(rng: Rng) -> FixedGraph:
    """A threshold and a scale for each channel."""
    options = {
        "vth": rng.integers(30, 200, (3, 1, 1)),
        "scale": rng.uniform(0.01, 0.02, (3, 1, 1)),
    }
    return one_conv(rng, neuron=options)


def _staged(name: str, rng: Rng) -> FixedGraph:
    return staged_cases.CASES[name](STEPS)


# what the float form and training know too
FEED_FORWARD: dict[str, Callable[[Rng], FixedGraph]] = {
    make.__name__: make
    for make in (
        dense,
        conv,
        stride,
        dilation,
        groups,
        wide,
        pool_conv,
        pool_dense,
        residual_identity,
        residual_pooled,
        residual_strided,
        bias,
        v0,
        leak,
        leak_per_channel,
        current,
        unsigned,
        direct,
        hard_reset,
        lower_rail,
        per_channel,
    )
}
STAGED: dict[str, Callable[[Rng], FixedGraph]] = {
    f"staged_{name}": partial(_staged, name)
    for name in ("residual", "overlapping_max_pool", "spikes_in", "global_pool")
}
ZOO = FEED_FORWARD | cases_chip.ZOO | STAGED


def graph(name: str) -> FixedGraph:
    """Return the named network, the same every time."""
    return ZOO[name](np.random.default_rng(sum(map(ord, name))))


def messages(
    network: FixedGraph, images: int, steps: int = STEPS, seed: int = 0
) -> NDArray[np.int64]:
    """Random messages of the network's kind, (images, steps, *shape); a staged one has its own."""
    if network.timing == "staged":
        return staged_cases.messages(network, images, seed)
    rng = np.random.default_rng(seed)
    source = network.input
    top = source.max_message
    shape = (images, steps, *source.shape)
    if source.encoding == "direct":
        still = rng.integers(-top, top + 1, (images, 1, *source.shape))
        return np.broadcast_to(still, shape).copy()
    if top > 1:
        values = rng.integers(0, top + 1, shape)
        if source.signed:  # the second half the other way
            values[:, steps // 2 :] *= -1
        return values
    return rng.integers(-1 if source.signed else 0, 2, shape)
