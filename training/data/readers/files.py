"""Finding and reading a publisher's files; errors in one line."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from spikeship.training.data.data_set import DataError

Array = npt.NDArray[Any]
Arrays = tuple[Array, Array]  # images and labels


def folder_of(name: str, data_dir: Path, subfolder: str, first: str) -> Path:
    """The folder that holds the file ``first``, gzipped or not: the subfolder, or the folder.

    Raises:
        DataError: neither does.
    """
    for folder in (data_dir / subfolder, data_dir):
        if (folder / first).is_file() or (folder / f"{first}.gz").is_file():
            return folder
    raise DataError(
        f"{name}: {first} is neither in {data_dir / subfolder} nor in {data_dir}; put the "
        "publisher's files there, or name another folder"
    )


def content(name: str, path: Path) -> bytes:
    """All bytes of a file or, where there is none, of its gzipped form.

    Raises:
        DataError: neither is there, or it is damaged.
    """
    try:
        if path.is_file():
            return path.read_bytes()
        with gzip.open(path.with_name(f"{path.name}.gz")) as file:
            return file.read()
    except FileNotFoundError as error:
        raise DataError(f"{name}: {path} is missing; put the publisher's file there") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: {path.name} is damaged ({error}); get it again") from error


def npz(name: str, path: Path, keys: tuple[str, ...]) -> dict[str, Array]:
    """Those of the named arrays that an ``.npz`` file holds.

    Raises:
        DataError: no such file, or none of plain arrays.
    """
    try:
        # NumPy itself leaves a damaged file open
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {key: file[key] for key in keys if key in file}
    except FileNotFoundError as error:
        raise DataError(f"{name}: there is no such file; check the path") from error
    # damage can show in any part of the decoders
    except Exception as error:
        raise DataError(
            f"{name}: not a readable .npz of plain arrays; make it again with numpy.savez"
        ) from error
