"""Kernel sizes, strides and paddings: one number for both sides of an image, or one for each."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def sides(value: int | Sequence[int] | Any) -> tuple[int, int]:
    """(height, width) of a size as torch and NIR give it.

    Args:
        value: one whole number, or two; arrays too.

    Raises:
        ValueError: neither.
    """
    height, width = np.broadcast_to(np.asarray(value, dtype=np.int64), (2,))
    return int(height), int(width)
