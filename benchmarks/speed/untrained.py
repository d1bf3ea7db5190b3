"""Networks of any depth and width for measuring cost: initial weights, balanced on real images.

Nothing is trained, so they classify nothing; but thresholds that are balanced as for a trained
network give every layer spikes to send, and how many is reported beside each cost.
"""

from typing import Any

import torch
from torch import Tensor

from spikeship.deploy.compiler.quantize import quantize
from spikeship.hw_models.graph import FixedGraph
from spikeship.training.ann.zoo import build
from spikeship.training.conversion.convert import convert
from spikeship.training.frontends.trace import trace
from spikeship.training.nir_io.to_nir import to_nir

CHIP, WEIGHT_BITS = "loihi2", 8
FEW_STEPS = 10


def untrained(
    arch: str,
    images: Tensor,
    *,
    num_steps: int,
    classes: int = 10,
    width: float = 1.0,
    data: dict[str, Any] | None = None,
) -> FixedGraph:
    """A network of the paper in integers, soft reset, Poisson input.

    For fewer than 10 steps its input is direct and its thresholds follow from the classifier's
    activations, with V0 at half of them: in so few steps, balancing on spikes would find none in
    the last layers.

    Args:
        arch: a name in ``training.ann.zoo.ARCHITECTURES``.
        images: to balance on, normalised, (images, *input shape).
        num_steps: T.
        classes: of its readout.
        width: factor on hidden channels and units.
        data: name, mean and std of the set, to be kept with it.
    """
    shape = tuple(images.shape[1:])
    torch.manual_seed(0)
    ann = trace(build(arch, shape, classes, width=width), shape).eval()
    few = num_steps < FEW_STEPS
    snn = convert(
        ann,
        images,
        num_steps=num_steps,
        encoding="direct" if few else "poisson",
        balance="mse" if few else "max",
        v0="half" if few else "zero",
        data=data,
        provenance={"weights": "initial"},
    )
    return quantize(to_nir(snn), chip=CHIP, weight_bits=WEIGHT_BITS)
