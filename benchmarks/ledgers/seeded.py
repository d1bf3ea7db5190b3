"""A small network from a seed, with everything in it that tools count differently."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Readout, Sparse

STEPS, IMAGES = 8, 2
SIDE = 8


def network() -> FixedGraph:
    """Signed spikes, padding, stride, a pool before a block with a skip, zero weights."""
    rng = np.random.default_rng(0)
    units = 4 * (SIDE // 2) ** 2
    stem = Conv(
        name="stem", source="input", target="x", weight=_even(rng, 4, 2, 3, 3), padding=(1, 1)
    )
    first = Conv(
        name="conv1",
        source="x",
        target="inner",
        weight=_even(rng, 4, 4, 3, 3),
        padding=(1, 1),
        pool=2,
    )
    second = Conv(
        name="conv2",
        source="inner",
        target="outer",
        weight=_even(rng, 4, 2, 3, 3),
        groups=2,
        padding=(1, 1),
    )
    skip = Sparse(
        name="skip",
        source="x",
        target="outer",
        data=rng.integers(20, 60, units),
        indices=np.arange(units),
        indptr=np.arange(units + 1),
        columns=units,
        pool=2,
        delay=2,
    )
    down = Conv(
        name="down", source="outer", target="small", weight=_even(rng, 6, 4, 3, 3), stride=(2, 2)
    )
    fc = Dense(name="fc", source="small", target="out", weight=_even(rng, 5, 6))
    nodes = (
        Neuron("x", (4, SIDE, SIDE), vth=np.array(60)),
        Neuron("inner", (4, SIDE // 2, SIDE // 2), vth=np.array(90)),
        Neuron("outer", (4, SIDE // 2, SIDE // 2), vth=np.array(60)),
        Neuron("small", (6, 1, 1), vth=np.array(40)),
        Readout("out", (5,)),
    )
    return FixedGraph(
        Input("input", (2, SIDE, SIDE)), nodes, (stem, first, second, skip, down, fc), STEPS
    )


def messages() -> NDArray[Any]:
    """Signed spikes, (images, T, channels, height, width)."""
    rng = np.random.default_rng(1)
    return rng.choice([-1, 0, 0, 1], (IMAGES, STEPS, 2, SIDE, SIDE))


def _even(rng: np.random.Generator, *shape: int) -> NDArray[np.int64]:
    """Even weights, a quarter of them 0."""
    return 2 * rng.integers(-20, 24, shape) * (rng.random(shape) < 0.75)
