"""What tells a training run from others, so that none goes on from another's state.

Weights, labels and settings say so themselves; what a network computes besides its weights, and
what its images are, is told here.
"""

import hashlib
import json
from collections.abc import Callable

import torch
from torch import Tensor, nn

from spikeship.training.ann.checkpoint import fingerprint
from spikeship.training.ann.network import Network
from spikeship.training.fit.generators import seed_generators

_SAMPLES = 32


def structure(model: nn.Module) -> str:
    """SHA-256 of what a network does beside its weights.

    That is what ``repr`` shows of its modules (kinds, strides, dropout rates, steps of
    activations) and who reads whom in a ``Network``.
    """
    wiring = [
        [layer.name, *layer.inputs]
        for part in model.modules()
        if isinstance(part, Network)
        for layer in part.layers
    ]
    return hashlib.sha256(json.dumps([repr(model), wiring]).encode()).hexdigest()


def images_seen(images_of: Callable[[Tensor], Tensor], samples: int, seed: int) -> str:
    """SHA-256 of some images of a set as training sees them, up to 32 from all over it.

    Seeds all generators, so that the same images are varied in the same way.

    Args:
        images_of: gives the network's input for sample indices (int64); may draw numbers.
        samples: how many there are.
        seed: of the draws.
    """
    seed_generators(seed)
    return fingerprint({"images": images_of(spread(samples))})


def spread(samples: int) -> Tensor:
    """Up to 32 indices, int64, at equal distances from the first sample on."""
    return torch.arange(0, samples, max(1, -(-samples // _SAMPLES)))
