"""IDX files, as MNIST and Fashion-MNIST are published (yann.lecun.com/exdb/mnist)."""

import math
import struct
from pathlib import Path

import numpy as np

from spikeship.training.data.data_set import DataError
from spikeship.training.data.readers.files import Array, Arrays, content, folder_of


def read_idx_set(name: str, data_dir: Path) -> tuple[Arrays, Arrays]:
    """Read the four files, gzipped or not; images are padded with black to 32 x 32.

    Raises:
        DataError: a file that is missing or damaged.
    """
    folder = folder_of(name, data_dir, name, "train-images-idx3-ubyte")
    train, test = (
        (
            np.pad(_idx(name, folder / f"{part}-images-idx3-ubyte", 3), ((0, 0), (2, 2), (2, 2))),
            _idx(name, folder / f"{part}-labels-idx1-ubyte", 1),
        )
        for part in ("train", "t10k")
    )
    return train, test


def _idx(name: str, path: Path, axes: int) -> Array:
    """Read an IDX file: 0, 0, 8 (bytes), number of axes, their sizes (big-endian), the bytes."""
    file = content(name, path)
    start = 4 + 4 * axes
    if len(file) < start or file[:4] != bytes((0, 0, 8, axes)):
        raise DataError(f"{name}: {path.name} is no IDX file of {axes} axes; get it again")
    shape = struct.unpack(f">{axes}I", file[4:start])
    if len(file) - start != math.prod(shape) or shape[1:] not in ((), (28, 28)):
        raise DataError(
            f"{name}: {path.name} says shape {shape} and holds {len(file) - start} bytes, "
            "where (images, 28, 28) or (images,) and as many bytes belong; get it again"
        )
    return np.frombuffer(file, np.uint8, offset=start).reshape(shape)
