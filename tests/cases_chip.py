"""The zoo's networks that only a chip runs: loops, delays, rest, graded messages, sigma-delta."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from case_parts import STEPS, Rng, even, one_conv, readout
from numpy.typing import NDArray

from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Delta,
    Dense,
    FixedGraph,
    Identity,
    Input,
    Neuron,
    Node,
    Readout,
    SigmaDelta,
)


def _ungated(source: Input, nodes: tuple[Node, ...], *synapses: AnySynapse) -> FixedGraph:
    return FixedGraph(source, nodes, synapses, num_steps=STEPS, gated=False)


def refractory_soft(rng: Rng) -> FixedGraph:
    """One step of rest after a spike; what the soft reset leaves is kept over it."""
    options = {"refractory": 1, "vth": np.array(40), "bias_mant": np.array(700)}
    return one_conv(rng, neuron=options, source=Input("input", (2, 5, 7)))


def refractory_hard(rng: Rng) -> FixedGraph:
    """Three steps of rest, over which the current runs on."""
    options = {"refractory": 3, "reset": "zero", "du": 1500, "dv": 300, "vth": np.array(60)}
    return one_conv(rng, neuron=options)


def graded_input(rng: Rng) -> FixedGraph:
    """Graded, signed messages that arrive as they are, through a convolution."""
    source = Input("input", (2, 6, 6), "spikes", max_message=300)
    return one_conv(rng, neuron={"vth": np.array(15000)}, source=source)


def graded_dense(rng: Rng) -> FixedGraph:
    """Graded messages without sign into a dense layer, odd weights of mixed signs."""
    weight = rng.integers(-90, 91, (11, 9))
    weight[0, :2] = -255, 255
    synapse = Dense(name="fc0", source="input", target="n", weight=weight, num_weight_bits=9)
    fc, out = readout(rng, "n", 11)
    source = Input("input", (9,), "spikes", max_message=200, signed=False)
    nodes = (Neuron("n", (11,), vth=np.array(8000)), out)
    return FixedGraph(source, nodes, (synapse, fc), num_steps=STEPS)


def recurrent(rng: Rng) -> FixedGraph:
    """Neurons that feed themselves, one step later; they leak, and run from step 1 on."""
    first = Dense(name="fc0", source="input", target="n", weight=even(rng, 11, 9))
    back = Dense(name="rec", source="n", target="n", weight=even(rng, 11, 11, top=90))
    fc, out = readout(rng, "n", 11)
    bias = rng.integers(-900, 900, 11)
    node = Neuron("n", (11,), vth=np.array(70), dv=200, bias_mant=bias, reset="zero")
    return _ungated(Input("input", (9,)), (node, out), first, back, fc)


def recurrent_late(rng: Rng) -> FixedGraph:
    """A loop over two layers, three steps long at one place, and a convolution onto itself."""
    source = Input("input", (2, 5, 4))
    stem = Conv(
        name="stem", source="input", target="x", weight=even(rng, 3, 2, 3, 3), padding=(1, 1)
    )
    itself = Conv(name="itself", source="x", target="x", weight=even(rng, 3, 3, 1, 1))
    forward = Dense(name="fc0", source="x", target="y", weight=even(rng, 8, 60), weight_exp=1)
    back = Dense(
        name="back", source="y", target="x", weight=even(rng, 60, 8), delay=3, weight_exp=-1
    )
    fc, out = readout(rng, "y", 8)
    nodes = (
        Neuron("x", (3, 5, 4), vth=np.array(90)),
        Neuron("y", (8,), vth=np.array(160), du=2000),
        out,
    )
    return _ungated(source, nodes, stem, itself, forward, back, fc)


def _delayed(
    rng: Rng, delays: NDArray[np.int64], source: Input, **options: int
) -> tuple[Dense, FixedGraph]:
    pool = options.get("pool", 1)
    inputs = int(np.prod(source.shape)) // pool**2
    weight = even(rng, 6, inputs)
    weight[:, 1] = -256  # legal beside positive weights only, which its delay may not have
    synapse = Dense(name="fc0", source="input", target="n", weight=weight, delays=delays, **options)
    fc, out = readout(rng, "n", 6)
    threshold = 100 * source.max_message * 2.0 ** options.get("weight_exp", 0)
    node = Neuron("n", (6,), vth=np.array(int(threshold)), du=3000, reset="zero")
    return synapse, _ungated(source, (node, out), synapse, fc)


def delays_output(rng: Rng) -> FixedGraph:
    """A delay for each output neuron."""
    return _delayed(rng, np.array([[0], [3], [1], [0], [4], [1]]), Input("input", (2, 3, 2)))[1]


def delays_input(rng: Rng) -> FixedGraph:
    """A delay for each input neuron, in a three-dimensional source."""
    return _delayed(rng, rng.integers(0, 4, (1, 12)), Input("input", (2, 3, 2)))[1]


def delays_full(rng: Rng) -> FixedGraph:
    """A delay for each weight, graded messages, and an exponent that rounds each delay's sum."""
    source = Input("input", (9,), "spikes", max_message=50)
    return _delayed(rng, rng.integers(0, 6, (6, 9)), source, weight_exp=-3)[1]


def delays_pool(rng: Rng) -> FixedGraph:
    """Delays behind a pool, and one more step for all."""
    source = Input("input", (3, 4, 2))
    return _delayed(rng, rng.integers(0, 3, (6, 6)), source, pool=2, delay=3)[1]


