"""What a set of images or of events is: its splits, its statistics, and how a network takes it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from spikeship.hw_models.errors import SpikeshipError

SplitName = Literal["train", "validation", "test"]
Augmentation = Literal["none", "shift-flip", "resized-crop"]


class DataError(SpikeshipError, ValueError):
    """A set that cannot be read, in one line: which, why, and what to do."""


class Samples(Protocol):
    """Images or messages by index: a tensor, or files that are read only when asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all of them, the number of samples first."""

    def __len__(self) -> int: ...

    def __getitem__(self, indices: Tensor | slice, /) -> Tensor:
        """Those of int64 indices, or of a slice, as a tensor."""


@dataclass(frozen=True, eq=False)
class Chosen:
    """Some of other samples, which are read only when asked for.

    Attributes:
        samples: all of them.
        places: which, int64, shape (samples,).
    """

    samples: Samples
    places: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """As of all samples."""
        return (len(self.places), *self.samples.shape[1:])

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, indices: Tensor | slice, /) -> Tensor:
        return self.samples[self.places[indices]]


@dataclass(frozen=True, eq=False)
class Normalised:
    """Samples as an ANN takes them, worked out when asked for.

    Attributes:
        samples: images, or messages.
        mean: of each channel.
        std: likewise.
        over_time: whether the samples are messages, whose mean over time is what an ANN takes.
    """

    samples: Samples
    mean: tuple[float, ...]
    std: tuple[float, ...]
    over_time: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the images; that of messages without their time."""
        count, *rest = self.samples.shape
        return (count, *rest[self.over_time :])

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, indices: Tensor | slice, /) -> Tensor:
        return self.apply(self.samples[indices])

    def apply(self, raw: Tensor) -> Tensor:
        """Normalise samples that are already read: a new float32 tensor."""
        values = raw.to(torch.float32, copy=True)
        if raw.dtype == torch.uint8:
            values /= 255
        if self.over_time:
            values = values.mean(1)
        # flat images are normalised as one channel
        axes = (1, -1, 1, 1) if values.ndim == 4 else (1, 1)
        values -= torch.tensor(self.mean, device=values.device).reshape(axes)
        values /= torch.tensor(self.std, device=values.device).reshape(axes)
        return values


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split, or messages where the set consists of these.

    Attributes:
        images: uint8 (0..255) or float32, shape (images, channel, height, width) or
            (images, features); messages are int8, with T after the images.
        labels: class of every image, int64, shape (images,), or None without labels.
    """

    images: Samples
    labels: Tensor | None

    def take(self, which: Tensor | slice) -> "Split":
        """Return some of the split (int64 indices or a slice); files stay unread."""
        images: Samples
        if isinstance(self.images, Tensor):
            images = self.images[which]
        else:
            images = Chosen(self.images, torch.arange(len(self.images))[which])
        return Split(images, None if self.labels is None else self.labels[which])


@dataclass(frozen=True, eq=False)
class DataSet:
    """A set of images, or of messages: spikes as an event camera gives them, step by step.

    Attributes:
        name: the name it was loaded by.
        train: training images, or None.
        test: held-out images, or None.
        classes: number of classes; 0 where there are no labels.
        mean: of each channel over the training images, after scaling to 0..1.
        std: standard deviation, in the same form.
        validation: images to choose a model by, or None; see ``with_validation``.
        num_steps: T of the messages; None for images.
        augmentation: how ``augment.training_images`` varies the training images.
    """

    name: str
    train: Split | None
    test: Split | None
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: Split | None = None
    num_steps: int | None = None
    augmentation: Augmentation = "none"

    def __repr__(self) -> str:
        parts = [
            f"{len(split.images):,} {name}"
            for name, split in (
                ("training", self.train),
                ("validation", self.validation),
                ("test", self.test),
            )
            if split is not None
        ]
        return (
            f"<DataSet {self.name}: {' and '.join(parts)} images of {self.input_shape}, "
            f"{self.classes} classes>"
        )

    def split(self, name: SplitName) -> Split:
        """Return a split.

        Raises:
            DataError: the set has no such split.
        """
        split = {"train": self.train, "validation": self.validation, "test": self.test}[name]
        if split is None:
            fix = "call with_validation" if name == "validation" else f"add x_{name} and y_{name}"
            raise DataError(f"{self.name}: has no {name} images; {fix}")
        return split

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, or of the messages of one step."""
        split = self.train or self.test
        assert split is not None  # load() refuses a set without images
        return tuple(split.images.shape[1 if self.num_steps is None else 2 :])

    def as_images(
        self,
        split: SplitName,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Normalised:
        """Images as a network takes them, worked out when asked for: (image - mean) / std.

        uint8 is divided by 255 first. Of messages it is their mean over time (the rate, which is
        what an ANN that is to become a spiking network trains on), with mean 0 and std 1.

        Args:
            split: ``"train"``, ``"validation"`` or ``"test"``.
            mean: of each channel, as stored with a network; None for the set's own.
            std: likewise.

        Raises:
            DataError: no such split, or ``mean`` and ``std`` for another number of channels.
        """
        channels = self.input_shape[0] if len(self.input_shape) == 3 else 1
        mean, std = (self.mean if mean is None else mean), (self.std if std is None else std)
        if len(mean) != channels or len(std) != channels:
            raise DataError(
                f"{self.name}: mean and std are given for {len(mean)} and {len(std)} channels, "
                f"its images have {channels}; use a network made for such images"
            )
        over_time = self.num_steps is not None
        return Normalised(self.split(split).images, tuple(mean), tuple(std), over_time)

    def normalised(
        self,
        split: SplitName,
        indices: Tensor | slice | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Tensor:
        """Those of ``as_images`` at int64 ``indices`` or a slice, None for all.

        Returns:
            A new float32 tensor, shape (images, *input_shape).

        Raises:
            DataError: as ``as_images``, or a file that cannot be read.
        """
        return self.as_images(split, mean, std)[slice(None) if indices is None else indices]


def with_validation(dataset: DataSet, images: int, seed: int) -> DataSet:
    """Move training images to ``validation``, as many of each class as can be.

    The same images for the same seed. The set's mean and std stay those of all training images,
    which networks are stored with.

    Args:
        dataset: needs labelled training images.
        images: how many to move, in all.
        seed: which ones.

    Raises:
        DataError: no labels, or a class that would lose all its images.
    """
    train = dataset.split("train")
    if train.labels is None:
        raise DataError(f"{dataset.name}: its training images have no labels; give y_train")
    labels = train.labels.numpy()
    classes = np.unique(labels)
    if images < len(classes):
        raise DataError(
            f"{dataset.name}: {images} images for validation are fewer than its {len(classes)} "
            "classes; move at least one of each"
        )
    random = np.random.default_rng(seed)
    share, more = divmod(images, len(classes))
    counts = dict.fromkeys(classes.tolist(), share)
    for label in random.permutation(classes)[:more].tolist():
        counts[label] += 1
    moved = np.zeros(len(labels), dtype=bool)
    for label, count in counts.items():
        places = np.flatnonzero(labels == label)
        if count >= len(places):
            raise DataError(
                f"{dataset.name}: class {label} has {len(places)} training images, {count} for "
                "validation leave none; move fewer"
            )
        moved[random.permutation(places)[:count]] = True
    stay, move = (torch.from_numpy(np.flatnonzero(which)) for which in (~moved, moved))
    return replace(dataset, train=train.take(stay), validation=train.take(move))
