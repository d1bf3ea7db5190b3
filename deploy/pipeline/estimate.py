"""Estimate what an inference costs on a chip."""

from collections.abc import Callable
from dataclasses import dataclass

from spikeship.deploy.io.inputs import Images
from spikeship.deploy.options.estimate import EstimateOptions
from spikeship.deploy.run.counting import count, estimate_on, place_on
from spikeship.deploy.run.evaluate import Running
from spikeship.hw_models.energy_models import ModelEnergy, all_models
from spikeship.hw_models.estimate import Estimate
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.placement import Rules

Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Estimated:
    """What a network would cost on a chip.

    Attributes:
        estimate: the chip's.
        models: what other published energy models say; empty where nobody asked.
    """

    estimate: Estimate
    models: tuple[ModelEnergy, ...] = ()


def estimate(
    graph: FixedGraph,
    images: Images,
    options: EstimateOptions | None = None,
    *,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Estimated:
    """Run a network, place it on a chip, and estimate what an inference costs.

    Args:
        graph: the network.
        images: what to run.
        options: on which chip, and how.
        seed: of the encoding.
        device: what runs the integers, ``cpu`` or ``cuda``.
        progress: is given the number of images done since its last call.

    Raises:
        SpikeshipError: an option or images that cannot be used.
    """
    options = options or EstimateOptions()
    rules = Rules(options.axons, options.kernels)
    counted = count(graph, images, seed=seed, running=Running(device=device), progress=progress)
    placement = place_on(counted, options.chip, rules=rules, max_chips=options.max_chips)
    found = estimate_on(counted, placement)
    models = all_models(counted.graph, counted.counts) if options.models else ()
    return Estimated(found, models)
