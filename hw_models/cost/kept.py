"""Kept: parts of the work of placements that differ in few layers, not counted again."""

from collections.abc import Callable
from typing import Any, TypeVar

from spikeship.hw_models.cost.regions import Regions
from spikeship.hw_models.graph import AnySynapse

_T = TypeVar("_T")


class Kept:
    """The newest part of every synapse and node, good as long as its layers are cut the same.

    It is of one graph, one traffic and one way of storing synapses: use it for no other.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, AnySynapse | str], tuple[object, Any]] = {}

    def part(
        self, kind: str, of: AnySynapse | str, cut: tuple[Regions, ...], count: Callable[[], _T]
    ) -> _T:
        """Return a part, counted anew only where the regions that it depends on are others.

        Args:
            kind: which of its parts.
            of: the synapse, or the node's name.
            cut: the regions it depends on.
            count: counts it.
        """
        key = tuple((one.channels, one.rows, one.columns) for one in cut)
        before = self._parts.get((kind, of))
        if before is not None and before[0] == key:
            kept: _T = before[1]
            return kept
        found = count()
        self._parts[kind, of] = (key, found)
        return found
