"""What tests of what-if share: a level to meet, the estimate at a rate, a network of one layer."""

from dataclasses import replace

import numpy as np
from estimate_cases import images, network

from spikeship.deploy.analysis.references import Reference
from spikeship.deploy.io.inputs import Images
from spikeship.deploy.run.counting import Counted, count
from spikeship.hw_models import chips
from spikeship.hw_models.estimate import estimate
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Readout
from spikeship.hw_models.placer.place import place


def reference(energy_j: float, low: float | None = None, high: float | None = None) -> Reference:
    return Reference("level", "modelled", energy_j, low or energy_j, high or energy_j, ())


def joules(counted: Counted, chip: str) -> tuple[float, float, float]:
    """Low, value and high of the network on its own placement, at the rate it was counted at."""
    spec = chips.get(chip)
    placement = place(network(), spec, traffic=count(network(), images(), seed=0).traffic)
    found = estimate(
        counted.graph, counted.counts, spec, traffic=counted.traffic, placement=placement
    ).energy
    return found.low, found.dynamic + found.static, found.high


def dim_images() -> Images:
    """Noise so faint that rates are low and differ from neuron to neuron."""
    return replace(images(), values=images().values[:] * 0.003)


def one_layer(encoding: str, shape: tuple[int, ...] = (64,)) -> FixedGraph:
    """An input of 64 values straight into a readout."""
    source = Input(
        "input", shape, encoding,  # type: ignore[arg-type]
        max_message=127 if encoding == "direct" else 1, signed=True, scale=0.01,
    )  # fmt: skip
    weight = 2 * np.random.default_rng(0).integers(-120, 120, (10, 64))
    synapse = Dense(name="d", source="input", target="out", weight=weight)
    return FixedGraph(source, (Readout("out", (10,)),), (synapse,), num_steps=4)
