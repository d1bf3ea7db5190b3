"""A small network that fits both chips, and images for it, for tests of what estimates."""

from typing import Any

import numpy as np
import torch

from spikeship.deploy.io.inputs import Images
from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.placement.placement import Core, PlacedLayer, Placement, Rules

T = 6


def network(encoding: str = "poisson", side: int = 8, seed: int = 0) -> FixedGraph:
    """A convolution, a pooled one and a readout; hard reset, so that it fits both chips."""
    random = np.random.default_rng(seed)

    def weights(*shape: int) -> Any:
        return 2 * random.integers(-120, 120, shape)

    half = side // 2
    return FixedGraph(
        Input(
            "input", (1, side, side), encoding,  # type: ignore[arg-type]
            max_message=127 if encoding == "direct" else 1, signed=True, scale=0.01,
        ),
        (
            Neuron("one", (4, side, side), vth=np.array(300), reset="zero"),
            Neuron("two", (4, half, half), vth=np.array(900), reset="zero"),
            Readout("out", (10,)),
        ),
        (
            Conv(
                name="c1", source="input", target="one", weight=weights(4, 1, 3, 3), padding=(1, 1)
            ),
            Conv(
                name="c2", source="one", target="two", weight=weights(4, 4, 3, 3), padding=(1, 1),
                pool=2,
            ),
            Dense(name="fc", source="two", target="out", weight=weights(10, 4 * half * half)),
        ),
        num_steps=T,
    )  # fmt: skip


def images(many: int = 5, side: int = 8) -> Images:
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(many, 1, side, side, generator=generator).clamp(-1, 1)
    labels = np.arange(many) % 10
    return Images(values, labels, torch.arange(many), {"name": "noise"})


def many_cores(layers: int, each: int) -> Placement:
    """A placement for loihi1 made by hand, cores in order over as many chips as it takes."""
    placed = []
    for number in range(layers):
        first = number * each
        cores = tuple(
            Core(
                f"layer{number}", (k, k + 1), (0, 1), (0, 1), (first + k) // 128,
                ((first + k) % 128 // 4 % 8, (first + k) % 128 // 32),
                compartments=512, synapse_bits=1000, state_bits=0, input_axons=1, output_axons=1,
            )
            for k in range(each)
        )  # fmt: skip
        placed.append(PlacedLayer(f"layer{number}", each, 1, 1, 1, "neurons", cores))
    chips_used = -(-layers * each // 128)
    return Placement("loihi1", Rules(), tuple(placed), chips_used, (), ())
