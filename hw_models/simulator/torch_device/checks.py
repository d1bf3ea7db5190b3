"""Strict checks on a torch device: magnitudes are noted as they pass, and looked at once.

This file uses torch. Reading a number back waits for the device, so overflow is not raised where
it happens: a Watch keeps the largest magnitudes of every step, and names afterwards what the
reference would have met first. What was computed behind an overflow is never returned.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

from spikeship.hw_models import fixed
from spikeship.hw_models.reference.interpreter import StateOverflowError


class Phase(IntEnum):
    """Order of the reference's checks within one chip step."""

    INPUT_POOL = 0
    SUM = 1
    NODE = 2
    POOL = 3


@dataclass(frozen=True)
class Limit:
    """What may not be passed, and what to say if it is.

    Attributes:
        phase: when the reference looks.
        most: largest magnitude allowed.
        says: error for the magnitude and the number of the chip step, from 1.
    """

    phase: Phase
    most: int
    says: Callable[[int, int], str]


def magnitude(values: Tensor, kept: int = 1) -> Tensor:
    """Largest magnitude over all axes but the first ``kept``, int64."""
    low, high = values.reshape(*values.shape[:kept], -1).aminmax(dim=-1)
    return torch.maximum(-low.to(torch.int64), high.to(torch.int64))


class Watch:
    """Magnitudes met in a run, by limit and chip step."""

    def __init__(self) -> None:
        self._met: list[tuple[Limit, int, Tensor]] = []

    def add(self, limit: Limit, worst: Tensor, first: int) -> None:
        """Note the largest magnitudes (steps,) from chip step ``first`` (from 0) on."""
        self._met.append((limit, first, worst))

    def raise_first(self) -> None:
        """Raise what the reference would have met first, if anything.

        Raises:
            StateOverflowError: something passed its limit.
        """
        if not self._met:
            return
        sizes = [len(worst) for _, _, worst in self._met]
        together = torch.cat([worst for _, _, worst in self._met]).cpu().numpy()
        magnitudes = np.split(together, np.cumsum(sizes)[:-1])
        found: list[tuple[int, Phase, int, str]] = []
        for order, ((limit, first, _), worst) in enumerate(zip(self._met, magnitudes, strict=True)):
            passed = np.flatnonzero(worst > limit.most)
            if len(passed):
                step = first + int(passed[0])
                says = limit.says(int(worst[passed[0]]), step + 1)
                found.append((step, limit.phase, order, says))
        if found:
            raise StateOverflowError(min(found)[3])


def beyond_24_bits(phase: Phase, what: str) -> Limit:
    """A limit of 24 bits, in the reference's words."""
    most = fixed.STATE_RAIL
    return Limit(
        phase,
        most,
        lambda worst, step: (
            f"{what} reaches {worst} in chip step {step}, beyond the {most} that 24 bits hold; "
            "use a larger scale"
        ),
    )


def pools_beyond_24_bits(phase: Phase, synapse: str) -> Limit:
    """The same for the pooled messages of a synapse."""
    most = fixed.STATE_RAIL
    return Limit(
        phase,
        most,
        lambda worst, step: (
            f"synapse {synapse!r}: its pooled messages reach {worst}, beyond the {most} that "
            "24 bits hold; use a larger scale"
        ),
    )
