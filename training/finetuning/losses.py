"""Losses on a spiking network's readout.

The readout adds up its weighted input over the steps; what it receives at one step (bias included)
is that step's output, and the mean of the outputs, R / T, holds the class scores.
"""

import torch
from torch import Tensor
from torch.nn import functional


def tet(outputs: Tensor, labels: Tensor, weight: float, target: float) -> Tensor:
    """Temporal efficient training: every step's output is to be right by itself.

    ``(1 - weight) * mean over t of CE(O(t), y) + weight * mean of (O(t) - target)^2``
    (Deng et al., ICLR 2022, arXiv 2202.11946).

    Args:
        outputs: O, the readout's weighted input, shape (time, batch, classes).
        labels: classes y, int64, shape (batch,).
        weight: of the squared distance from ``target``, 0..1.
        target: what every output is drawn to, in units of the class scores.
    """
    steps = len(outputs)
    each = functional.cross_entropy(outputs.flatten(0, 1), labels.repeat(steps))
    distance = (outputs - target).square().mean()
    return (1.0 - weight) * each + weight * distance


def distillation(scores: Tensor, teacher_scores: Tensor, temperature: float) -> Tensor:
    """Distance of the softened class probabilities from a teacher's.

    ``temperature^2 * KL(softmax(teacher / temperature) || softmax(scores / temperature))``, the
    mean over the batch; the square keeps gradients in size (Hinton et al., arXiv 1503.02531).

    Args:
        scores: class scores, shape (batch, classes).
        teacher_scores: the teacher's, same shape.
        temperature: positive; higher ones look more at the unlikely classes.
    """
    ours = torch.log_softmax(scores / temperature, 1)
    theirs = torch.log_softmax(teacher_scores / temperature, 1)
    distance = functional.kl_div(ours, theirs, reduction="batchmean", log_target=True)
    return temperature**2 * distance
