"""A folder of pictures: train/ and val/, in each a folder for every class (ImageNet's layout).

A picture is read when it is asked for, so a set may be far larger than memory.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain, zip_longest
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spikeship.hw_models.errors import reason
from spikeship.training.data.data_set import DataError, DataSet, Split
from spikeship.training.data.readers.files import Array
from spikeship.training.data.readers.pictures import open_picture

SIDE = 224
SHORT_SIDE = 256  # of the whole picture that the middle is cut from
ENDINGS = (".jpeg", ".jpg", ".png")
# of ImageNet's training images, as torchvision's documentation gives them for its models; for
# other pictures they are as good a normalisation, and need no pass over the files
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# Szegedy et al., "Going Deeper with Convolutions", CVPR 2015: a crop's share of the area and the
# ratio of its sides
AREA = (0.08, 1.0)
RATIO = (3 / 4, 4 / 3)

_Cut = Callable[[Image.Image], Image.Image]  # to 224 x 224


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures on disk as uint8 (pictures, 3, 224, 224): scaled, and the middle cut out.

    Attributes:
        name: of the set, for errors.
        paths: one a picture.
    """

    name: str
    paths: Sequence[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all of them."""
        return (len(self), 3, SIDE, SIDE)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, indices: Tensor | slice, /) -> Tensor:
        places = torch.arange(len(self))[indices].tolist()
        return self._all_of(places, [_middle] * len(places))

    def crops(self, indices: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Random parts of pictures, scaled to 224 x 224, to train on; see ``AREA`` and ``RATIO``.

        A part that would leave its picture is cut off at the picture's sides.

        Args:
            indices: which, int64.
            generator: of the CPU; by default torch's own.
        """
        draws = torch.rand(len(indices), 4, generator=generator).tolist()
        return self._all_of(indices.tolist(), [partial(_part, drawn=drawn) for drawn in draws])

    def _all_of(self, places: Sequence[int], cuts: Sequence[_Cut]) -> Tensor:
        """Read pictures side by side (Pillow decodes outside Python's lock)."""
        if not places:
            return torch.zeros((0, *self.shape[1:]), dtype=torch.uint8)
        with ThreadPoolExecutor(min(len(places), os.cpu_count() or 1)) as pool:
            return torch.from_numpy(np.stack(list(pool.map(self._read, places, cuts))))

    def _read(self, place: int, cut: _Cut) -> Array:
        path = self.paths[place]
        try:
            with open_picture(Path(path)) as picture:
                whole = picture.convert("RGB")
        except Exception as error:  # damaged files make Pillow raise many kinds
            raise DataError(
                f"{self.name}: {path} is not a picture Pillow can read ({reason(error)}); "
                "get it again or take it away"
            ) from error
        return np.asarray(cut(whole)).transpose(2, 0, 1)


def read_image_folder(name: str, data_dir: Path) -> DataSet:
    """Read the names of the pictures in train/ and val/; either may be missing.

    Classes are the folders' names in alphabetical order. Pictures come from each class in turn,
    so that the first few are of all classes.

    Raises:
        DataError: no pictures, or a class in val/ that train/ lacks.
    """
    folders = {part: data_dir / part for part in ("train", "val") if (data_dir / part).is_dir()}
    if not folders:
        raise DataError(f"{name}: neither train nor val is in {data_dir}; name the folder of both")
    classes = sorted(
        entry.name for entry in next(iter(folders.values())).iterdir() if entry.is_dir()
    )
    splits = {part: _split(name, folder, classes) for part, folder in folders.items()}
    return DataSet(
        name,
        splits.get("train"),
        splits.get("val"),
        len(classes),
        MEAN,
        STD,
        augmentation="resized-crop",
    )


def _split(name: str, folder: Path, classes: Sequence[str]) -> Split:
    own = {entry.name for entry in folder.iterdir() if entry.is_dir()}
    strange = sorted(own.difference(classes))
    if strange:
        raise DataError(f"{name}: class {strange[0]!r} of {folder} is not in train; add it there")
    by_class = []
    for label, kind in enumerate(classes):
        names = sorted(os.listdir(folder / kind)) if kind in own else []
        by_class.append(
            [
                (str(folder / kind / file), label)
                for file in names
                if file.lower().endswith(ENDINGS) and not file.startswith(".")
            ]
        )
    found = [pair for pair in chain.from_iterable(zip_longest(*by_class)) if pair is not None]
    if not found:
        raise DataError(
            f"{name}: {folder} holds no CLASS/*.jpg, .jpeg or .png; put each class in a folder"
        )
    labels = torch.tensor([label for _, label in found])
    return Split(Pictures(name, [path for path, _ in found]), labels)


def _middle(picture: Image.Image) -> Image.Image:
    """The middle of a picture, scaled and cut as ImageNet's classifiers are evaluated."""
    width, height = (SHORT_SIDE * side // min(picture.size) for side in picture.size)
    scaled = picture.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - SIDE) / 2), round((height - SIDE) / 2)
    return scaled.crop((left, top, left + SIDE, top + SIDE))


def _part(picture: Image.Image, drawn: Sequence[float]) -> Image.Image:
    """A random part, from four draws of 0..1: its area, ratio, and place in both directions."""
    width, height = picture.size
    area = width * height * (AREA[0] + drawn[0] * (AREA[1] - AREA[0]))
    # even in the logarithm, so that high and wide parts are as likely
    ratio = RATIO[0] * (RATIO[1] / RATIO[0]) ** drawn[1]
    wide, high = min(width, (area * ratio) ** 0.5), min(height, (area / ratio) ** 0.5)
    left, top = drawn[2] * (width - wide), drawn[3] * (height - high)
    box = (left, top, min(width, left + wide), min(height, top + high))
    return picture.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box)
