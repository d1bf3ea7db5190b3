"""Image sets by name, read from their publishers' files; nothing is ever downloaded."""

import os
from collections.abc import Callable
from pathlib import Path

from spikeship.training.data.data_set import (
    Augmentation,
    DataError,
    DataSet,
    Samples,
    Split,
    SplitName,
    with_validation,
)
from spikeship.training.data.readers import arrays, cifar, digits, events, idx, image_folder
from spikeship.training.data.readers.files import Arrays

__all__ = ["DataError", "DataSet", "Samples", "Split", "SplitName", "load", "with_validation"]

VARIABLE = "SPIKESHIP_DATA"


def load(name: str, data_dir: Path | None = None, *, messages: bool = False) -> DataSet:
    """Read a set.

    - ``digits``: scikit-learn's handwritten digits, 8 x 8, 500 of them held out.
    - ``mnist``, ``fashion-mnist``: the four IDX files, gzipped or not, in the folder or in its
      subfolder of that name, padded with black to 32 x 32.
    - ``cifar10``, ``cifar100`` (its 100 fine classes): the binary versions, in the folder or in
      its cifar-10-batches-bin or cifar-100-binary.
    - ``imagefolder``: the folder's own train/ and val/, JPEG or PNG in a folder for each class;
      the middle 224 x 224 of a picture whose short side is scaled to 256, normalised with
      ImageNet's published mean and std, read when asked for.
    - ``n-mnist``, ``n-mnist:T``: an event camera's recordings, in the folder or in its N-MNIST,
      n-mnist or n-mnist-small, as messages of T steps (20 by default).
    - ``npz:FILE``: arrays x_train, y_train, x_test, y_test, of which any may be missing; images
      (N, C, H, W), (N, H, W) or (N, features), floats as they are, uint8 divided by 255, or
      messages: int8, or with T after N and before C.
    - ``package.module:function``: a user's own, which returns a DataSet or a dict of such arrays.

    Args:
        name: one of these names.
        data_dir: the folder; None for the one that the variable SPIKESHIP_DATA names.
        messages: take all arrays for messages, as a network does whose encoding is ``spikes``.

    Raises:
        DataError: an unknown name, or files that are missing or damaged.
    """
    if name.startswith("npz:"):
        return arrays.read_npz(name, messages)
    if name == "digits":
        return arrays.published(name, *digits.read_digits(), 10, "none")
    kind = "n-mnist" if name.startswith("n-mnist:") else name
    if kind not in SETS:
        if ":" in name:
            return arrays.call_own(name, messages)
        known = ", ".join(["digits", *sorted(SETS), "npz:FILE", "package.module:function"])
        raise DataError(f"data set {name!r} is not known; use one of {known}")
    if data_dir is None:
        if not os.environ.get(VARIABLE):
            raise DataError(f"{name}: no folder given; name it with --data-dir or ${VARIABLE}")
        data_dir = Path(os.environ[VARIABLE])
    return SETS[kind](name, data_dir)


def _published(
    read: Callable[[str, Path], tuple[Arrays, Arrays]], classes: int, augmentation: Augmentation
) -> Callable[[str, Path], DataSet]:
    return lambda name, folder: arrays.published(name, *read(name, folder), classes, augmentation)


# read from a folder, by name; a new set is a file in readers/ and a row
SETS: dict[str, Callable[[str, Path], DataSet]] = {
    "mnist": _published(idx.read_idx_set, 10, "none"),
    "fashion-mnist": _published(idx.read_idx_set, 10, "none"),
    "cifar10": _published(cifar.read_cifar10, 10, "shift-flip"),
    "cifar100": _published(cifar.read_cifar100, 100, "shift-flip"),
    "imagefolder": image_folder.read_image_folder,
    "n-mnist": events.read_n_mnist,
}
