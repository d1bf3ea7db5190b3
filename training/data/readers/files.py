"""Finding and reading a publisher's files; errors in one line."""

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy.typing as npt

from spikeship.hw_models.errors import InputError
from spikeship.hw_models.memory import check_claim
from spikeship.training.data.data_set import DataError
from spikeship.training.data.readers.npz import headers, read

Array = npt.NDArray[Any]
Arrays = tuple[Array, Array]  # images and labels
# the largest of a publisher's files has a sixth of it
MOST_BYTES = 2**30
_PART = 2**22


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
        DataError: neither is there, it is damaged, or it holds more than ``MOST_BYTES``.
        MemoryClaimError: it would take more memory than it may.
    """
    try:
        if path.is_file():
            size = path.stat().st_size
            found = path.read_bytes() if size <= MOST_BYTES else b""
        else:
            found = _unpacked(path.with_name(f"{path.name}.gz"))
            size = len(found)
        if size > MOST_BYTES:
            raise DataError(
                f"{name}: {path.name} holds more than {MOST_BYTES:,} bytes, no set's file does; "
                "get it again"
            )
        return found
    except FileNotFoundError as error:
        raise DataError(f"{name}: {path} is missing; put the publisher's file there") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{name}: {path.name} is damaged ({error}); get it again") from error


def _unpacked(path: Path) -> bytes:
    """What a gzipped file holds, or its first bytes where it is more than ``MOST_BYTES``."""
    found = bytearray()
    # asked for all at once, so much would be set aside whatever the file holds
    with gzip.open(path) as file:
        while len(found) <= MOST_BYTES and (part := file.read(_PART)):
            check_claim(str(path), 2 * len(found))
            found += part
    return bytes(found)


def npz(name: str, path: Path, keys: tuple[str, ...]) -> dict[str, Array]:
    """Those of the named arrays that an ``.npz`` file holds.

    Raises:
        DataError: no such file, or none of plain arrays.
    """
    try:
        known = headers(path)
        check_claim(
            str(path),
            sum(
                math.prod(known[key].shape) * known[key].dtype.itemsize
                for key in keys
                if key in known
            ),
        )
        return {key: read(path, key) for key in keys if key in known}
    except InputError as error:
        raise DataError(f"{name}: {str(error).removeprefix(f'{path}: ')}") from error
