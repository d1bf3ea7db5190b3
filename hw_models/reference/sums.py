"""What the reference's synapses deliver: weighted sums, written to be read, in 64 bits."""

import numpy as np

from spikeship.hw_models import fixed
from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.graph import AnySynapse, Array, Conv, Dense, Identity, Shape, pooled_shape


class StateOverflowError(SpikeshipError, ValueError):
    """A sum or a state left its bits; what the chip does then is not what the network means."""


def apply(synapse: AnySynapse, messages: Array, target: Shape) -> Array:
    """Weighted sums that messages (images, *source shape) cause at the target, exponent applied.

    Delays, of the synapse and of its weights, are not applied: see ``graph.parts``.

    Raises:
        StateOverflowError: pooled messages leave 24 bits.
    """
    pooled = _pool(messages, synapse.pool, synapse.name)
    images = len(messages)
    flat = pooled.reshape(images, -1)
    if isinstance(synapse, Conv):
        total = _convolve(synapse, pooled)
    elif isinstance(synapse, Dense):
        total = flat @ synapse.weight.T.astype(np.int64)
    elif isinstance(synapse, Identity):
        total = flat
    else:
        rows = np.repeat(np.arange(synapse.rows), np.diff(synapse.indptr))
        total = np.zeros((images, synapse.rows), np.int64)
        for image in range(images):
            np.add.at(total[image], rows, flat[image, synapse.indices] * synapse.data)
    return fixed.shift(total, synapse.weight_exp).reshape(images, *target)


def require_24_bits(where: str, values: Array, step: int) -> None:
    """Refuse values that 24 bits do not hold.

    Raises:
        StateOverflowError: says which node or synapse, in which chip step.
    """
    worst = int(np.abs(values).max(initial=0))
    if worst > fixed.STATE_RAIL:
        raise StateOverflowError(
            f"{where} reaches {worst} in chip step {step + 1}, beyond the {fixed.STATE_RAIL} "
            "that 24 bits hold; use a larger scale"
        )


def _pool(messages: Array, side: int, name: str) -> Array:
    if side == 1:
        return messages
    c, h, w = pooled_shape(messages.shape[1:], side, name)
    pooled: Array = messages.reshape(len(messages), c, h, side, w, side).sum(axis=(3, 5))
    worst = int(np.abs(pooled).max(initial=0))
    if worst > fixed.STATE_RAIL:
        raise StateOverflowError(
            f"synapse {name!r}: its pooled messages reach {worst}, beyond the "
            f"{fixed.STATE_RAIL} that 24 bits hold; use a larger scale"
        )
    return pooled


def _convolve(synapse: Conv, messages: Array) -> Array:
    images = len(messages)
    out, height, width = synapse.output_shape(messages.shape[1:])
    _, per_group, kernel_h, kernel_w = synapse.weight.shape
    (stride_y, stride_x), (dil_y, dil_x) = synapse.stride, synapse.dilation
    (pad_y, pad_x), groups = synapse.padding, synapse.groups
    padded = np.pad(messages, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    padded = padded.reshape(images, groups, per_group, *padded.shape[2:])
    weight = synapse.weight.astype(np.int64)
    weight = weight.reshape(groups, out // groups, per_group, kernel_h, kernel_w)
    total = np.zeros((images, groups, out // groups, height, width), np.int64)
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            taps = padded[
                ...,
                ky * dil_y : ky * dil_y + (height - 1) * stride_y + 1 : stride_y,
                kx * dil_x : kx * dil_x + (width - 1) * stride_x + 1 : stride_x,
            ]
            total += np.einsum("ngihw,goi->ngohw", taps, weight[..., ky, kx])
    return total.reshape(images, out, height, width)
