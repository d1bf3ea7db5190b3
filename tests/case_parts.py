"""What the zoo's networks are made of: weights, a readout, one convolution with its neurons."""

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Readout

STEPS = 7
Rng = np.random.Generator


def even(rng: Rng, *shape: int, top: int = 60) -> NDArray[np.int64]:
    weights = 2 * rng.integers(-top // 2, top // 2 + 1, size=shape)
    weights.flat[0], weights.flat[-1] = -top, top  # both signs, always
    return weights


def readout(rng: Rng, source: str, inputs: int, bias: int = 40) -> tuple[Dense, Readout]:
    synapse = Dense(name="fc", source=source, target="out", weight=even(rng, 5, inputs))
    return synapse, Readout("out", (5,), bias=rng.integers(-bias, bias + 1, 5))


def one_conv(
    rng: Rng,
    channels: int = 3,
    side: int = 6,
    neuron: dict[str, object] | None = None,
    conv: dict[str, object] | None = None,
    source: Input | None = None,
) -> FixedGraph:
    """Input -> conv -> neurons -> dense readout."""
    source = source or Input("input", (2, 6, 6))
    groups = int((conv or {}).get("groups", 1))  # type: ignore[call-overload]
    kernel = (conv or {}).pop("kernel", (3, 3)) if conv else (3, 3)
    weight = even(rng, channels, source.shape[0] // groups, *kernel)  # type: ignore[misc]
    synapse = Conv(
        name="conv",
        source="input",
        target="n",
        weight=weight,
        **({"padding": (1, 1)} | (conv or {})),  # type: ignore[arg-type]
    )
    shape = synapse.output_shape(
        (source.shape[0], source.shape[1] // synapse.pool, source.shape[2] // synapse.pool)
    )
    node = Neuron("n", shape, **({"vth": np.array(130)} | (neuron or {})))  # type: ignore[arg-type]
    fc, out = readout(rng, "n", int(np.prod(shape)))
    return FixedGraph(source, (node, out), (synapse, fc), num_steps=STEPS)
