"""Settling: every layer's split, each depending on its neighbours'."""

from collections.abc import Callable, Mapping, Sequence

from spikeship.hw_models.chips.spec import Limit
from spikeship.hw_models.graph import Conv
from spikeship.hw_models.placement.layer import Layer, Splits
from spikeship.hw_models.placement.options import Options, impossible
from spikeship.hw_models.placement.placement import LimitName
from spikeship.hw_models.placement.splits import Split

Price = Callable[[Layer, Split, Splits], tuple[float, ...]]

_FREE_ROUNDS = 8  # after so many, layers only take more cores: an end is certain
_AT_LEAST = 1  # rounds before axons are given up


def settle(layers: Sequence[Layer], limits: Mapping[LimitName, Limit]) -> dict[str, Split]:
    """Fewest cores for every layer, until no layer's axons ask its neighbours for another split.

    Layers are split in order, again and again. In the first rounds each takes its fewest cores;
    should that not settle, a layer changes only where it breaks a limit, and then takes more.
    A layer takes few channel groups where more would multiply the next one's axons beyond their
    limit. Where axons cannot fit however a layer is split, the rounds end: its neighbours would be
    cut finer and finer for nothing.
    """
    splits = {layer.name: Split() for layer in layers}
    most_groups: dict[str, int] = {}
    for number in range(_FREE_ROUNDS):
        before = dict(splits)
        for layer in layers:
            splits[layer.name] = _first(layer, limits, splits, most_groups.get(layer.name))
        if _lowered(most_groups, layers, limits, splits):
            continue
        if splits == before or (number >= _AT_LEAST and _hopeless(layers, limits, splits)):
            return splits
    return _grown(layers, limits, splits)


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
    while not _hopeless(layers, limits, splits):
        growing = [
            layer
            for layer in layers
            if layer.name not in stuck and not keeps(layer, limits, splits)
        ]
        if not growing:
            break
        for layer in growing:
            more = splits[layer.name].cores + 1
            found = fewest(layer, limits, splits, _fewest_messages, low=more)
            if found is None:
                stuck.add(layer.name)
            else:
                splits[layer.name] = found
    return splits


def _lowered(
    most_groups: dict[str, int],
    layers: Sequence[Layer],
    limits: Mapping[LimitName, Limit],
    splits: Splits,
) -> bool:
    """Lower the channel groups of layers that multiply a convolution's axons beyond its limit.

    Returns:
        Whether any was lowered.
    """
    before = dict(most_groups)
    for layer in layers:
        need = impossible(layer, limits, splits).get("input axons", 0)
        for link in layer.incoming if need else ():
            source = splits.get(link.synapse.source)
            shared = isinstance(link.synapse, Conv) and link.axons.population
            if source is not None and shared:
                most = max(1, source.groups * limits["input axons"].value // need)
                known = most_groups.get(link.synapse.source, most)
                most_groups[link.synapse.source] = min(most, known)
    return most_groups != before


def _hopeless(layers: Sequence[Layer], limits: Mapping[LimitName, Limit], splits: Splits) -> bool:
    axons = {"input axons", "output axons"}
    return any(axons & set(impossible(layer, limits, splits)) for layer in layers)


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
