"""Levels of staged firing: what a population that waits for its whole input counts.

Its spikes are the level 0..T of a quantized activation: once all has arrived in V, it fires in the
first ``ceil(V / theta) - 1`` of its T steps. A tie goes down, as on the chip.
"""

from torch import Tensor


def levels(potential: Tensor, theta: Tensor, num_steps: int) -> Tensor:
    """Count spikes, whole numbers of the potential's dtype.

    Args:
        potential: V with its start and bias, any shape.
        theta: thresholds, broadcast to it.
        num_steps: T, the largest count.
    """
    # by division: a multiplication by 1 / theta would miscount about half of the ties
    return (potential / theta).ceil().sub(1.0).clamp(0.0, float(num_steps))
