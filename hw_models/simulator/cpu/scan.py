"""Compiled scan of neurons over time: integrate, clip, fire, reset, and count the rails met.

The arithmetic is ``fixed.py``'s and ``reference.py``'s for one population; the tests hold it equal
to them. A block of neurons keeps its state in cache while time runs over it, in 32 bits, so that
the loop over neurons becomes vector instructions.
"""

from typing import Any

import numba
import numpy as np

from spikeship.hw_models import fixed

BLOCK = 2048
NEVER = np.iinfo(np.int64).max
WRAP_LIMIT = fixed.WRAP_LIMIT
RAIL, FLOOR = np.int32(fixed.STATE_RAIL), np.int32(-fixed.STATE_RAIL)
SHIFT = np.int32(fixed.STATE_SHIFT)
UNITY = np.int32(fixed.DECAY_UNITY)
DECAY_SHIFT = np.int32(fixed.DECAY_SHIFT)
FRACTION = np.int32(fixed.DECAY_UNITY - 1)
HOPELESS = np.int32(2 * fixed.INPUT_LIMIT + 1)
ZERO, ONE = np.int32(0), np.int32(1)
TURN, HALF_TURN = 2**fixed.STATE_BITS, 2 ** (fixed.STATE_BITS - 1)
PLAIN, LEAKY, WRAPPING = range(3)


@numba.njit(nogil=True, cache=True, inline="always")
def _decayed(state: Any, kept: Any) -> Any:
    """``state * kept / 4096`` toward zero without leaving 32 bits; kept 0..4096."""
    size = abs(state)
    result = np.int32(
        np.int32((size >> DECAY_SHIFT) * kept) + np.int32(((size & FRACTION) * kept) >> DECAY_SHIFT)
    )
    return np.int32(-result) if state < ZERO else result


@numba.njit(nogil=True, cache=True)
def _integrate(size: Any, a: Any, v: Any, vth: Any, bias: Any, soft: Any, spikes: Any) -> Any:
    """One step of neurons that keep all of their potential and none of their current."""
    lower = upper = worst = ZERO
    for n in range(size):
        x = np.int32(a[n])
        worst = max(worst, abs(x))
        free = np.int32(np.int32(v[n] + bias[n]) + np.int32(x << SHIFT))
        p = min(max(free, FLOOR), RAIL)
        lower = np.int32(lower + np.int32(p > free))
        upper = np.int32(upper + np.int32(p < free))
        fired = p > vth[n]
        v[n] = np.int32(np.int32(p - vth[n]) & soft) if fired else p
        spikes[n] = fired
    return lower, upper, np.int64(worst) << SHIFT


@numba.njit(nogil=True, cache=True)
def _leak(
    size: Any,
    a: Any,
    u: Any,
    v: Any,
    frozen: Any,
    vth: Any,
    bias: Any,
    kept_u: Any,
    kept_v: Any,
    soft: Any,
    refractory: Any,
    spikes: Any,
) -> Any:
    """One step of any neurons: decay of current and potential, refractory steps."""
    lower = upper = worst = widest = ZERO
    for n in range(size):
        x = np.int32(a[n])
        widest = max(widest, abs(x))
        current = np.int32(np.int32(x << SHIFT) + _decayed(u[n], kept_u))
        u[n] = current
        worst = max(worst, abs(current))
        awake = frozen[n] == ZERO
        frozen[n] = ZERO if awake else np.int32(frozen[n] - ONE)
        free = np.int32(np.int32(_decayed(v[n], kept_v[n]) + bias[n]) + current)
        p = min(max(free, FLOOR), RAIL)
        lower = np.int32(lower + np.int32(awake and p > free))
        upper = np.int32(upper + np.int32(awake and p < free))
        fired = awake and p > vth[n]
        after = np.int32(np.int32(p - vth[n]) & soft) if fired else p
        v[n] = after if awake else v[n]
        frozen[n] = refractory if fired else frozen[n]
        spikes[n] = fired
    if widest > HOPELESS:  # whatever is kept of the current; the sum above may have wrapped
        return lower, upper, np.int64(widest) << SHIFT
    return lower, upper, np.int64(worst)


