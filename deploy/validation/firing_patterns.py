"""Firing patterns: which layers of Blouw et al.'s networks fire how often, none of it published.

Along every way through a network with branches, the first layer and ten of a branch, each spike
causes 256 operations. So the slope of energy over branches says how often the eleven layers fire
together, and hardly which of them do. Time and the energy of the network without branches depend
on just that. The family here leads from all layers alike to two extremes, in quarters of the spikes
moved.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

PATH = 11  # layers of one way: the first, and a branch's ten
MIDDLE = 5
SHARES = (0.25, 0.5, 0.75, 1.0)  # of the spikes of a way, moved into one layer of it


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


def _moved(name: str, layer: str, share: float) -> Pattern:
    """This share of a way's spikes in one layer, the rest in all eleven alike."""
    rest = 1 - share
    relative = {"first": rest, "branch": rest} | {layer: rest + share * PATH}
    return Pattern(f"{share:.0%} in {name}", relative)


EVEN = Pattern("all layers alike")
TO_FIRST = tuple(_moved("the first layer", "first", share) for share in SHARES)
TO_ONE = tuple(_moved("one layer of a branch", f"branch.{MIDDLE}", share) for share in SHARES)
FIRST, ONE = TO_FIRST[-1], TO_ONE[-1]
PATTERNS = (EVEN, *TO_FIRST, *TO_ONE)
