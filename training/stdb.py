"""Fine-tuning in the spiking domain with spike-timing dependent backpropagation (STDB).

Rathi et al., ICLR 2020 (arXiv 2005.01807): the converted weights are the start, the thresholds
stay, cross-entropy is taken on the readout divided by the number of steps.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeship.training.encoding import encode_train
from spikeship.training.loop import EpochMetrics, FitConfig, fit
from spikeship.training.neurons import SpikingNetwork
from spikeship.training.observe import observe_ranges
from spikeship.training.surrogates import SurrogateName, surrogate


def finetune(
    snn: SpikingNetwork,
    images_of: Callable[[Tensor], Tensor],
    labels: Tensor,
    config: FitConfig,
    *,
    num_steps: int | None = None,
    surrogate_name: SurrogateName = "linear",
    state_path: Path | None = None,
    quiet: bool = False,
) -> tuple[SpikingNetwork, list[EpochMetrics]]:
    """Train a spiking network's weights and biases; thresholds, leak and skip factors stay.

    Args:
        snn: the network to start from; it stays as it is.
        images_of: gives real images (batch, *input_shape), normalised, for sample indices; may
            augment. For encoding ``spikes``, messages (batch, time, *input_shape).
        labels: class of every sample, int64, shape (samples,).
        config: how to train.
        num_steps: T to train with and for; by default the network's own.
        surrogate_name: slope of the backward pass. ``linear`` is the stable one; the paper's
            ``stdb`` hands every step's gradient on to all steps before it, whatever V is, and
            wants a tenth of the learning rate or less.
        state_path: where to keep the state of an interruptible run.
        quiet: no progress bar.

    Returns:
        The fine-tuned network, with ranges observed anew on the first training images, and the
        metrics of every epoch.

    Raises:
        FitError: as :func:`loop.fit`.
        EncodingError: images the network's coding cannot carry.
    """
    surrogate(surrogate_name)
    tuned = copy.deepcopy(snn)
    tuned.num_steps = steps = num_steps or snn.num_steps
    for neuron in tuned.neurons.values():
        neuron.surrogate_name = surrogate_name

    def loss(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores = model(encode_train(x, snn.coding, steps)) / steps
        return functional.cross_entropy(scores, y), scores

    metrics = fit(
        tuned,
        images_of,
        labels,
        config,
        loss,
        purpose={"num_steps": steps, "surrogate": surrogate_name},
        state_path=state_path,
        quiet=quiet,
    )
    first = torch.arange(min(len(labels), _RANGE_IMAGES))
    tuned.ranges = observe_ranges(tuned, images_of(first), seed=config.seed)
    return tuned, metrics


_RANGE_IMAGES = 256


def stdb_config(
    input_shape: Sequence[int], surrogate_name: SurrogateName = "linear", **changes: Any
) -> FitConfig:
    """Settings for fine-tuning: the paper's Adam and decay, a rate that fits width and slope.

    Rathi et al., ICLR 2020, take a rate of 1e-4 and fewer than 20 epochs. Smaller images make the
    networks narrow: with the linear slope they need a larger rate, with STDB's, which does not
    look at the potential, a larger one undoes the conversion.

    Args:
        input_shape: shape of one image.
        surrogate_name: slope of the backward pass.
        **changes: fields of :class:`FitConfig` to set otherwise.
    """
    narrow = input_shape[-1] < 32
    settings = {
        "epochs": 10 if narrow else 3,
        "learning_rate": 3e-3 if narrow and surrogate_name == "linear" else 1e-4,
        "optimizer": "adam",
        "decay": 0.2,
    }
    return FitConfig(**(settings | changes))
