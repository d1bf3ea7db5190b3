"""Options: the splits of a layer that keep every limit of a core."""

from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np

from spikeship.hw_models.chips.spec import Limit
from spikeship.hw_models.placement.layer import INPUT, Layer, Link, Loads, Splits
from spikeship.hw_models.placement.placement import LimitName
from spikeship.hw_models.placement.splits import Ints, Split, outer, piece_counts
from spikeship.hw_models.placement.wires import FactoredWire, SparseWire

_AXONS: tuple[LimitName, ...] = ("input axons", "output axons")


def impossible(
    layer: Layer, limits: Mapping[LimitName, Limit], splits: Splits
) -> dict[LimitName, int]:
    """Limits that a layer breaks however it is split, and what it needs at least.

    One neuron a core needs the least, but for axons of a layer that reads itself: those may be
    fewer where an axis is not cut at all.
    """
    bits = layer.channel_bits + int(layer.neuron_bits.values.max())
    need: dict[LimitName, int] = {
        "neurons": layer.compartments,
        "synaptic memory": bits,
        "state memory": bits + layer.state_bits,
    }
    if _factored(layer):
        for name, links in zip(_AXONS, (layer.incoming, layer.outgoing), strict=True):
            entering = name == "input axons"
            need[name] = sum(
                int(np.prod([factors.max() for factors in _finest(link, splits, entering)]))
                for link in links
            )
    else:
        cuts = [Split(*pieces) for pieces in product(*((1, n) for n in layer.shape))]
        axons = [layer.axons(split, splits) for split in cuts]
        need |= {name: min(int(loads[name].max()) for loads in axons) for name in _AXONS}
    return {name: need[name] for name, limit in limits.items() if need[name] > limit.value}


class Options:
    """The splits of a layer to try, fewest cores first, given its neighbours' splits.

    Args:
        layer: the layer.
        limits: of a core.
        splits: of its neighbours.
    """

    def __init__(self, layer: Layer, limits: Mapping[LimitName, Limit], splits: Splits) -> None:
        self.layer, self.splits = layer, splits
        self._counts = tuple(piece_counts(n) for n in layer.shape)
        self._limits = {name: limit.value for name, limit in limits.items()}
        self._loads = self._largest_loads()
        needed = impossible(layer, limits, splits)
        # compartments and memory that cannot fit are split until no core takes more than it must
        self._limits |= {name: need for name, need in needed.items() if name not in _AXONS}
        self._checked = [name for name in self._limits if name not in _AXONS or name not in needed]
        self._cores = outer(self._counts)

    def least(self, name: LimitName) -> int:
        """Fewest cores that keep one limit by itself (no more than it takes, where estimated)."""
        kept = self._loads[name] <= self._limits[name]
        return int(self._cores[kept].min(initial=self._cores.max()))

    def by_cores(
        self,
        low: int = 1,
        high: int | None = None,
        *,
        groups: int | None = None,
        axons: bool = True,
    ) -> Iterator[list[Split]]:
        """Give the splits that keep every limit, those of equal cores together.

        Axons that no split keeps are left aside; of other limits that none keeps, the splits
        are given that break them least.

        Args:
            low: fewest cores.
            high: most cores.
            groups: most channel groups.
            axons: whether axons have limits.
        """
        checked = [name for name in self._checked if axons or name not in _AXONS]
        kept = self._cores >= low
        if high is not None:
            kept &= self._cores <= high
        if groups is not None:
            kept &= self._counts[0][:, None, None] <= groups
        for name in checked:
            kept &= self._loads[name] <= self._limits[name]
        found = np.nonzero(kept)
        cores = self._cores[found]
        pieces = np.stack([counts[i] for counts, i in zip(self._counts, found, strict=True)], 1)
        for count in np.unique(cores):
            some = (Split(*(int(n) for n in row)) for row in pieces[cores == count])
            exact = [split for split in some if self._keeps(split, checked)]
            if exact:
                yield exact

    def _keeps(self, split: Split, checked: list[LimitName]) -> bool:
        """Check what the table of largest loads only bounds from below."""
        layer = self.layer
        loads: Loads = {}
        if not layer.neuron_bits.uniform:
            loads |= layer.memory(split)
        if not _factored(layer):
            loads |= layer.axons(split, self.splits)
        return all(loads[n].max() <= self._limits[n] for n in checked if n in loads)

    def _largest_loads(self) -> Loads:
        """The largest load among the cores of every split, (groups, row tiles, column tiles).

        Where several synapses meet, the sum of their largest ones. For matrices: the mean load.
        """
        layer = self.layer
        largest = [-(-n // c) for n, c in zip(layer.shape, self._counts, strict=True)]
        neurons = outer(largest)
        if layer.neuron_bits.uniform:
            each = neurons * int(layer.neuron_bits.values.item())
        else:
            each = -(-int(layer.neuron_bits.total()) // outer(self._counts))
        bits = largest[0][:, None, None] * layer.channel_bits + each
        return {
            "neurons": neurons * layer.compartments,
            "synaptic memory": bits,
            "state memory": bits + neurons * layer.state_bits,
            "input axons": self._axons(layer.incoming, entering=True),
            "output axons": self._axons(layer.outgoing, entering=False),
        }

    def _axons(self, links: tuple[Link, ...], *, entering: bool) -> Ints:
        total: Ints = np.zeros([len(c) for c in self._counts], np.int64)
        for link in links:
            if link.loop:
                continue  # both its ends are the split that is tried
            if isinstance(link.axons, SparseWire):
                total = total + -(-link.axons.read // outer(self._counts))
            elif isinstance(link.axons, FactoredWire):
                total = total + self._factors(link, link.axons, entering)
        return total

    def _factors(self, link: Link, wire: FactoredWire, entering: bool) -> Ints:
        factor = wire.entering if entering else wire.leaving
        other = _other(link, self.splits, entering)
        return outer(
            [
                np.array([factor(axis, int(pieces), other).max() for pieces in counts])
                for axis, counts in enumerate(self._counts)
            ]
        )


def _factored(layer: Layer) -> bool:
    return all(
        isinstance(link.axons, FactoredWire) and not link.loop
        for link in (*layer.incoming, *layer.outgoing)
    )


def _finest(link: Link, splits: Splits, entering: bool) -> list[Ints]:
    """Factors of the axons into, or out of, each neuron on a core of its own."""
    wire = link.axons
    assert isinstance(wire, FactoredWire)  # the caller's case
    factor, shape = (wire.entering, wire.target) if entering else (wire.leaving, wire.source)
    other = _other(link, splits, entering)
    return [factor(axis, size, other) for axis, size in enumerate(shape)]


def _other(link: Link, splits: Splits, entering: bool) -> Split:
    return splits.get(link.synapse.source if entering else link.synapse.target, INPUT)
