"""Arrays that a publisher's reader, an .npz file or a user's own function gives, as a set."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikeship.hw_models.graph.checks import MAX_MESSAGE
from spikeship.training.data import own_code
from spikeship.training.data.data_set import Augmentation, DataError, DataSet, Split
from spikeship.training.data.readers.files import Array, Arrays, npz

KEYS = ("x_train", "y_train", "x_test", "y_test")


def published(
    name: str, train: Arrays, test: Arrays, classes: int, augmentation: Augmentation
) -> DataSet:
    """Make a set of uint8 images, with the mean and std of the training images.

    Raises:
        DataError: labels or images that no such set has.
    """
    first, held_out = (
        _split(name, part, images, labels, classes)
        for part, (images, labels) in (("train", train), ("test", test))
    )
    images = first.images[:]
    # counting the 256 levels is exact and needs no float copy of the set
    channels = images.transpose(0, 1).reshape(images.shape[1], -1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
    share = counts.double() / counts.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = (share * levels).sum(1)
    std = (share * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    if not (std > 0).all():
        raise DataError(f"{name}: all training images are alike; get the files again")
    return DataSet(
        name,
        first,
        held_out,
        classes,
        tuple(mean.tolist()),
        tuple(std.tolist()),
        augmentation=augmentation,
    )


def read_npz(name: str, messages: bool) -> DataSet:
    """Read ``npz:FILE``; see :func:`from_arrays`.

    Raises:
        DataError: no such file, a damaged one, or arrays that make no set.
    """
    return from_arrays(name, npz(name, Path(name.removeprefix("npz:")), KEYS), messages)


def call_own(name: str, messages: bool) -> DataSet:
    """Call a user's ``package.module:function``, which returns a DataSet or a dict of arrays.

    Raises:
        DataError: the function cannot be called, or returns something else.
    """
    made = own_code.call(name, DataError)
    if isinstance(made, DataSet):
        if made.train is None and made.test is None:
            raise DataError(f"{name}: returned a DataSet without images; give it train or test")
        return replace(made, name=name)
    if isinstance(made, Mapping):
        arrays = {
            key: value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
            for key, value in made.items()
            if key in KEYS and value is not None
        }
        return from_arrays(name, arrays, messages)
    raise DataError(
        f"{name}: returned {type(made).__name__}; return a DataSet, or a dict of arrays "
        f"{', '.join(KEYS)}"
    )


def from_arrays(name: str, arrays: Mapping[str, Array], messages: bool) -> DataSet:
    """Make a set of arrays x_train, y_train, x_test, y_test, of which any may be missing.

    Floats are taken as they are, uint8 is divided by 255, and neither is normalised. Arrays of
    int8 or of five axes are messages (images, T, …) already, as are all where ``messages`` says
    so.

    Raises:
        DataError: arrays that make no set.
    """
    found = {part: arrays[f"x_{part}"] for part in ("train", "test") if f"x_{part}" in arrays}
    if not found:
        raise DataError(f"{name}: holds neither x_train nor x_test; save images under these names")
    labels = [arrays[key] for key in ("y_train", "y_test") if key in arrays]
    classes = max((int(y.max()) + 1 for y in labels if y.dtype.kind in "iu" and y.size), default=0)
    messages = messages or any(x.dtype == np.int8 or x.ndim == 5 for x in found.values())
    make = _message_split if messages else _split
    splits = {
        part: make(name, part, images, arrays.get(f"y_{part}"), classes)
        for part, images in found.items()
    }
    shapes = {split.images.shape[1:] for split in splits.values()}
    if len(shapes) > 1:
        raise DataError(
            f"{name}: x_train and x_test differ in the shape of an image; make them alike"
        )
    (shape,) = shapes
    num_steps, shape = (shape[0], shape[1:]) if messages else (None, shape)
    channels = shape[0] if len(shape) == 3 else 1
    mean, std = (0.0,) * channels, (1.0,) * channels
    return DataSet(
        name, splits.get("train"), splits.get("test"), classes, mean, std, num_steps=num_steps
    )


def _split(name: str, part: str, images: Array, labels: Array | None, classes: int) -> Split:
    """Check images and labels that belong together and turn them into tensors."""
    where = f"{name}: x_{part}"
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim not in (2, 4) or 0 in images.shape:
        raise DataError(f"{where} has shape {images.shape}; give (N, C, H, W), (N, H, W) or (N, F)")
    if images.dtype.kind == "f":
        images = images.astype(np.float32)
        if not np.isfinite(images).all():
            raise DataError(f"{where} holds values that are not finite; remove them")
    elif images.dtype != np.uint8:
        raise DataError(f"{where} is {images.dtype}; give floats, or uint8 for 0..255")
    return Split(_tensor(images), _labels(name, part, labels, len(images), classes))


def _message_split(
    name: str, part: str, messages: Array, labels: Array | None, classes: int
) -> Split:
    """Check messages and labels that belong together and turn them into tensors."""
    where = f"{name}: x_{part}"
    if messages.ndim == 4:
        messages = messages[:, :, None]
    if messages.ndim not in (3, 5) or 0 in messages.shape:
        raise DataError(
            f"{where} has shape {messages.shape}; give messages (N, T, C, H, W), (N, T, H, W) or "
            "(N, T, F)"
        )
    if messages.dtype.kind not in "fiub" or not np.array_equal(
        messages, np.clip(np.rint(messages), -MAX_MESSAGE, MAX_MESSAGE)
    ):
        raise DataError(
            f"{where} is {messages.dtype} and no messages; give whole numbers of magnitude "
            f"{MAX_MESSAGE} at most"
        )
    small = messages.min() >= -128 and messages.max() <= 127
    held = _tensor(messages.astype(np.int8 if small else np.int16))
    return Split(held, _labels(name, part, labels, len(messages), classes))


def _labels(name: str, part: str, labels: Array | None, images: int, classes: int) -> Tensor | None:
    if labels is None:
        return None
    where = f"{name}: y_{part}"
    if labels.dtype.kind not in "iu" or labels.shape != (images,):
        raise DataError(
            f"{where} is {labels.dtype} of shape {labels.shape}; give one whole number for each "
            f"of the {images} images"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"{where} holds labels {labels.min()}..{labels.max()}; they must lie in "
            f"0..{classes - 1}, get or make the file again"
        )
    return torch.from_numpy(labels.astype(np.int64))


def _tensor(array: Array) -> Tensor:
    return torch.from_numpy(np.require(array, requirements=["C", "W"]))
