"""Sum-pools messages, channels last."""

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _pool(messages: Any, side: int, pooled: Any) -> None:
    count, height, width, channels = pooled.shape
    for row in range(count):
        for y in range(height):
            for x in range(width):
                total = pooled[row, y, x]
                total[:] = 0
                for dy in range(side):
                    for dx in range(side):
                        part = messages[row, y * side + dy, x * side + dx]
                        for c in range(channels):
                            total[c] += part[c]


@numba.njit(nogil=True, cache=True, error_model="numpy")
def _pool_by_two(messages: Any, pooled: Any) -> None:
    """The usual pool in one pass over the channels."""
    count, height, width, channels = pooled.shape
    for row in range(count):
        for y in range(height):
            for x in range(width):
                total = pooled[row, y, x]
                a, b = messages[row, 2 * y, 2 * x], messages[row, 2 * y, 2 * x + 1]
                c, d = messages[row, 2 * y + 1, 2 * x], messages[row, 2 * y + 1, 2 * x + 1]
                for n in range(channels):
                    total[n] = a[n] + b[n] + c[n] + d[n]


def pool(messages: NDArray[Any], side: int, largest: int) -> NDArray[Any]:
    """Sum squares of ``side`` x ``side`` messages.

    Args:
        messages: (rows, height, width, channels), integers.
        side: of the squares; it divides height and width.
        largest: magnitude that no sum passes.

    Returns:
        (rows, height / side, width / side, channels): uint8 where that holds the sums of uint8
        messages, else int32 or int64; the messages themselves for a side of 1.
    """
    if side == 1:
        return messages
    rows, height, width, channels = messages.shape
    kind: Any = np.int32 if largest <= np.iinfo(np.int32).max else np.int64
    if messages.dtype == np.uint8 and largest <= np.iinfo(np.uint8).max:
        kind = np.uint8
    pooled = np.empty((rows, height // side, width // side, channels), kind)
    if side == 2:
        _pool_by_two(messages, pooled)
    else:
        _pool(messages, side, pooled)
    return pooled
