"""Firing patterns that the measured energy cannot tell apart.

Along every way through Blouw et al.'s networks, first layer and ten of a branch, each spike causes
256 operations. Their energy therefore says how often the eleven layers fire together, and nothing
of which of them does. Time and the smallest network's energy depend on just that.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

PATH = 11  # layers of one way: the first, and a branch's ten
MIDDLE = 5


@dataclass(frozen=True)
class Pattern:
    """How often layers fire, relative to the fitted rate.

    Attributes:
        name: what it says.
        relative: by layer, or ``layer.place`` for one of a chain's; 1 where none is given.
    """

    name: str
    relative: Mapping[str, float] = field(default_factory=dict)

    def of(self, layer: str, place: int) -> float:
        """Relative rate of a layer, the ``place``-th of its chain."""
        return self.relative.get(f"{layer}.{place}", self.relative.get(layer, 1.0))


EVEN = Pattern("all layers alike")
FIRST = Pattern("only the first layer", {"first": PATH, "branch": 0})
ONE = Pattern("one layer of each branch", {"first": 0, "branch": 0, f"branch.{MIDDLE}": PATH})
PATTERNS = (EVEN, FIRST, ONE)