def identity_input(rng: Rng) -> FixedGraph:
    """The input straight into neurons, which fire before it too; an identity two steps long."""
    source = Input("input", (2, 4, 3), "spikes", max_message=90)
    straight = Identity(name="input->n0", source="input", target="n0", delay=0)
    first = Conv(name="conv", source="n0", target="n", weight=even(rng, 2, 2, 3, 3), padding=(1, 1))
    late = Identity(name="n0->n", source="n0", target="n", delay=2)
    fc, out = readout(rng, "n", 24)
    nodes = (
        Neuron("n0", (2, 4, 3), vth=np.array(64), bias_mant=np.array(1500), dv=100),
        Neuron("n", (2, 4, 3), vth=np.array(30)),
        out,
    )
    return _ungated(source, nodes, straight, first, late, fc)


def identity_gated(rng: Rng) -> FixedGraph:
    """A gated graph whose first neurons have no delay; a skip into a flat layer turns the axes."""
    graph = identity_input(rng)
    straight = graph.synapses[0]
    inner = Dense(name="fc0", source="n0", target="n", weight=even(rng, 24, 24))
    skip = Identity(name="n0->flat", source="n0", target="flat", delay=2)
    outer = Dense(name="fc1", source="n", target="flat", weight=even(rng, 24, 24))
    fc, out = readout(rng, "flat", 24)
    n0, n, _ = graph.nodes
    flat = Neuron("flat", (24,), vth=np.array(50))
    synapses = (straight, inner, skip, outer, fc)
    return FixedGraph(graph.input, (n0, n, flat, out), synapses, num_steps=STEPS)


def _sigma_delta(
    rng: Rng, *, gated: bool, first: dict[str, object], second: dict[str, object]
) -> FixedGraph:
    """Input -> Delta -> conv -> SigmaDelta -> dense -> SigmaDelta -> dense -> readout."""
    source = Input("input", (2, 5, 4), "spikes", max_message=127)
    exponents = {"spike_exp": 2, "state_exp": 3}
    nodes = (
        Delta("d", (2, 5, 4), vth=np.array(30), **exponents),
        SigmaDelta("s1", (3, 5, 4), **exponents, **first),  # type: ignore[arg-type]
        SigmaDelta("s2", (8,), **second),  # type: ignore[arg-type]
        Readout("out", (5,)),
    )
    weights = even(rng, 3, 2, 3, 3, top=20), even(rng, 8, 60, top=6), even(rng, 5, 8, top=20)
    return FixedGraph(
        source,
        nodes,
        (
            Identity(name="in", source="input", target="d", delay=0),
            Conv(name="conv", source="d", target="s1", weight=weights[0], padding=(1, 1)),
            Dense(name="fc0", source="s1", target="s2", weight=weights[1], weight_exp=-2),
            Dense(name="fc", source="s2", target="out", weight=weights[2]),
        ),
        num_steps=STEPS,
        gated=gated,
    )


def sigma_delta(rng: Rng) -> FixedGraph:
    """Sigma-delta layers as lava-dl's files hold them: thresholds, biases, ungated."""
    return _sigma_delta(
        rng,
        gated=False,
        first={"vth": np.array(300), "bias": rng.integers(-90, 90, (3, 1, 1))},
        second={"vth": np.array(0), "state_exp": 7},
    )


def sigma_delta_errors(rng: Rng) -> FixedGraph:
    """What was not sent adds up until it is; thresholds each; without an activation; gated."""
    return _sigma_delta(
        rng,
        gated=True,
        first={
            "vth": rng.integers(0, 1500, (3, 5, 4)),
            "bias": rng.integers(-90, 90, (3, 5, 4)),
            "cum_error": True,
        },
        second={"vth": np.array(300), "activation": "unit", "state_exp": 5, "cum_error": True},
    )


def sigma_delta_neurons(rng: Rng) -> FixedGraph:
    """Graded messages of sigma-delta neurons into spiking ones, a skip and a loop among them."""
    graph = sigma_delta(rng)
    s1, s2 = graph.nodes[1:3]
    late = Identity(name="late", source="s1", target="s1b", delay=2)
    inner = Conv(name="inner", source="s1", target="s1b", weight=even(rng, 3, 3, 1, 1, top=2))
    back = Dense(name="back", source="n", target="s1", weight=even(rng, 60, 8), weight_exp=2)
    last = Dense(name="fc1", source="s2", target="n", weight=even(rng, 8, 8))
    fc0 = replace(graph.synapses[2], source="s1b")
    fc, out = readout(rng, "n", 8)
    between = SigmaDelta("s1b", (3, 5, 4), vth=np.array(500), activation="unit", state_exp=2)
    n = Neuron("n", (8,), vth=np.array(7000), du=1000, dv=300)
    nodes = (graph.nodes[0], s1, between, s2, n, out)
    return _ungated(graph.input, nodes, *graph.synapses[:2], late, inner, fc0, last, back, fc)


ZOO: dict[str, Callable[[Rng], FixedGraph]] = {
    make.__name__: make
    for make in (
        refractory_soft,
        refractory_hard,
        graded_input,
        graded_dense,
        recurrent,
        recurrent_late,
        delays_output,
        delays_input,
        delays_full,
        delays_pool,
        identity_input,
        identity_gated,
        sigma_delta,
        sigma_delta_errors,
        sigma_delta_neurons,
    )
}
