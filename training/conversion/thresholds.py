"""Thresholds from the ANN's own activations, without a spike.

``mse``: what T steps can say about an activation is one of T + 1 levels between zero and the
threshold; the one is taken that leaves the smallest mean squared error. ``analytic``: the level at
which the ANN was trained to clip.
"""

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.network import Network
from spikeship.training.conversion.balance import BalanceError, positive
from spikeship.training.conversion.units import MessageScale
from spikeship.training.snn.form import ACTIVATIONS
from spikeship.training.snn.observe import fitting_batch

# activations are counted in so many intervals up to the largest, thresholds sought among so many
_BINS = 2048
_CANDIDATES = 128


def clip_levels(ann: Network) -> dict[str, MessageScale]:
    """Clip level of each activation, by name, in the ANN's numbers.

    Raises:
        BalanceError: an activation that has none.
    """
    levels: dict[str, MessageScale] = {}
    for name, module in _activations(ann):
        if not isinstance(module, ClippedReLU | QCFS):
            raise BalanceError(
                f"layer {name!r}: a {type(module).__name__} has no clip level for balance "
                "'analytic'; train the ANN with ClippedReLU or QCFS, or use balance mse"
            )
        levels[name] = module.level.item()
    return levels


@torch.no_grad()
def mse_levels(
    ann: Network,
    images: Tensor,
    num_steps: int,
    *,
    start: float = 0.0,
    per_channel: bool = False,
    batch_size: int | None = None,
) -> dict[str, MessageScale]:
    """Thresholds that leave the smallest mean squared error of activations coded in T steps.

    A neuron of threshold theta whose input comes evenly sends an activation a as
    ``theta / T * clamp(floor(a * T / theta + start), 0, T)``. Candidates are the 128ths of a
    layer's, or channel's, largest activation, which are counted in 2048 intervals.

    Args:
        ann: batch norm folded; run in eval mode.
        images: calibration images (images, *input_shape), normalised as for the ANN.
        num_steps: T.
        start: V0 in thresholds.
        per_channel: a threshold for each channel of a convolution.
        batch_size: images run at once; by default what memory allows.

    Returns:
        For each activation, by name, in the ANN's numbers, one threshold or (channel, 1, 1).

    Raises:
        BalanceError: an activation that is never positive.
    """
    names = [name for name, _ in _activations(ann)]
    parts = torch.split(images, batch_size or fitting_batch(ann, 1))
    tops: dict[str, Tensor] = {}
    for part in parts:
        for name, values in _rows(ann, part, names, per_channel):
            top = values.amax(1)
            tops[name] = torch.maximum(tops[name], top) if name in tops else top
    counts = {name: np.zeros((2, len(top), _BINS)) for name, top in tops.items()}
    for part in parts:
        for name, values in _rows(ann, part, names, per_channel):
            counts[name] += _histogram(values, tops[name])
    levels: dict[str, MessageScale] = {}
    for name, (number, total) in counts.items():
        share = [_best_share(n, s, num_steps, start) for n, s in zip(number, total, strict=True)]
        found = tops[name].double().cpu().numpy() * share
        levels[name] = positive(name, found, "the activation it is balanced on")
    return levels


def _activations(ann: Network) -> Iterator[tuple[str, nn.Module]]:
    for layer in ann.layers:
        if isinstance(layer.module, ACTIVATIONS):
            yield layer.name, layer.module


def _rows(
    ann: Network, images: Tensor, names: list[str], per_channel: bool
) -> Iterator[tuple[str, Tensor]]:
    """Activations of one batch by layer, one row a channel, or one for all."""
    like = next(ann.parameters())
    training = ann.training
    ann.eval()
    for layer, _, result in ann.walk(images.to(like)):
        if layer.name in names:
            rows = result.movedim(1, 0) if per_channel and result.ndim == 4 else result[None]
            yield layer.name, rows.reshape(len(rows), -1)
    ann.train(training)


def _histogram(values: Tensor, tops: Tensor) -> NDArray[np.float64]:
    """Number, and sum as a share of the largest, of each row's positive values in equal bins."""
    row, column = (values > 0).nonzero(as_tuple=True)
    share = values[row, column].double() / tops.double()[row]
    # the largest value itself may be rounded to a bin of its own
    place = (share * _BINS).long().clamp(max=_BINS - 1) + row * _BINS
    size = len(tops) * _BINS
    found = [torch.bincount(place, weights, size) for weights in (torch.ones_like(share), share)]
    return torch.stack(found).view(2, len(tops), _BINS).cpu().numpy()


def _best_share(
    number: NDArray[np.float64], total: NDArray[np.float64], num_steps: int, start: float
) -> float:
    """Share of the largest value at which clipping and T steps leave the smallest error."""
    filled = number > 0
    number, values = number[filled], total[filled] / number[filled]
    theta = np.arange(1, _CANDIDATES + 1)[:, None] / _CANDIDATES
    step = theta / num_steps
    said = np.clip(np.floor(values / step + start), 0, num_steps) * step
    errors = ((said - values) ** 2) @ number
    return float(theta[errors.argmin(), 0])
