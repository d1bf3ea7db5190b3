"""How much memory a file may ask for: what its headers claim is checked before it is read.

A file may claim any size. It may have half of the memory that is free, and, since nothing packs
better than a thousand to one, not more than that from what it holds.
"""

import os
from pathlib import Path

from spikeship.hw_models.errors import InputError

SETTING = "SPIKESHIP_MEMORY_GIB"
GIB = 2**30
# so much may come from any file: arrays of equal values pack to nothing
ANY_FILE = GIB // 4
# deflate packs 1,032 to one at most
PACKING = 1_040


class MemoryClaimError(InputError):
    """A file that asks for more memory than it may have: which, how much, and the fix."""


def check_claim(what: str, claimed: int, stored: int | None = None) -> None:
    """Check a number of bytes that a file's header claims.

    Args:
        what: the file, and the part of it.
        claimed: bytes that reading it would take.
        stored: bytes that it holds; None for any.

    Raises:
        MemoryClaimError: too many.
    """
    if stored is not None and claimed > max(ANY_FILE, PACKING * stored):
        raise MemoryClaimError(
            f"{what}: claims {_size(claimed)} and holds {_size(stored)}; get it again"
        )
    room = free() // 2 if SETTING not in os.environ else _setting()
    if claimed > max(room, ANY_FILE):
        raise MemoryClaimError(
            f"{what}: claims {_size(claimed)}, {_size(room)} may be used; take fewer or smaller "
            f"images, or set {SETTING} to what it may take"
        )


def free() -> int:
    """Bytes of memory that are free, within the limits of a container; large where unknown."""
    found = [_meminfo(), _container()]
    return min((each for each in found if each is not None), default=2**62)


def _meminfo() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


def _container() -> int | None:
    group = Path("/sys/fs/cgroup")
    try:
        return int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or "max"
        return None


def _setting() -> int:
    try:
        return int(float(os.environ[SETTING]) * GIB)
    except (ValueError, OverflowError):
        raise InputError(
            f"{SETTING}: {os.environ[SETTING]!r} is no number; give GiB, such as 8"
        ) from None


def _size(count: int) -> str:
    for unit, name in ((GIB, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if count >= unit:
            return f"{count / unit:,.3g} {name}"
    return f"{count} bytes"
