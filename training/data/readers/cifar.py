"""CIFAR-10 and CIFAR-100 in their binary versions (cs.toronto.edu/~kriz/cifar.html)."""

from pathlib import Path

import numpy as np

from spikeship.training.data.data_set import DataError
from spikeship.training.data.readers.files import Array, Arrays, content, folder_of

PIXELS = 3 * 32 * 32  # three planes


def read_cifar10(name: str, data_dir: Path) -> tuple[Arrays, Arrays]:
    """Read five batches and the test batch; a record is the label and the planes.

    Raises:
        DataError: a file that is missing or damaged.
    """
    folder = folder_of(name, data_dir, "cifar-10-batches-bin", "data_batch_1.bin")
    batches = [
        _records(name, folder / f"{file}.bin", 1)
        for file in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
    ]
    return _arrays(np.concatenate(batches[:5])), _arrays(batches[5])


def read_cifar100(name: str, data_dir: Path) -> tuple[Arrays, Arrays]:
    """Read both files; a record is the coarse label, the fine one (which is taken), the planes.

    Raises:
        DataError: a file that is missing or damaged.
    """
    folder = folder_of(name, data_dir, "cifar-100-binary", "train.bin")
    train, test = (_arrays(_records(name, folder / f"{part}.bin", 2)) for part in ("train", "test"))
    return train, test


def _records(name: str, path: Path, labels: int) -> Array:
    file, size = content(name, path), labels + PIXELS
    if not file or len(file) % size:
        raise DataError(
            f"{name}: {path.name} holds {len(file)} bytes, not whole records of {size}; "
            "get it again"
        )
    return np.frombuffer(file, np.uint8).reshape(-1, size)


def _arrays(records: Array) -> Arrays:
    # the label that stands right before the pixels
    return records[:, -PIXELS:].reshape(-1, 3, 32, 32), records[:, -PIXELS - 1]
