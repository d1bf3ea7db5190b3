"""Image sets by name, read from their publishers' files; nothing is ever downloaded."""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

VARIABLE = "SPIKESHIP_DATA"
SplitName = Literal["train", "test"]
_Array = npt.NDArray[Any]
_Arrays = tuple[_Array, _Array]


class DataError(ValueError):
    """A set that cannot be read, in one line: which, why, and what to do."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images of one split.

    Attributes:
        images: uint8 (0..255) or float32, shape (images, channel, height, width) or
            (images, features).
        labels: class of every image, int64, shape (images,), or None where nobody said.
    """

    images: Tensor
    labels: Tensor | None


@dataclass(frozen=True, eq=False)
class DataSet:
    """A set of images.

    Attributes:
        name: the name it was loaded by.
        train: training images, or None.
        test: held-out images, or None.
        classes: number of classes; 0 where there are no labels.
        mean: of each channel over the training images, after scaling to 0..1.
        std: likewise the standard deviation.
    """

    name: str
    train: Split | None
    test: Split | None
    classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def split(self, name: SplitName) -> Split:
        """Return a split.

        Raises:
            DataError: the set has no such split.
        """
        split = self.train if name == "train" else self.test
        if split is None:
            raise DataError(f"{self.name}: has no {name} images; add x_{name} and y_{name} to it")
        return split

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        split = self.train or self.test
        assert split is not None  # load() refuses a set without images
        return tuple(split.images.shape[1:])

    def normalised(
        self,
        split: SplitName,
        indices: Tensor | slice | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> Tensor:
        """Images as a network takes them: (image - mean) / std, uint8 divided by 255 first.

        Args:
            split: ``"train"`` or ``"test"``.
            indices: which images (int64 tensor or slice); None for all.
            mean: of each channel, as stored with a network; None for the set's own.
            std: likewise.

        Returns:
            A new float32 tensor, shape (images, *input_shape).

        Raises:
            DataError: no such split, or ``mean`` and ``std`` for another number of channels.
        """
        images = self.split(split).images
        if indices is not None:
            images = images[indices]
        values = images.to(torch.float32, copy=True)
        if images.dtype == torch.uint8:
            values /= 255
        # flat images are normalised as one channel
        channels = values.shape[1] if values.ndim == 4 else 1
        mean, std = (self.mean if mean is None else mean), (self.std if std is None else std)
        if len(mean) != channels or len(std) != channels:
            raise DataError(
                f"{self.name}: mean and std are given for {len(mean)} and {len(std)} channels, "
                f"its images have {channels}; use a network made for such images"
            )
        axes = (1, -1, 1, 1) if values.ndim == 4 else (1, 1)
        values -= torch.tensor(mean, dtype=torch.float32).reshape(axes)
        values /= torch.tensor(std, dtype=torch.float32).reshape(axes)
        return values


def load(name: str, data_dir: Path | None = None) -> DataSet:
    """Read a set.

    ``digits`` is scikit-learn's handwritten digits, 8 x 8 with 17 grey levels, which become
    0..255: of each class 50 images, evenly spread over the file, are held out (500), the other
    1,297 are for training. ``mnist`` and ``fashion-mnist`` are the four IDX files, gzipped or
    not, in the folder or in its subfolder of that name, padded with black to 32 x 32.
    ``cifar10`` is the binary version, in the folder or in its ``cifar-10-batches-bin``.
    ``npz:FILE`` holds arrays x_train, y_train, x_test, y_test, of which any may be missing:
    floats are taken as they are, uint8 is divided by 255, and neither is normalised; images are
    (N, C, H, W), (N, H, W) or (N, features).

    Args:
        name: one of these names.
        data_dir: the folder; None for the one that the variable SPIKESHIP_DATA names.

    Raises:
        DataError: an unknown name, or files that are missing or damaged.
    """
    if name.startswith("npz:"):
        return _npz(name)
    if name == "digits":
        return _with_statistics(name, *_digits())
    if name not in _READERS:
        known = ", ".join(["digits", *sorted(_READERS), "npz:FILE"])
        raise DataError(f"data set {name!r} is not known; use one of {known}")
    if data_dir is None:
        if not os.environ.get(VARIABLE):
            raise DataError(f"{name}: no folder given; name it with --data-dir or ${VARIABLE}")
        data_dir = Path(os.environ[VARIABLE])
    return _with_statistics(name, *_READERS[name](name, data_dir))


def _with_statistics(name: str, train: _Arrays, test: _Arrays) -> DataSet:
    splits = [
        _split(name, part, *arrays, 10) for part, arrays in (("train", train), ("test", test))
    ]
    images = splits[0].images
    # counting the 256 levels is exact and needs no float copy of the set
    channels = images.transpose(0, 1).reshape(images.shape[1], -1)
    counts = torch.stack([torch.bincount(channel, minlength=256) for channel in channels])
    share = counts.double() / counts.sum(1, keepdim=True)
    levels = torch.arange(256, dtype=torch.float64) / 255
    mean = (share * levels).sum(1)
    std = (share * (levels - mean[:, None]) ** 2).sum(1).sqrt()
    if not (std > 0).all():
        raise DataError(f"{name}: all training images are alike; get the files again")
    return DataSet(name, splits[0], splits[1], 10, tuple(mean.tolist()), tuple(std.tolist()))


def _split(name: str, part: str, images: _Array, labels: _Array | None, classes: int) -> Split:
    """Check arrays that belong together and turn them into tensors."""
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
    pixels = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    if labels is None:
        return Split(pixels, None)
    where = f"{name}: y_{part}"
    if labels.dtype.kind not in "iu" or labels.shape != (len(images),):
        raise DataError(
            f"{where} is {labels.dtype} of shape {labels.shape}; give one whole number for each "
            f"of the {len(images)} images"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise DataError(
            f"{where} holds labels {labels.min()}..{labels.max()}; they must lie in "
            f"0..{classes - 1}, get or make the file again"
        )
    return Split(pixels, torch.from_numpy(labels.astype(np.int64)))


def _digits() -> tuple[_Arrays, _Arrays]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    held_out = np.zeros(len(labels), dtype=bool)
    for digit in range(10):
        places = np.flatnonzero(labels == digit)
        held_out[places[np.arange(50) * len(places) // 50]] = True
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


def _idx_set(name: str, data_dir: Path) -> tuple[_Arrays, _Arrays]:
    folder = _folder(name, data_dir, name, "train-images-idx3-ubyte")
    train, test = (
        (
            np.pad(_idx(name, folder / f"{part}-images-idx3-ubyte", 3), ((0, 0), (2, 2), (2, 2))),
            _idx(name, folder / f"{part}-labels-idx1-ubyte", 1),
        )
        for part in ("train", "t10k")
    )
    return train, test


def _idx(name: str, path: Path, axes: int) -> _Array:
    """Read an IDX file: 0, 0, 8 (bytes), number of axes, their sizes (big-endian), the bytes."""
    content = _content(name, path)
    start = 4 + 4 * axes
    if len(content) < start or content[:4] != bytes((0, 0, 8, axes)):
        raise DataError(f"{name}: {path.name} is no IDX file of {axes} axes; get it again")
    shape = struct.unpack(f">{axes}I", content[4:start])
    if len(content) - start != math.prod(shape) or shape[1:] not in ((), (28, 28)):
        raise DataError(
            f"{name}: {path.name} says shape {shape} and holds {len(content) - start} bytes, "
            "where (images, 28, 28) or (images,) and as many bytes belong; get it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _cifar10(name: str, data_dir: Path) -> tuple[_Arrays, _Arrays]:
    folder = _folder(name, data_dir, "cifar-10-batches-bin", "data_batch_1.bin")
    batches = []
    for file in (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"):
        content = _content(name, folder / file)
        # a record is a label and three planes of 32 x 32
        if not content or len(content) % 3073:
            raise DataError(
                f"{name}: {file} holds {len(content)} bytes, not whole records of 3073; "
                "get it again"
            )
        batches.append(np.frombuffer(content, np.uint8).reshape(-1, 3073))
    train, test = (
        (records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0])
        for records in (np.concatenate(batches[:5]), batches[5])
    )
    return train, test


def _npz(name: str) -> DataSet:
    path = Path(name.removeprefix("npz:"))
    try:
        # NumPy itself leaves a damaged file open
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            found = {key: file[key] for key in _NPZ_KEYS if key in file}
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such file; check the path") from error
    # damage can show in any part of the decoders
    except Exception as error:
        raise DataError(
            f"{name}: not a readable .npz of plain arrays; make it again with numpy.savez"
        ) from error
    labels = [found[key] for key in ("y_train", "y_test") if key in found]
    classes = max((int(y.max()) + 1 for y in labels if y.dtype.kind in "iu" and y.size), default=0)
    splits = {
        part: _split(name, part, found[f"x_{part}"], found.get(f"y_{part}"), classes)
        for part in ("train", "test")
        if f"x_{part}" in found
    }
    if not splits:
        raise DataError(f"{name}: holds neither x_train nor x_test; save images under these names")
    shapes = {split.images.shape[1:] for split in splits.values()}
    if len(shapes) > 1:
        raise DataError(
            f"{name}: x_train and x_test differ in the shape of an image; make them alike"
        )
    (shape,) = shapes
    channels = shape[0] if len(shape) == 3 else 1
    return DataSet(
        name, splits.get("train"), splits.get("test"), classes, (0.0,) * channels, (1.0,) * channels
    )


def _folder(name: str, data_dir: Path, subfolder: str, first: str) -> Path:
    for folder in (data_dir / subfolder, data_dir):
        if (folder / first).is_file() or (folder / f"{first}.gz").is_file():
            return folder
    raise DataError(
        f"{name}: {first} is neither in {data_dir / subfolder} nor in {data_dir}; put the "
        "publisher's files there, or name another folder"
    )


def _content(name: str, path: Path) -> bytes:
    """All bytes of a file or, where there is none, of its gzipped form."""
    try:
        if path.is_file():
            return path.read_bytes()
        with gzip.open(path.with_name(f"{path.name}.gz")) as file:
            return file.read()
    except FileNotFoundError as error:
        raise DataError(f"{name}: {path} is missing; put the publisher's file there") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: {path.name} is damaged ({error}); get it again") from error


_NPZ_KEYS = ("x_train", "y_train", "x_test", "y_test")
_READERS: dict[str, Callable[[str, Path], tuple[_Arrays, _Arrays]]] = {
    "mnist": _idx_set,
    "fashion-mnist": _idx_set,
    "cifar10": _cifar10,
}
