"""A ``.net`` file (HDF5) as checked layers: what lava-dl's netx would read, in plain integers.

netx turns weights, biases and delays into integers by cutting off what follows the point, and so
does this, with a note. Everything that cannot be read ends in a NetxError of one line.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.importers.hdf5_dump import DumpError, dump
from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.graph import Array

ROOT = "layer"
NUM_STEPS = "simulation/tSample"
MAX_STEPS = 2**31


class NetxError(SpikeshipError, ValueError):
    """A ``.net`` file that cannot be run; one line names file, layer, reason and fix."""


@dataclass(frozen=True)
class Layer:
    """One group of ``/layer``.

    Attributes:
        path: the file.
        index: number of the group.
        data: its datasets by name, those of its groups as ``neuron/type``.
        notes: what reading it left behind, shared by all layers of a file.
    """

    path: Path
    index: int
    data: Mapping[str, NDArray[Any]]
    notes: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the node and synapse that it becomes."""
        return f"layer_{self.index}"

    @property
    def kind(self) -> str:
        """What its ``type`` says, such as input, dense or conv."""
        return self.text("type")

    def __contains__(self, key: str) -> bool:
        """Whether there is such a dataset or group."""
        return key in self.data or self._is_group(key)

    def error(self, reason: str) -> NetxError:
        """An error that names file and layer."""
        return NetxError(f"{self.path}: layer {self.index}: {reason}")

    def note(self, text: str) -> None:
        """Keep a remark about this layer."""
        self.notes.append(f"layer {self.index}: {text}")

    def text(self, key: str) -> str:
        """A dataset that holds one string."""
        value = self._read(key)
        if value.size != 1 or value.dtype.kind != "S" or not value.item():
            raise self.error(f"{key} holds no name; the file is damaged, export it again")
        return str(value.item().decode("ascii", errors="replace"))

    def number(self, key: str) -> int:
        """A dataset that holds one whole number."""
        values = self._numbers(key)
        if values.size != 1 or values.reshape(-1)[0] != np.rint(values.reshape(-1)[0]):
            raise self.error(
                f"{key} must be one whole number, got {_shown(values)}; export it again"
            )
        return int(values.reshape(-1)[0])

    def first(self, key: str) -> int:
        """The only value of a dataset, cut to an integer as netx cuts it."""
        values = self.integers(key).reshape(-1)
        if values.size != 1:
            raise self.error(f"{key} must hold one number, got {_shown(values)}; export it again")
        return int(values[0])

    def integers(self, key: str) -> Array:
        """A dataset of numbers, cut to integers as netx cuts them."""
        values = self._numbers(key)
        whole = np.trunc(values) if values.dtype.kind == "f" else values
        if not np.array_equal(whole, values):
            self.note(f"{key} holds fractions, which netx cuts off, as here; was it quantized?")
        if whole.size and float(np.abs(whole).max()) > np.iinfo(np.int32).max:
            raise self.error(f"{key} holds {_shown(whole)}, beyond 32 bits; export it again")
        return np.asarray(whole, dtype=np.int64)

    def shape(self, key: str, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """A dataset that holds a shape of one of these numbers of axes."""
        values = self.integers(key).reshape(-1)
        if values.size not in sizes or values.min() < 1:
            wanted = " or ".join(map(str, sizes))
            raise self.error(f"{key} must hold {wanted} sizes, got {_shown(values)}")
        return tuple(values.tolist())

    def pair(self, key: str) -> tuple[int, int]:
        """A number for both axes, or two numbers (height, width)."""
        values = self.integers(key).reshape(-1)
        if values.size not in (1, 2):
            raise self.error(f"{key} must hold one number or two, got {_shown(values)}")
        return int(values[0]), int(values[-1])

    def _numbers(self, key: str) -> NDArray[Any]:
        values = self._read(key)
        if values.dtype.kind not in "iufb":
            raise self.error(f"{key} holds {values.dtype}, not numbers; export it again")
        if values.size == 0 or not np.all(np.isfinite(values)):
            raise self.error(f"{key} is empty or holds values that are not finite")
        return values

    def _read(self, key: str) -> NDArray[Any]:
        if self._is_group(key):
            raise self.error(f"{key!r} is a group, not data; the file is no netx network")
        if key not in self.data:
            raise self.error(f"there is no {key!r}; netx needs it, export the network again")
        return self.data[key]

    def _is_group(self, key: str) -> bool:
        return any(name.startswith(f"{key}/") for name in self.data)


@dataclass(frozen=True)
class NetFile:
    """A ``.net`` file: its layers in order, and the steps of a sample where it says them."""

    path: Path
    layers: tuple[Layer, ...]
    num_steps: int | None
    notes: list[str]


def read_net(path: Path, layers: int | None = None) -> NetFile:
    """Read a ``.net`` file, its first ``layers`` groups or all.

    Raises:
        NetxError: missing, damaged, no netx network, or with fewer groups than asked for.
    """
    if not path.is_file():
        raise NetxError(f"{path}: no such file; give a network exported by lava-dl (.net)")
    try:
        data = dump(path)
    except DumpError as error:
        raise NetxError(f"{path}: not a whole HDF5 file ({error}); export it again") from error
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for name, values in data.items():
        root, _, rest = name.partition("/")
        if root == ROOT and rest:
            index, _, key = rest.partition("/")
            groups.setdefault(index, {})[key] = values
    if not groups:
        raise NetxError(
            f"{path}: holds no /{ROOT} group, so it is no netx network; lava-dl's export_hdf5 "
            "writes one"
        )
    count = len(groups) if layers is None else layers
    if not 1 <= count <= len(groups):
        raise NetxError(f"{path}: has {len(groups)} layers, {count} were asked for")
    missing = [index for index in range(count) if str(index) not in groups]
    if missing:
        raise NetxError(
            f"{path}: there is no group /{ROOT}/{missing[0]} among its {len(groups)} layers, "
            "which must be numbered from 0; export it again"
        )
    notes: list[str] = []
    found = tuple(Layer(path, index, groups[str(index)], notes) for index in range(count))
    return NetFile(path, found, _num_steps(path, data.get(NUM_STEPS)), notes)


def _num_steps(path: Path, value: NDArray[Any] | None) -> int | None:
    if value is None:
        return None
    if value.size != 1 or value.dtype.kind not in "iuf" or not 1 <= value.item() < MAX_STEPS:
        raise NetxError(f"{path}: {NUM_STEPS} is no number of steps; export it again")
    return int(value.item())


def _shown(values: NDArray[Any]) -> str:
    flat = values.reshape(-1)
    return str(flat.tolist()) if flat.size <= 4 else f"{flat.size} values up to {flat.max()}"
