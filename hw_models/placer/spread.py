"""Spreading: spare cores for the layers that decide the time."""

from collections.abc import Iterator, Mapping, Sequence, Set
from copy import copy
from dataclasses import dataclass

import numpy as np

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.placement.layer import Layer, core_limits
from spikeship.hw_models.placement.splits import Floats, Split
from spikeship.hw_models.placer.options import Options


@dataclass(frozen=True, eq=False)
class Stage:
    """Splits on the way from the fewest cores to all.

    Attributes:
        seconds: of all steps, as the spreading reckons: busiest cores and barriers, no links.
        splits: by layer.
    """

    seconds: float
    splits: dict[str, Split]


def stages(
    layers: Sequence[Layer],
    chip: ChipSpec,
    splits: Mapping[str, Split],
    cores: int,
    profile: Mapping[str, Floats] | None = None,
) -> Iterator[Stage]:
    """Give the stages from the fewest cores on, each with more cores for one layer.

    A step takes as long as the busiest core of the layer that is the slowest in it, and then the
    barrier, which grows with the tiles. The next cores go to the layer that decides most of the
    time and can be faster. Where it needs several at once, those that others would make of fewer
    are given too. So the stages on fewer cores are always among those on more.

    Args:
        layers: the layers.
        chip: the chip.
        splits: where to start from.
        cores: of all layers together, at most.
        profile: time of each layer's busiest core in every step, on the splits to start from;
            without, that of one mean step.
    """
    growing = _Growing(layers, chip, splits, profile)
    yield growing.stage
    while (further := growing.next(set())) is not None:
        yield from _others(growing, further, cores)
        if growing.used + further.cores > cores:
            return
        growing.take(further)
        yield growing.stage


def _others(growing: "_Growing", waiting: "_Further", cores: int) -> Iterator[Stage]:
    """The stages with fewer cores than a layer waits for, given to others."""
    others = copy(growing)
    passed = {waiting.layer}
    while (further := others.next(passed)) is not None:
        used = others.used + further.cores
        if used >= growing.used + waiting.cores:
            passed.add(further.layer)
        elif used > cores:
            return
        else:
            others.take(further)
            yield others.stage


@dataclass(frozen=True, eq=False)
class _Further:
    """More cores for a layer.

    Attributes:
        layer: its name.
        split: its next split.
        cores: how many more it takes.
        busiest: time of the busiest core then in a mean step, of the layer and its neighbours.
    """

    layer: str
    split: Split
    cores: int
    busiest: dict[str, float]


class _Growing:
    """The splits as they grow, and what each layer's busiest core then takes."""

    def __init__(
        self,
        layers: Sequence[Layer],
        chip: ChipSpec,
        splits: Mapping[str, Split],
        profile: Mapping[str, Floats] | None,
    ) -> None:
        self.layers = {layer.name: layer for layer in layers}
        self.chip, self.limits = chip, core_limits(chip)
        self.splits = dict(splits)
        self._near = {layer.name: _with_neighbours(layer, self.layers) for layer in layers}
        start = {layer.name: layer.busiest(splits[layer.name], splits) for layer in layers}
        profile = profile or {name: np.array([time]) for name, time in start.items()}
        self._times = np.stack([profile[name] for name in self.layers])  # (layers, steps)
        # seconds in each step for a second in a mean one
        self._scale = {name: profile[name] / (start[name] or 1.0) for name in self.layers}
        self._known: dict[str, _Further | None] = {}  # of layers whose surroundings are as then

    def __copy__(self) -> "_Growing":
        other = object.__new__(type(self))
        other.__dict__ |= {
            **self.__dict__,
            "splits": dict(self.splits),
            "_known": dict(self._known),
        }
        other._times = self._times.copy()
        return other

    @property
    def used(self) -> int:
        """Cores."""
        return sum(split.cores for split in self.splits.values())

    @property
    def stage(self) -> Stage:
        """What has grown so far."""
        tiles = -(-self.used // self.chip.cores_per_tile.value)
        busiest = self._times.max(axis=0)
        seconds = float(busiest.sum()) + len(busiest) * self.chip.barrier(tiles).value
        return Stage(seconds, dict(self.splits))

    def next(self, passed: Set[str]) -> _Further | None:
        """The next cores, not for layers that are passed by; None where none can be faster."""
        longest, slowest = self._times.max(axis=0), self._times.argmax(axis=0)
        decided = np.bincount(slowest, weights=longest, minlength=len(self.layers))
        names = list(self.layers)
        for index in np.argsort(-decided, kind="stable"):
            if decided[index] > 0 and names[index] not in passed:
                further = self._further(names[index])
                if further is not None:
                    return further
        return None

    def take(self, further: _Further) -> None:
        """Give a layer its further cores."""
        self.splits[further.layer] = further.split
        names = list(self.layers)
        for name, busiest in further.busiest.items():
            self._times[names.index(name)] = self._scale[name] * busiest
            for near in self._near[name]:
                self._known.pop(near, None)

    def _further(self, name: str) -> _Further | None:
        if name not in self._known:
            self._known[name] = self._found(self.layers[name])
        return self._known[name]

    def _found(self, layer: Layer) -> _Further | None:
        """The fewest further cores with which a layer is faster, its neighbours within limits.

        At most as many again: an axis cut once more never takes more than that.
        A neighbour may get slower, as it receives from more cores: then its turn comes next.
        """
        now, near = self.splits[layer.name], self._near[layer.name]
        slow = layer.busiest(now, self.splits)
        options = Options(layer, self.limits, self.splits)
        for equal in options.by_cores(now.cores + 1, 2 * now.cores):
            timed = sorted((layer.busiest(split, self.splits), split) for split in equal)
            for time, split in timed:
                changed = {**self.splits, layer.name: split}
                # itself too: in a loop it is its own neighbour
                if time < slow and all(self._keeps(name, changed) for name in near):
                    busiest = {
                        name: self.layers[name].busiest(changed[name], changed) for name in near
                    }
                    return _Further(layer.name, split, split.cores - now.cores, busiest)
        return None

    def _keeps(self, name: str, splits: Mapping[str, Split]) -> bool:
        """Whether a layer's axons keep their limits; nothing else depends on its neighbours."""
        axons = self.layers[name].axons(splits[name], splits)
        return all(loads.max() <= self.limits[limit].value for limit, loads in axons.items())


def _with_neighbours(layer: Layer, layers: Mapping[str, Layer]) -> list[str]:
    found = [layer.name, *(link.synapse.source for link in layer.incoming)]
    found += [link.synapse.target for link in layer.outgoing]
    return [name for name in dict.fromkeys(found) if name in layers]
