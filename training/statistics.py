"""Mean and standard deviation as files of networks keep them."""

import math
from collections.abc import Mapping
from typing import Any

from spikeship.hw_models.errors import InputError


def check_statistics(data: Any) -> None:
    """Check the ``mean`` and ``std`` of a network's data, where it has them.

    Args:
        data: as JSON has it; an object, of which these two are lists of a number a channel or
            null.

    Raises:
        InputError: something else, or a standard deviation that is not positive.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"data: is {str(data)[:60]}, not an object with mean and std")
    for key in ("mean", "std"):
        values = data.get(key)
        if values is None:
            continue
        numbers = isinstance(values, list | tuple) and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in values
        )
        if not numbers or not all(math.isfinite(value) for value in values):
            raise InputError(f"data: {key} is {str(values)[:60]}, not a finite number a channel")
        if key == "std" and not all(value > 0 for value in values):
            raise InputError(f"data: std is {str(values)[:60]}; give positive numbers")
