"""Known mappings: layers on as many cores as somebody said they lie on."""

from collections.abc import Mapping, Sequence

from spikeship.hw_models.chips.spec import Limit
from spikeship.hw_models.placement.layer import Layer, Splits
from spikeship.hw_models.placement.options import Options
from spikeship.hw_models.placement.placement import LimitName, PlacementError
from spikeship.hw_models.placement.splits import Split


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
