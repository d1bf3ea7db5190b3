"""Synapses of a described layer: weights of the right shape and width, whose values say nothing."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.validation.fields import RowError
from spikeship.deploy.validation.layers import Layer
from spikeship.hw_models import fixed
from spikeship.hw_models.graph import AnySynapse, Conv, Dense, Sparse, pooled_shape


def connect(
    layer: Layer,
    source: str,
    target: str,
    shape: tuple[int, ...],
    delay: int,
    rng: np.random.Generator,
) -> AnySynapse:
    """Connect two nodes as the target's layer says.

    Raises:
        RowError: its groups or fan-in do not fit the source.
        GraphError: its pool or weights do not.
    """
    pooled = pooled_shape(shape, layer.pool, target)
    common: dict[str, Any] = {
        "name": f"{source} to {target}",
        "source": source,
        "target": target,
        "delay": delay,
        "pool": layer.pool,
        "num_weight_bits": layer.weight_bits,
    }
    outputs, inputs = int(np.prod(layer.shape)), int(np.prod(pooled))
    if layer.connect == "conv":
        if pooled[0] % layer.groups:
            raise RowError(f"layer {layer.name!r}: {layer.groups} groups do not divide {pooled[0]}")
        kernel = (layer.shape[0], pooled[0] // layer.groups, *layer.kernel)
        return Conv(
            weight=_weights(kernel, layer.weight_bits, rng),
            stride=layer.stride,
            padding=layer.padding,
            groups=layer.groups,
            **common,
        )
    if layer.connect == "dense":
        return Dense(weight=_weights((outputs, inputs), layer.weight_bits, rng), **common)
    if layer.fan_in > inputs:
        raise RowError(f"layer {layer.name!r}: fan_in {layer.fan_in} of {inputs} sources")
    spread = np.arange(layer.fan_in) * inputs // layer.fan_in
    indices = (spread[None, :] + np.arange(outputs)[:, None]) % inputs
    return Sparse(
        data=_weights((indices.size,), layer.weight_bits, rng),
        indices=np.sort(indices, axis=1).ravel(),
        indptr=np.arange(outputs + 1) * layer.fan_in,
        columns=inputs,
        **common,
    )


def _weights(shape: tuple[int, ...], bits: int, rng: np.random.Generator) -> NDArray[np.int16]:
    """Both signs at random, in the smallest step of this width: none of them is zero.

    One bit holds a single sign. Nine hold odd numbers where both signs occur, so both do.
    """
    if bits == 1:
        return np.full(shape, fixed.weight_step(np.array([1]), bits), dtype=np.int16)
    step = fixed.weight_step(np.array([-1, 1]), bits)
    signs = rng.integers(0, 2, shape, dtype=np.int8).astype(np.int16)
    if bits == fixed.ODD_WEIGHT_BITS:
        signs.flat[0], signs.flat[-1] = 0, 1
    return (2 * signs - 1) * np.int16(step)