@numba.njit(nogil=True, cache=True)
def _wrap(
    size: Any,
    a: Any,
    u: Any,
    v: Any,
    frozen: Any,
    vth: Any,
    bias: Any,
    kept_u: Any,
    kept_v: Any,
    soft: Any,
    refractory: Any,
    spikes: Any,
) -> Any:
    """One step of any neurons whose current wraps where it leaves 24 bits; not made for speed."""
    lower = upper = worst = wraps = np.int64(0)
    for n in range(size):
        current = (np.int64(a[n]) << SHIFT) + _decayed(u[n], kept_u)
        worst = max(worst, abs(current))
        wraps += np.int64(abs(current) > RAIL)
        if current > HALF_TURN:
            current -= TURN
        elif current <= -HALF_TURN:
            current += TURN
        u[n] = current
        if frozen[n] != ZERO:
            frozen[n] -= ONE
            spikes[n] = False
            continue
        free = np.int64(_decayed(v[n], kept_v[n])) + current + bias[n]
        p = min(max(free, np.int64(FLOOR)), np.int64(RAIL))
        lower += np.int64(p > free)
        upper += np.int64(p < free)
        spikes[n] = p > vth[n]
        if spikes[n]:
            p = (p - vth[n]) & np.int64(soft)
            frozen[n] = refractory
        v[n] = p
    return lower, upper, worst, wraps


@numba.njit(nogil=True, cache=True)
def scan(
    activation: Any,
    u: Any,
    v: Any,
    frozen: Any,
    vth: Any,
    bias: Any,
    kept_u: Any,
    kept_v: Any,
    soft: Any,
    refractory: Any,
    mode: Any,
    opens: Any,
    closes: Any,
    spikes: Any,
    potentials: Any,
    currents: Any,
) -> Any:
    """Run neurons over steps, their state changed in place.

    Args:
        activation: sums (images, steps, neurons), float32 or int32, weight units; one step stands
            for every step.
        u: state, currents, int32 (images, neurons).
        v: potentials.
        frozen: refractory steps left.
        vth: thresholds, units of v, int32 (neurons,).
        bias: units of v.
        kept_u: of 4096, how much current stays.
        kept_v: of 4096, how much potential stays, int32 (neurons,).
        soft: -1 for reset by subtraction, 0 for reset to zero.
        refractory: steps a neuron sleeps after a spike.
        mode: PLAIN where nothing decays but the whole current and no neuron sleeps, LEAKY, or
            WRAPPING where currents beyond 24 bits wrap.
        opens: first of these steps in which neurons may fire.
        closes: the step after the last one.
        spikes: result, uint8 (images, steps, neurons).
        potentials: result, int32 of that shape, or of no size to leave it out.
        currents: the same of the currents.

    Returns:
        Neuron-steps at the lower and at the upper rail; currents that wrapped; the first step in
        which a current left 24 bits, or what wrapping bears (NEVER where none did), and its
        largest magnitude there, units of u; the first step in which a potential met a rail.
    """
    images, steps, neurons = spikes.shape
    still = activation.shape[1] == 1
    lower = upper = wraps = np.int64(0)
    first, worst = NEVER, np.int64(0)
    railed = NEVER
    limit = np.int64(WRAP_LIMIT if mode == WRAPPING else RAIL)
    # copies of a block's own, which no other array overlaps
    part = np.empty((7, BLOCK), np.int32)
    u_, v_, frozen_, vth_, bias_, kept_ = part[0], part[1], part[2], part[3], part[4], part[5]
    closed = part[6]
    closed[:] = RAIL  # which no potential passes
    for image in range(images):
        for begin in range(0, neurons, BLOCK):
            end = min(begin + BLOCK, neurons)
            size = end - begin
            u_[:size] = u[image, begin:end]
            v_[:size] = v[image, begin:end]
            frozen_[:size] = frozen[image, begin:end]
            vth_[:size] = vth[begin:end]
            bias_[:size] = bias[begin:end]
            kept_[:size] = kept_v[begin:end]
            for t in range(steps):
                a = activation[image, 0 if still else t, begin:end]
                out = spikes[image, t, begin:end]
                now = vth_ if opens <= t < closes else closed
                if mode == PLAIN:
                    low, up, top = _integrate(size, a, v_, now, bias_, soft, out)
                elif mode == LEAKY:
                    low, up, top = _leak(
                        size, a, u_, v_, frozen_, now, bias_, kept_u, kept_, soft, refractory, out
                    )
                else:
                    low, up, top, wrapped = _wrap(
                        size, a, u_, v_, frozen_, now, bias_, kept_u, kept_, soft, refractory, out
                    )
                    wraps += wrapped
                if low + up > 0:
                    railed = min(railed, t)
                lower += low
                upper += up
                if top > limit and t <= first:
                    worst = max(worst, top) if t == first else top
                    first = t
                if potentials.size:
                    potentials[image, t, begin:end] = v_[:size]
                if currents.size:
                    if mode == PLAIN:
                        for n in range(size):
                            currents[image, t, begin + n] = np.int32(a[n]) << SHIFT
                    else:
                        currents[image, t, begin:end] = u_[:size]
            u[image, begin:end] = u_[:size]
            v[image, begin:end] = v_[:size]
            frozen[image, begin:end] = frozen_[:size]
    return lower, upper, wraps, first, worst, railed
