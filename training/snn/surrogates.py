"""Surrogate slopes: what backpropagation uses in place of a spike's derivative.

A spike is ``s = 1 where z > 0`` with ``z = V / theta - 1``, V taken before the reset. Each function
here stands for ds/dz; with respect to V it is divided by theta. Adding one is a row in the table
here and a case in ``compiled_scan``.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from spikeship.hw_models.errors import InputError

# a neuron that has not spiked yet counts as having spiked so many steps before the first
NEVER = 1000


@dataclass(frozen=True)
class TimingSurrogate:
    """A slope that depends on how long ago the neuron last spiked.

    Attributes:
        slope: maps dt, whole steps since the last spike before this step, to ds/dz.
    """

    slope: Callable[[Tensor], Tensor]

    def table(self, num_steps: int, like: Tensor) -> Tensor:
        """Slope for every dt that ``num_steps`` steps can show, in ``like``'s dtype and device."""
        dt = torch.arange(NEVER + num_steps, dtype=torch.float64)
        return self.slope(dt).to(like)


@dataclass(frozen=True)
class PotentialSurrogate:
    """A slope that depends on how far the potential is from the threshold.

    Attributes:
        slope: maps z = V / theta - 1 to ds/dz, element by element.
    """

    slope: Callable[[Tensor], Tensor]


Surrogate = TimingSurrogate | PotentialSurrogate


def stdb(dt: Tensor) -> Tensor:
    """Spike-timing dependent slope ``0.3 * exp(-0.01 * dt)`` (Rathi et al., ICLR 2020)."""
    return 0.3 * torch.exp(-0.01 * dt)


def linear(z: Tensor) -> Tensor:
    """Low triangle ``0.3 * max(0, 1 - |z|)`` (Bellec et al., NeurIPS 2018)."""
    return 0.3 * (1 - z.abs()).clamp(min=0)


def triangle(z: Tensor) -> Tensor:
    """Triangle of area one, ``max(0, 1 - |z|)`` (Esser et al., PNAS 2016; TET's, ICLR 2022)."""
    return (1 - z.abs()).clamp(min=0)


def atan(z: Tensor) -> Tensor:
    """Derivative of ``atan(pi * z) / pi``: ``1 / (1 + (pi z)^2)`` (Fang et al., ICCV 2021)."""
    return 1 / (1 + (math.pi * z).square())


def sigmoid(z: Tensor) -> Tensor:
    """Derivative of ``sigmoid(4 z)``, which is 1 at the threshold (Zenke and Ganguli, 2018)."""
    fire = torch.sigmoid(4 * z)
    return 4 * fire * (1 - fire)


SURROGATES: dict[str, Surrogate] = {
    "stdb": TimingSurrogate(stdb),
    "linear": PotentialSurrogate(linear),
    "triangle": PotentialSurrogate(triangle),
    "atan": PotentialSurrogate(atan),
    "sigmoid": PotentialSurrogate(sigmoid),
}


def surrogate(name: str) -> Surrogate:
    """Return the surrogate of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in SURROGATES:
        raise InputError(
            f"surrogate {name!r} is not known; use one of {', '.join(sorted(SURROGATES))}"
        )
    return SURROGATES[name]
