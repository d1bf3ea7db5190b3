"""Recordings as .npz files of plain arrays, written as they come.

An .npz file is a zip of .npy files, one after the other, while a run gives all arrays a few
images at a time. So each array is first spooled to a nameless file beside the output, spikes as
bits, and put into the zip when its length is known. Memory holds one block of one array.
"""

import math
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.errors import DeployError
from spikeship.hw_models.atomic import check_file, replacing, within
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import FixedGraph, Neuron
from spikeship.training.data.readers.npz import checksum

FASTEST = 1  # of zlib's levels: spikes are mostly zeros, which every level packs well
POTENTIALS = ".v"  # after a node's name


@contextmanager
def writing(path: Path, *, potentials: bool = False) -> Iterator[Callable[[Recording], None]]:
    """Give a recorder; the file appears, whole, when the block ends well.

    It holds ``input`` (images, T, …), each node by its name (images, T + D, …), and with
    ``potentials`` also NAME.v, the membrane potentials, where a node has some.
    A checksum is the archive's comment.

    Args:
        path: where to write.
        potentials: whether to write them.
    """
    spools: dict[str, _Spool] = {}
    with ExitStack() as files:
        if not check_file(path):
            files.enter_context(within(Path(os.path.realpath(path)).parent))
        beside = _spools(path)

        def record(recording: Recording) -> None:
            for name, values in _arrays(recording, potentials):
                if name not in spools:
                    spools[name] = _Spool(files.enter_context(tempfile.TemporaryFile(dir=beside)))
                spools[name].append(values)

        yield record
        with (
            replacing(path) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=FASTEST) as archive,
        ):
            for name, spool in spools.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    spool.write_to(member)
            archive.comment = checksum(archive)


def check_room(
    path: Path, graph: FixedGraph, images: int, num_steps: int, *, potentials: bool = False
) -> None:
    """Refuse a recording that would fill the disk, or that no names are left for.

    Args:
        path: where it is to be written.
        graph: the network.
        images: how many.
        num_steps: T.
        potentials: whether they are to be written.

    Raises:
        DeployError: says how many images there is room for, or which name is taken twice.
    """
    names = ["input", *(node.name for node in graph.nodes)]
    if potentials:
        names += [node.name + POTENTIALS for node in graph.nodes]
    known: set[str] = set()
    for name in names:
        if name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
            raise DeployError(
                f"--record: an array would be called {name!r}, which leads out of the file; rename "
                "that node"
            )
        if name in known:
            raise DeployError(f"--record: two arrays would be called {name!r}; rename that node")
        known.add(name)
    spooled = num_steps * math.prod(graph.input.shape)
    for node in graph.nodes:
        bits = (1 if isinstance(node, Neuron) else 32) + (32 if potentials else 0)
        spooled += graph.chip_steps(num_steps) * math.prod(node.shape) * bits // 8
    # the zip stands beside the spool, about as large where values are not zeros
    each, free = 2 * spooled, shutil.disk_usage(_spools(path)).free
    if images * each > free:
        raise DeployError(
            f"--record: {images} images may take {images * each / 2**30:.3g} GiB, "
            f"{free / 2**30:.3g} are free in {path.parent}; use -n {max(1, free // each)} or fewer"
        )


def _spools(path: Path) -> Path:
    """Where arrays wait: beside the output, or where temporary files lie if that is a device."""
    if check_file(path):
        return Path(tempfile.gettempdir())
    folder = Path(os.path.realpath(path)).parent
    return folder if folder.is_dir() else folder.parent


@dataclass(frozen=True)
class _Block:
    """Some images of an array, as they were spooled."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    bits: bool


@dataclass
class _Spool:
    """One array, a block after the other, in a file that has no name."""

    file: IO[bytes]
    blocks: list[_Block] = field(default_factory=list)

    def append(self, values: NDArray[Any]) -> None:
        bits = values.dtype == np.uint8 and (values.size == 0 or int(values.max()) <= 1)
        self.blocks.append(_Block(values.shape, values.dtype, bits))
        stored = np.packbits(values.reshape(-1)) if bits else np.ascontiguousarray(values)
        self.file.write(stored.data)

    def write_to(self, member: IO[bytes]) -> None:
        """Write everything as one .npy file."""
        dtype = np.result_type(*(block.dtype for block in self.blocks))
        images = sum(block.shape[0] for block in self.blocks)
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (images, *self.blocks[0].shape[1:]),
        }
        np.lib.format.write_array_header_1_0(member, header)
        self.file.seek(0)
        for block in self.blocks:
            member.write(self._read(block).astype(dtype, copy=False).data)

    def _read(self, block: _Block) -> NDArray[Any]:
        size = math.prod(block.shape)
        if not block.bits:
            return np.frombuffer(self.file.read(size * block.dtype.itemsize), block.dtype)
        packed = np.frombuffer(self.file.read(-(-size // 8)), np.uint8)
        return np.unpackbits(packed, count=size)


def _arrays(recording: Recording, potentials: bool) -> Iterator[tuple[str, NDArray[Any]]]:
    yield "input", recording.input
    yield from recording.nodes.items()
    if potentials:
        for name, values in recording.potentials.items():
            yield name + POTENTIALS, values
