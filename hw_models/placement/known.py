"""Known mappings: layers on as many cores as somebody said they lie on."""

from collections.abc import Mapping, Sequence

from spikeship.hw_models.chips.spec import Limit
from spikeship.hw_models.placement.layer import Layer
from spikeship.hw_models.placement.options import Options
from spikeship.hw_models.placement.placement import LimitName, PlacementError
from spikeship.hw_models.placement.splits import Split


def on_so_many(
    layers: Sequence[Layer],
    limits: Mapping[LimitName, Limit],
    splits: Mapping[str, Split],
    counts: Mapping[str, int],
) -> dict[str, Split]:
    """Give the named layers as many cores as they are said to have, the fastest way.

    Args:
        layers: the layers.
        limits: of a core.
        splits: of all layers, onto the fewest cores.
        counts: cores by layer name.

    Raises:
        PlacementError: a layer has no split of so many cores that keeps its limits, or is unknown.
    """
    unknown = sorted(set(counts) - {layer.name for layer in layers})
    if unknown:
        raise PlacementError(f"layer_cores: there is no layer {unknown[0]!r}; name the graph's own")
    current = dict(splits)
    for layer in layers:
        if layer.name not in counts:
            continue
        count = counts[layer.name]
        equal = next(Options(layer, limits, current).by_cores(count, count), None)
        if equal is None:
            raise PlacementError(
                f"layer {layer.name!r}: no split onto {count} cores keeps the limits of a core; it "
                f"takes {splits[layer.name].cores} at least, and not every number above"
            )
        chosen = min((layer.busiest(split, current), split) for split in equal)
        current[layer.name] = chosen[1]
    return current
