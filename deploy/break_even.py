"""The firing rate at which a chip's energy meets a reference's.

Energy grows with the rate: events cost energy, and a busier core draws out the step, which costs
static power. So there is at most one rate at which it crosses a level.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from scipy.optimize import brentq

RELATIVE = 1e-9  # how far a returned rate may lie from the crossing


@dataclass(frozen=True)
class Crossing:
    """Where an energy meets a level.

    Attributes:
        factor: what all rates are multiplied by there; None where they do not meet.
        why: why they do not; empty where they do.
    """

    factor: float | None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return both as a JSON object."""
        return {"factor": self.factor, "why": self.why or None}


def crossing(energy_j: Callable[[float], float], level_j: float, most: float) -> Crossing:
    """Find the factor at which an energy that grows with it equals a level.

    Args:
        energy_j: joules by factor, growing.
        level_j: joules to meet.
        most: largest factor to look at: some layer then sends once a neuron and step on average.
    """
    if energy_j(0.0) >= level_j:
        return Crossing(None, "the chip takes more even without a spike")
    if energy_j(most) < level_j:
        return Crossing(
            None,
            "the chip takes less even at the largest factor, where a layer sends once a neuron and "
            "step on average",
        )
    found = brentq(
        lambda factor: energy_j(factor) - level_j, 0.0, most, xtol=RELATIVE * most, rtol=RELATIVE
    )
    return Crossing(float(found))
