"""Bounded ReLUs, whose clip level becomes a neuron's threshold without any balancing.

A neuron that fires at most once a step gives at most its threshold: an ANN trained with a bound
already lives within it, and one trained on the bound's T-th parts expects nothing finer.
"""

import math

import torch
from torch import Tensor, nn

from spikeship.hw_models.errors import InputError


class ClippedReLU(nn.Module):
    """``clamp(x, 0, level)``, the level learnt with the weights.

    Args:
        level: the bound at the start, positive.

    Raises:
        ValueError: a level that is not positive and finite.
    """

    def __init__(self, level: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(_positive(level)))

    def forward(self, x: Tensor) -> Tensor:
        """Clip ``x`` of any shape."""
        return torch.minimum(x.relu(), self.level)

    def extra_repr(self) -> str:
        """Say what ``repr`` shows."""
        return f"level={self.level.item():g}"


class QCFS(nn.Module):
    """Quantization clip-floor-shift: ``level / steps * clamp(floor(x * steps / level + 1/2))``.

    The floor is clamped to 0 … steps. That is what a neuron with threshold ``level`` that starts
    at half of it gives on average in so many steps, if its input comes evenly. The floor's
    gradient is taken as 1 (Bu et al., ICLR 2022).

    Args:
        level: the bound at the start, positive.
        steps: levels above zero; the T for which the ANN is exact where input comes evenly.

    Raises:
        ValueError: a level that is not positive and finite, or fewer than one step.
    """

    def __init__(self, level: float, steps: int) -> None:
        super().__init__()
        if steps < 1:
            raise InputError(f"steps must be at least 1, got {steps}")
        self.level = nn.Parameter(torch.tensor(_positive(level)))
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        """Clip and quantise ``x`` of any shape."""
        part = self.level / self.steps
        # clamped before the floor, so that gradients stop where the paper's do
        shifted = (x / part + 0.5).clamp(0, self.steps)
        return part * (shifted + (shifted.floor() - shifted).detach())

    def extra_repr(self) -> str:
        """Say what ``repr`` shows."""
        return f"level={self.level.item():g}, steps={self.steps}"


def _positive(level: float) -> float:
    if not (math.isfinite(level) and level > 0):
        raise InputError(f"level must be positive, got {level}")
    return float(level)
