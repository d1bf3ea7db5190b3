"""Settling: every layer's split, each depending on its neighbours'."""

from collections.abc import Callable, Mapping, Sequence

from spikeship.hw_models.chips.spec import Limit
from spikeship.hw_models.graph import Conv
from spikeship.hw_models.placement.layer import Layer, Splits
from spikeship.hw_models.placement.placement import LimitName, PlacementError
from spikeship.hw_models.placement.splits import Split
from spikeship.hw_models.placer.options import Options, impossible

Price = Callable[[Layer, Split, Splits], tuple[float, ...]]

_FREE_ROUNDS = 8  # after so many, layers only take more cores: an end is certain


def settle(
    layers: Sequence[Layer],
    limits: Mapping[LimitName, Limit],
    given: Mapping[str, int] | None = None,
) -> dict[str, Split]:
    """Fewest cores for every layer, until no layer's axons ask its neighbours for another split.

    Layers are split in order, again and again. In the first rounds each takes its fewest cores;
    should that not settle, a layer changes only where it breaks a limit, and then takes more.
    A layer takes few channel groups where more would multiply the next one's axons beyond their
    limit. Axons that cannot fit however a layer is split are left aside, and all else is kept.

    The search is greedy: it can end with limits broken, or on more cores, where another choice of
    a layer settled before would fit.

    Args:
        layers: the layers.
        limits: of a core.
        given: cores of layers that take so many, no fewer and no more.

    Raises:
        PlacementError: a layer cannot lie on the cores it is given.
    """
    fixed = given or {}
    splits = {layer.name: Split() for layer in layers}
    most_groups: dict[str, int] = {}
    for _ in range(_FREE_ROUNDS):
        before = dict(splits)
        for layer in layers:
            if layer.name in fixed:
                splits[layer.name] = onto(layer, limits, splits, fixed[layer.name])
            else:
                splits[layer.name] = _first(layer, limits, splits, most_groups.get(layer.name))
        if not _lowered(most_groups, layers, limits, splits) and splits == before:
            return splits
    return _grown([layer for layer in layers if layer.name not in fixed], limits, splits)


def _first(
    layer: Layer, limits: Mapping[LimitName, Limit], splits: Splits, groups: int | None
) -> Split:
    found = fewest(layer, limits, splits, _fastest, groups=groups)
    return found or fewest(layer, limits, splits, _fastest, axons=False) or layer.finest


def _grown(
    layers: Sequence[Layer], limits: Mapping[LimitName, Limit], splits: dict[str, Split]
) -> dict[str, Split]:
    """Give more cores to layers that break a limit, until none does that could do better."""
    stuck: set[str] = set()
    while True:
        growing = [
            layer
            for layer in layers
            if layer.name not in stuck and not keeps(layer, limits, splits)
        ]
        if not growing:
            return splits
        for layer in growing:
            more = splits[layer.name].cores + 1
            found = fewest(layer, limits, splits, _fewest_messages, low=more)
            if found is None:
                stuck.add(layer.name)
            else:
                splits[layer.name] = found


def _lowered(
    most_groups: dict[str, int],
    layers: Sequence[Layer],
    limits: Mapping[LimitName, Limit],
    splits: Splits,
) -> bool:
    """Lower the channel groups of layers that multiply a convolution's axons beyond its limit.

    Axons into a core are multiplied by the source's groups where its neurons share them, axons
    out of a core by the target's.

    Returns:
        Whether any was lowered.
    """
    before = dict(most_groups)
    for layer in layers:
        for name, need in impossible(layer, limits, splits).items():
            for other in _multiplying(layer, name):
                if other in splits:
                    most = max(1, splits[other].groups * limits[name].value // need)
                    most_groups[other] = min(most, most_groups.get(other, most))
    return most_groups != before


def _multiplying(layer: Layer, name: LimitName) -> list[str]:
    """Nodes whose channel groups multiply a layer's axons of one kind."""
    if name == "input axons":
        shared = [link.synapse for link in layer.incoming if link.axons.population]
        return [synapse.source for synapse in shared if isinstance(synapse, Conv)]
    if name == "output axons":
        sent = [link.synapse for link in layer.outgoing]
        return [synapse.target for synapse in sent if isinstance(synapse, Conv)]
    return []


def fewest(
    layer: Layer,
    limits: Mapping[LimitName, Limit],
    splits: Splits,
    price: Price,
    *,
    low: int = 1,
    groups: int | None = None,
    axons: bool = True,
) -> Split | None:
    """The split of fewest cores, among equals the cheapest; None where limits exclude each other.

    Args:
        layer: the layer.
        limits: of a core.
        splits: of its neighbours.
        price: of equal ones.
        low: fewest cores.
        groups: most channel groups, if that can be.
        axons: whether axons have limits.
    """
    options = Options(layer, limits, splits)
    for most in (groups, None):
        for equal in options.by_cores(low, groups=most, axons=axons):
            return min(equal, key=lambda split: price(layer, split, splits))
    return None


def _fastest(layer: Layer, split: Split, splits: Splits) -> tuple[float, ...]:
    """Time of the busiest core, then messages, then pieces of channels, rows and columns."""
    return (layer.busiest(split, splits), layer.messages(split, splits), *split.pieces)


def _fewest_messages(layer: Layer, split: Split, splits: Splits) -> tuple[float, ...]:
    """Few messages are few axons of the layers before, which are then not cut on in their turn."""
    return (layer.messages(split, splits), *split.pieces)


def keeps(layer: Layer, limits: Mapping[LimitName, Limit], splits: Splits) -> bool:
    """Whether a layer keeps every limit that it could keep, as it is split now."""
    loads = layer.loads(splits[layer.name], splits)
    broken = [name for name, limit in limits.items() if loads[name].max() > limit.value]
    if not broken:
        return True
    return set(broken) <= set(impossible(layer, limits, splits))


def known(layers: Sequence[Layer], counts: Mapping[str, int]) -> dict[str, int]:
    """Return the counts, checked.

    Args:
        layers: the layers.
        counts: cores by layer name.

    Raises:
        PlacementError: a layer is unknown, or a count is no whole number from 1 on.
    """
    names = {layer.name for layer in layers}
    for name, count in counts.items():
        if name not in names:
            raise PlacementError(f"layer_cores: there is no layer {name!r}; name the graph's own")
        if type(count) is not int or count < 1:
            raise PlacementError(
                f"layer_cores: layer {name!r} on {count!r} cores; give a whole number from 1 on"
            )
    return dict(counts)


def onto(layer: Layer, limits: Mapping[LimitName, Limit], splits: Splits, count: int) -> Split:
    """The fastest split of a layer onto a known number of cores.

    Args:
        layer: the layer.
        limits: of a core. Limits of axons depend on the other layers too: where no split onto so
            many cores keeps them, they are left aside.
        splits: of its neighbours.
        count: cores.

    Raises:
        PlacementError: none keeps the other limits.
    """
    options = Options(layer, limits, splits)
    for axons in (True, False):
        for equal in options.by_cores(count, count, axons=axons):
            return min(equal, key=lambda split: (layer.busiest(split, splits), split))
    least = next(options.by_cores(axons=False))[0].cores
    raise PlacementError(
        f"layer {layer.name!r}: no split onto {count} cores keeps the limits of a core; it takes "
        f"{least} at least, and not every number above"
    )
