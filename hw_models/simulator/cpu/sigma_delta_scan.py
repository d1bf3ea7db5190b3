"""Compiled scan of sigma-delta neurons over time: add up, activate, send what has changed enough.

The arithmetic is ``reference.py``'s for one population; the tests hold it equal to it.
"""

from typing import Any

import numba
import numpy as np

from spikeship.hw_models import fixed
from spikeship.hw_models.simulator.cpu.scan import NEVER

RAIL = np.int64(fixed.STATE_RAIL)


@numba.njit(nogil=True, cache=True)
def sigma_delta_scan(
    activation: Any,
    sigma: Any,
    act: Any,
    residue: Any,
    error: Any,
    vth: Any,
    bias: Any,
    adds_up: Any,
    rectified: Any,
    cumulative: Any,
    shift_in: Any,
    shift_out: Any,
    sent: Any,
    potentials: Any,
) -> Any:
    """Run neurons over steps, their state changed in place.

    Args:
        activation: sums (images, steps, neurons), float32 or int32.
        sigma: state, what came in so far, int64 (images, neurons).
        act: activation of the step before.
        residue: change that was not sent.
        error: changes added up.
        vth: threshold in units of the state, int64 (neurons,).
        bias: the same units.
        adds_up: SigmaDelta; else Delta.
        shift_in: of a Delta, bits by which its input is shifted left.
        rectified: negative activations become 0.
        cumulative: the threshold is held against the error added up since the last message.
        shift_out: messages are the change shifted right by this.
        sent: result, int32 (images, steps, neurons).
        potentials: result (sigma, or act of a Delta), int32 of that shape, or of no size.

    Returns:
        The first step in which a state left 24 bits (NEVER where none did), and its largest
        magnitude there.
    """
    images, steps, neurons = sent.shape
    still = activation.shape[1] == 1
    first, worst = NEVER, np.int64(0)
    for image in range(images):
        for t in range(steps):
            top = np.int64(0)
            for n in range(neurons):
                x = np.int64(activation[image, 0 if still else t, n])
                top = max(top, abs(x))
                if adds_up:
                    x += sigma[image, n]
                    sigma[image, n] = x
                    top = max(top, abs(x))
                    x += bias[n]
                    if rectified:
                        x = max(x, np.int64(0))
                else:
                    x = x << shift_in
                top = max(top, abs(x))
                delta = x - act[image, n] + residue[image, n]
                if cumulative:
                    error[image, n] += delta
                    change = delta if abs(error[image, n]) >= vth[n] else np.int64(0)
                    if change != 0:
                        error[image, n] = 0
                else:
                    change = delta if abs(delta) >= vth[n] else np.int64(0)
                residue[image, n] = delta - change
                act[image, n] = x
                message = change >> shift_out
                top = max(top, abs(message))
                sent[image, t, n] = np.int32(message)
                if potentials.size:
                    potentials[image, t, n] = np.int32(sigma[image, n] if adds_up else x)
            if top > RAIL and t <= first:
                worst = max(worst, top) if t == first else top
                first = t
    return first, worst
