"""What an HDF5 file may be, looked at before any of its data is read.

Files by others may point elsewhere (links to other files, data kept in other files, datasets put
together from others) and claim any size. Neither is read.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from spikeship.hw_models.errors import InputError
from spikeship.hw_models.memory import check_claim

if TYPE_CHECKING:
    import h5py

MOST_OBJECTS = 200_000
DEEPEST = 64


class Hdf5Error(InputError):
    """A file that is not read: the object in it, and the reason."""


def check_contained(path: Path) -> None:
    """Check that a file holds all of its data itself, and claims no more than it may.

    Raises:
        Hdf5Error: links, data in other files, virtual datasets, groups in a circle, or more
            objects or memory than a network has.
        Exception: whatever h5py raises for a damaged file.
    """
    import h5py

    with h5py.File(path, "r") as file:
        _Walk(h5py, path).group(file, "", 0)


class _Walk:
    def __init__(self, library: Any, path: Path) -> None:
        self.h5py, self.path = library, path
        self.seen: set[int] = set()
        self.objects, self.claimed = 0, 0

    def group(self, group: "h5py.Group", at: str, depth: int) -> None:
        if depth > DEEPEST:
            raise Hdf5Error(f"{at[:60]!a}: is nested more than {DEEPEST} deep")
        for name in group:
            where = f"{at}/{name}"
            self.objects += 1
            if self.objects > MOST_OBJECTS:
                raise Hdf5Error(f"holds more than {MOST_OBJECTS} objects")
            link = group.get(name, getlink=True)
            if not isinstance(link, self.h5py.HardLink):
                raise Hdf5Error(f"{where[:60]!a}: is a link, which is not followed")
            item = group[name]
            place = self.h5py.h5o.get_info(item.id).addr
            if place in self.seen:
                raise Hdf5Error(f"{where[:60]!a}: is in the file by two names")
            self.seen.add(place)
            if isinstance(item, self.h5py.Group):
                self.group(item, where, depth + 1)
            elif isinstance(item, self.h5py.Dataset):
                self.dataset(item, where)

    def dataset(self, item: "h5py.Dataset", where: str) -> None:
        if item.external:
            raise Hdf5Error(f"{where[:60]!a}: keeps its data in another file, which is not read")
        if item.is_virtual:
            raise Hdf5Error(f"{where[:60]!a}: is put together from others, which is not done")
        size = (item.size or 0) * item.dtype.itemsize
        self.claimed += size
        named = f"{self.path}: {where[:60]}"
        check_claim(named, size, item.id.get_storage_size())
        check_claim(named, self.claimed)
