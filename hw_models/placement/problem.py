"""Problem: what is to be placed, and the limits that it breaks on a chip."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.placement import LimitName, Rules
from spikeship.hw_models.placement.splits import Floats

At = tuple[str, LimitName]  # a layer and a limit
Broken = dict[At, tuple[int, int]]  # what a layer needs of a limit, and what there is


@dataclass(frozen=True, eq=False)
class Problem:
    """What is placed.

    Attributes:
        graph: the network. rules: how axons and kernels are counted.
        rates: messages a step of every sending node's neurons.
        given: cores of layers that take so many, no fewer and no more.
    """

    graph: FixedGraph
    rules: Rules
    rates: Mapping[str, Floats]
    given: Mapping[str, int] = field(default_factory=dict)
