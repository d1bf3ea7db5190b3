"""Compiled scans over time: one pass that integrates, clips, fires, resets and counts rails.

The arithmetic is ``fixed.py``'s and ``reference.py``'s, unrolled for one population; the tests hold
it equal to them.
"""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.graph import Neuron

RAIL = fixed.STATE_RAIL
SHIFT = fixed.STATE_SHIFT
UNITY = fixed.DECAY_UNITY
DECAY_SHIFT = fixed.DECAY_SHIFT


@numba.njit(cache=True, nogil=True)
def _decayed(state: Any, constant: Any) -> Any:
    product = state * (UNITY - constant)
    return product >> DECAY_SHIFT if product >= 0 else -(-product >> DECAY_SHIFT)


@numba.njit(cache=True, nogil=True)
def _scan(
    activation: Any,
    vth: Any,
    bias: Any,
    v0: Any,
    du: Any,
    dv: Any,
    hard: Any,
    spikes: Any,
) -> Any:
    images, steps, neurons = activation.shape
    lower = upper = 0
    worst = np.int64(0)
    worst_step = -1
    u = np.zeros(neurons, np.int64)
    v = np.empty(neurons, np.int64)
    for image in range(images):
        u[:] = 0
        v[:] = v0
        for t in range(steps):
            for n in range(neurons):
                current = np.int64(activation[image, t, n]) << SHIFT
                if du != UNITY - 1:
                    current += _decayed(u[n], du + 1)
                    u[n] = current
                if abs(current) > worst:
                    worst = abs(current)
                    worst_step = t
                kept = v[n] if dv[n] == 0 else _decayed(v[n], dv[n])
                potential = kept + current + bias[n]
                if potential < -RAIL:
                    potential = -RAIL
                    lower += 1
                elif potential > RAIL:
                    potential = RAIL
                    upper += 1
                fired = potential > vth[n]
                if fired:
                    potential = 0 if hard else potential - vth[n]
                v[n] = potential
                spikes[image, t, n] = fired
    return lower, upper, worst, worst_step


def scan(
    node: Neuron, activation: NDArray[np.int32], spikes: NDArray[np.uint8]
) -> tuple[int, int, int, int]:
    """Run one population over time.

    Args:
        node: the neurons.
        activation: summed input (images, steps, neurons), weight units.
        spikes: where to write the spikes, same shape.

    Returns:
        Neuron-steps at the lower rail, at the upper rail; the largest magnitude of the current
        (units of u) and the step it first came in.
    """
    shape = node.shape

    def flat(values: NDArray[Any]) -> NDArray[np.int64]:
        return np.ascontiguousarray(np.broadcast_to(values, shape), dtype=np.int64).reshape(-1)

    result = _scan(
        activation,
        flat(node.vth) << SHIFT,
        flat(node.bias),
        flat(node.v0),
        node.du,
        flat(node.dv),
        node.reset == "zero",
        spikes,
    )
    lower, upper, worst, step = (int(value) for value in result)
    return lower, upper, worst, step
