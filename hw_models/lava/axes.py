"""The turn between torch's axes (channel, y, x) and Lava's (x, y, channel).

This file stands alone: exported networks carry a copy of it.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]


def lava_shape(shape: Shape) -> Shape:
    """(channel, y, x) to (x, y, channel); flat shapes stay."""
    return tuple(reversed(shape))


def to_lava(values: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Turn arrays (…, *torch shape) to rows (…, neurons), flattened in Lava's order."""
    lead = values.ndim - len(shape)
    axes = (*range(lead), *reversed(range(lead, values.ndim)))
    return np.ascontiguousarray(values.transpose(axes)).reshape(*values.shape[:lead], -1)


def from_lava(rows: NDArray[Any], shape: Shape) -> NDArray[Any]:
    """Turn rows (…, neurons) in Lava's order back to arrays (…, *torch shape)."""
    lead = rows.ndim - 1
    turned = rows.reshape(*rows.shape[:lead], *lava_shape(shape))
    axes = (*range(lead), *reversed(range(lead, turned.ndim)))
    return np.ascontiguousarray(turned.transpose(axes))
