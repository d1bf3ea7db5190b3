"""Arrays from ``.npz`` files: headers first, then only the rows that are wanted."""

import hashlib
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from spikeship.hw_models.errors import InputError, SpikeshipError, reason
from spikeship.hw_models.memory import check_claim

Array = npt.NDArray[Any]
MOST_ARRAYS = 10_000
_OURS = b"spikeship sha256 "


class NpzError(InputError):
    """A file that is no archive of plain arrays: which, the reason and the fix."""


@dataclass(frozen=True)
class Header:
    """What an array's header says.

    Attributes:
        shape: of the array.
        dtype: of its values, numbers or booleans.
        fortran: whether the first axis is the one that runs fastest.
        stored: bytes in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    stored: int


def headers(path: Path) -> dict[str, Header]:
    """Headers of all arrays by name; no array is read.

    Raises:
        NpzError: no such file, no archive, or members that are no plain arrays.
    """
    with _opened(path) as archive:
        return {name: _header(path, archive, info)[0] for name, info in _members(path, archive)}


def read(path: Path, name: str, rows: int | None = None) -> Array:
    """Read an array, or its first rows alone.

    Args:
        path: the archive.
        name: of the array.
        rows: so many along the first axis; None for all.

    Raises:
        NpzError: no such array, or a damaged one.
        MemoryClaimError: it would take more memory than it may.
    """
    where = f"{path}: {name}"
    with _opened(path) as archive:
        info = next((info for known, info in _members(path, archive) if known == name), None)
        if info is None:
            raise NpzError(f"{where}: there is no such array; name one that is there")
        header, start = _header(path, archive, info)
        shape = header.shape
        if rows is not None and shape and not header.fortran:
            shape = (min(rows, shape[0]), *shape[1:])
        size = math.prod(shape) * header.dtype.itemsize
        check_claim(where, size, header.stored)
        with archive.open(info) as member:
            _skip(member, start)
            content = bytearray(size)
            _fill(where, member, memoryview(content))
            # at its end the archive compares its checksum
            if shape == header.shape and member.read(1):
                raise NpzError(f"{where}: holds more than its shape says; make it again")
    values = np.frombuffer(content, header.dtype)
    if header.fortran:
        return values.reshape(shape[::-1]).T[:rows]
    return values.reshape(shape)


def checksum(archive: zipfile.ZipFile) -> bytes:
    """What an archive of ours says in its comment: SHA-256 over its members' names and CRCs."""
    digest = hashlib.sha256()
    for info in sorted(archive.infolist(), key=lambda info: info.filename):
        digest.update(f"{info.filename}|{info.CRC:08x}|{info.file_size}|".encode())
    return _OURS + digest.hexdigest().encode()


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        raise NpzError(f"{path}: there is no such file; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.comment.startswith(_OURS) and archive.comment != checksum(archive):
                raise NpzError(f"{path}: its arrays do not match their checksum; record it again")
            yield archive
    except SpikeshipError:
        raise
    # damage can show in any part of the decoders
    except Exception as error:
        raise NpzError(
            f"{path}: not a readable .npz of plain arrays ({reason(error)}); make it again with "
            "numpy.savez"
        ) from error


def _members(path: Path, archive: zipfile.ZipFile) -> Iterator[tuple[str, zipfile.ZipInfo]]:
    infos = archive.infolist()
    if len(infos) > MOST_ARRAYS:
        raise NpzError(f"{path}: holds {len(infos)} members, {MOST_ARRAYS} are read at most")
    known: set[str] = set()
    for info in infos:
        name = info.filename.removesuffix(".npy")
        parts = name.replace("\\", "/").split("/")
        if not name.isprintable() or name.startswith("/") or ".." in parts or name in known:
            raise NpzError(
                f"{path}: holds a member named {info.filename[:60]!a}; members need names of their "
                "own that lead nowhere else, make it again"
            )
        known.add(name)
        if info.filename.endswith(".npy"):
            yield name, info


def _header(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[Header, int]:
    """An array's header, and the number of bytes that it takes."""
    with archive.open(info) as member:
        version = npy.read_magic(member)
        if version == (1, 0):
            shape, fortran, dtype = npy.read_array_header_1_0(member)
        elif version == (2, 0):
            shape, fortran, dtype = npy.read_array_header_2_0(member)
        else:
            raise InputError(f"{info.filename}: format version {version}")
        start = member.tell()
    if dtype.kind not in "biufc" or any(side < 0 for side in shape):
        raise NpzError(
            f"{path}: {info.filename} holds {dtype} of shape {shape}; give plain numbers"
        )
    return Header(tuple(shape), dtype, bool(fortran), info.compress_size), start


def _skip(member: IO[bytes], count: int) -> None:
    while count > 0:
        part = member.read(min(count, 2**16))
        if not part:
            return
        count -= len(part)


def _fill(where: str, member: IO[bytes], target: memoryview) -> None:
    at = 0
    while at < len(target):
        part = member.read(min(len(target) - at, 2**24))
        if not part:
            raise NpzError(f"{where}: ends after {at} of {len(target)} bytes; make it again")
        target[at : at + len(part)] = part
        at += len(part)
