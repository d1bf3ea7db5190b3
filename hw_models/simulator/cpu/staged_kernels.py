"""Compiled kernels of a staged network's single pass: levels, maxima, and who counted how much.

All arrays are channels last and of one image: a thread's caches hold them.
"""

from typing import Any

import numba
import numpy as np

from spikeship.hw_models import fixed

UNIT = np.int32(1 << fixed.STATE_SHIFT)
ZERO, ONE = np.int32(0), np.int32(1)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def count_levels(sums: Any, v0: Any, theta: Any, inverse: Any, num_steps: Any, counts: Any) -> None:
    """Counts of populations from their whole input.

    Args:
        sums: weight units, int32 or float32 (images, neurons); the whole input fits 24 bits.
        v0: units of v, int32 (neurons,).
        theta: thresholds, units of v, int32 (neurons,); T of them fit 30 bits.
        inverse: 1 / theta, float32.
        num_steps: T, int32.
        counts: result, uint8 (images, neurons).
    """
    images, neurons = sums.shape
    for image in range(images):
        row, out = sums[image], counts[image]
        for n in range(neurons):
            v = np.int32(np.int32(row[n]) * UNIT + v0[n])
            # an estimate that is off by one at most, put right in integers
            k = np.int32(np.float32(v) * inverse[n])
            k = min(max(k, ZERO), num_steps)
            k = np.int32(k - np.int32(k * theta[n] >= v))
            k = max(k, ZERO)
            k = np.int32(k + np.int32((k < num_steps) & (np.int32((k + ONE) * theta[n]) < v)))
            out[n] = np.uint8(k)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def count_at_least(counts: Any, reached: Any) -> None:
    """Add, for each neuron and step, in how many images it fires in that step of its window.

    Args:
        counts: uint8 (images, neurons).
        reached: int32 (T, neurons), added to.
    """
    images, neurons = counts.shape
    steps = len(reached)
    for step in range(steps):
        row = reached[step]
        for image in range(images):
            own = counts[image]
            for n in range(neurons):
                row[n] += np.int32(own[n] > step)


@numba.njit(nogil=True, cache=True, error_model="numpy")
def largest(
    counts: Any, side_y: Any, side_x: Any, stride: Any, padding: Any, dilation: Any, found: Any
) -> None:
    """Largest count of each window; a tap outside never fires.

    Args:
        counts: uint8 (images, height, width, channels).
        side_y: height of a window.
        side_x: its width.
        stride: (y, x).
        padding: likewise.
        dilation: likewise.
        found: result, uint8 (images, height', width', channels).
    """
    images, height, width, channels = found.shape
    for image in range(images):
        for y in range(height):
            for x in range(width):
                out = found[image, y, x]
                out[:] = 0
                for dy in range(side_y):
                    at_y = y * stride[0] - padding[0] + dy * dilation[0]
                    if at_y < 0 or at_y >= counts.shape[1]:
                        continue
                    for dx in range(side_x):
                        at_x = x * stride[1] - padding[1] + dx * dilation[1]
                        if at_x < 0 or at_x >= counts.shape[2]:
                            continue
                        tap = counts[image, at_y, at_x]
                        for c in range(channels):
                            out[c] = max(out[c], tap[c])
