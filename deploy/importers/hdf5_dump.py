"""Copies the data of a ``.net`` file (HDF5) to an ``.npz``, in a process of its own.

The HDF5 library can crash on a damaged file, and would take a whole program with it. ``dump`` runs
this file as a script, which may crash alone: ``python hdf5_dump.py NETWORK.net DATA.npz``.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.atomic import scratch
from spikeship.hw_models.errors import InputError, SpikeshipError, reason
from spikeship.training.nir_io.hdf5 import check_contained

GROUPS = ("layer", "simulation")
LIMIT_S = 600.0
_DAMAGED, _NOT_WRITTEN = 1, 3


class DumpError(SpikeshipError, ValueError):
    """A file that the HDF5 library cannot read, in its words or ours."""


def dump(path: Path) -> Mapping[str, NDArray[Any]]:
    """Return every dataset below ``/layer`` and ``/simulation`` by its path.

    Strings are bytes; an empty group is an array of no values under its path and a slash.

    Raises:
        DumpError: not a whole HDF5 file.
    """
    with scratch("net") as folder:
        target = folder / "data.npz"
        command = [sys.executable, __file__, str(path.resolve()), str(target)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise DumpError(f"reading it takes more than {LIMIT_S:g} s") from error
        said = done.stderr.decode(errors="replace").split("\n")[0]
        if done.returncode == _NOT_WRITTEN:
            number = int(said)
            raise OSError(number, os.strerror(number), str(target))
        if done.returncode != 0:
            known = done.returncode == _DAMAGED and said
            raise DumpError(said if known else "the HDF5 library crashed")
        with np.load(target, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}


def read(path: Path) -> dict[str, NDArray[Any]]:
    """What ``dump`` returns, read in this process: it may crash, or raise whatever h5py raises."""
    import h5py

    found: dict[str, NDArray[Any]] = {}

    def keep(name: str, item: Any) -> None:
        if name.split("/")[0] not in GROUPS:
            return
        if not isinstance(item, h5py.Dataset):
            if len(item) == 0:
                found[f"{name}/"] = np.empty(0)
            return
        if item.size is None:
            raise InputError(f"{name} has no shape")
        found[name] = _plain(np.asarray(item[()]))

    check_contained(path)
    with h5py.File(path, "r") as file:
        file.visititems(keep)
    return found


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Strings as bytes; what is neither a string nor a number as an empty string."""
    if values.dtype.kind in "biufS":
        return values
    words = [
        word.encode() if isinstance(word, str) else word if isinstance(word, bytes) else b""
        for word in values.reshape(-1).tolist()
    ]
    return np.array(words, dtype=np.bytes_).reshape(values.shape)


def _main(source: str, target: str) -> int:
    try:
        found = read(Path(source))
    except Exception as error:  # h5py raises many kinds for a damaged file
        print(reason(error), file=sys.stderr)
        return _DAMAGED
    try:
        np.savez(target, **found)  # type: ignore[arg-type]
    except OSError as error:
        print(error.errno, file=sys.stderr)
        return _NOT_WRITTEN
    return 0


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:]))
