"""Classifiers of images: trained on a set with cross-entropy, and run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeship.training.ann.checkpoint import fingerprint
from spikeship.training.data.augment import Variation, training_images, variation_of
from spikeship.training.data.load import DataError, DataSet, Samples
from spikeship.training.fit.config import EpochMetrics, FitConfig, FitError
from spikeship.training.fit.identity import spread
from spikeship.training.fit.loop import fit


def ann_config(input_shape: Sequence[int], **changes: Any) -> FitConfig:
    """Settings that train the paper's networks in few epochs.

    From a side of 32 on, the paper's rate (30 epochs instead of 300); smaller images make the
    networks narrow, which need a larger rate and more epochs, and have the time for them.

    Args:
        input_shape: shape of one image.
        **changes: fields of :class:`FitConfig` to set otherwise.
    """
    narrow = {"epochs": 100, "learning_rate": 5e-2} if input_shape[-1] < 32 else {}
    return FitConfig(**(narrow | changes))


def train_ann(
    model: nn.Module,
    dataset: DataSet,
    config: FitConfig,
    *,
    variation: Variation | None = None,
    label_smoothing: float = 0.0,
    state_path: Path | None = None,
    quiet: bool = False,
) -> list[EpochMetrics]:
    """Train a classifier on a set's training images with cross-entropy; see :func:`loop.fit`.

    Where the set has validation images, the model ends with the weights of the epoch that
    classified most of them rightly. Test images are not looked at.

    Args:
        model: network from (batch, *input_shape) to (batch, classes), trained in place.
        dataset: needs training images and labels.
        config: how to train.
        variation: how training images are varied; None for the paper's way with such a set.
        label_smoothing: part of the target that is spread evenly over all classes, 0 to 1.
        state_path: where to keep the state.
        quiet: no progress bar.

    Raises:
        FitError: as :func:`loop.fit`, or a ``label_smoothing`` outside its range.
        DataError: the set has no training images or labels, or validation images without labels.
    """
    if dataset.train is None or dataset.train.labels is None:
        raise DataError(f"{dataset.name}: has no labelled training images; give x_train, y_train")
    held_out = dataset.validation
    if held_out is not None and held_out.labels is None:
        raise DataError(f"{dataset.name}: its validation images have no labels; leave them out")

    if not 0 <= label_smoothing < 1:
        raise FitError(f"label_smoothing must lie in 0 <= s < 1, got {label_smoothing}")
    variation = variation_of(dataset, paper=True) if variation is None else variation
    now = 0

    def enter(epoch: int) -> None:
        nonlocal now
        now = epoch

    def images_of(indices: Tensor) -> Tensor:
        device = next(model.parameters()).device
        return training_images(
            dataset, indices, variation=variation, epoch=now, seed=config.seed, device=device
        )

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores: Tensor = network(x)
        smoothed = functional.cross_entropy(scores, y, label_smoothing=label_smoothing)
        return smoothed, scores

    def validate() -> float:
        assert held_out is not None and held_out.labels is not None
        parts = torch.split(torch.arange(len(held_out.labels)), 256)
        classes = [evaluate_ann(model, dataset.normalised("validation", part)) for part in parts]
        return (torch.cat(classes) == held_out.labels).double().mean().item()

    validation = None
    if held_out is not None and held_out.labels is not None:
        some = held_out.images[spread(len(held_out.labels))]
        validation = fingerprint({"images": some, "labels": held_out.labels})
    # convolutions are up to twice as fast where the channels of a place lie side by side
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    try:
        return fit(
            model,
            images_of,
            dataset.train.labels,
            config,
            loss,
            purpose={
                "data": [dataset.name, list(dataset.mean), list(dataset.std)],
                "augmentation": [dataset.augmentation, variation.recipe()],
                "label smoothing": label_smoothing,
                "validation": validation,
            },
            state_path=state_path,
            quiet=quiet,
            on_epoch=enter,
            validate=validate if validation else None,
        )
    finally:
        model.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


@torch.no_grad()
def evaluate_ann(model: nn.Module, images: Samples, batch_size: int = 256) -> Tensor:
    """Class of every image, int64 on the CPU, shape (images,).

    Args:
        model: network to run, in eval mode, on whatever device it is.
        images: float32, normalised, shape (images, *input_shape).
        batch_size: images run at once.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    parts = (images[k : k + batch_size] for k in range(0, len(images), batch_size))
    classes = [model(part.to(device)).argmax(1).cpu() for part in parts]
    model.train(training)
    return torch.cat(classes) if classes else torch.zeros(0, dtype=torch.int64)
