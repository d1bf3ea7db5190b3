"""N-MNIST: digits before an event camera, binned into messages only when asked for.

Orchard et al., "Converting Static Image Datasets to Spiking Neuromorphic Datasets Using Saccades",
Frontiers in Neuroscience 9:437, 2015. Each recording is three saccades of 100 ms on 34 x 34 pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from spikeship.training.data.data_set import DataError, DataSet, Split
from spikeship.training.data.readers.files import Array, content, npz

SIDE = 34
DURATION_US = 300_000
DEFAULT_STEPS = 20
_KEYS = ("x", "y", "p", "t_us", "offsets", "label")


@dataclass(frozen=True, eq=False)
class Events:
    """What one recording, or several, saw.

    Attributes:
        x: column of each event, 0..33.
        y: row, likewise.
        polarity: 0 darker, 1 brighter.
        time: since the recording began, µs.
    """

    x: Array
    y: Array
    polarity: Array
    time: Array

    def binned(self, num_steps: int) -> Array:
        """Spikes int8 (T, 2, 34, 34): 1 where a step of 300 ms / T saw an event, however many.

        What comes after 300 ms is left out.
        """
        spikes = np.zeros((num_steps, 2, SIDE, SIDE), dtype=np.int8)
        step = self.time.astype(np.int64) * num_steps // DURATION_US
        seen = step < num_steps
        spikes[step[seen], self.polarity[seen], self.y[seen], self.x[seen]] = 1
        return spikes

    def check(self, where: str) -> None:
        """Refuse events that no such camera sends, named after ``where``."""
        limits = ((self.x, SIDE), (self.y, SIDE), (self.polarity, 2), (self.time, 2**32))
        if any(axis.size and not 0 <= axis.min() <= axis.max() < end for axis, end in limits):
            raise DataError(
                f"{where} holds events outside {SIDE} x {SIDE} pixels, two polarities or time; "
                "get it again"
            )


class Recordings(Protocol):
    """Recordings by number."""

    def __len__(self) -> int: ...

    def events(self, place: int) -> Events:
        """Those of one recording."""


@dataclass(frozen=True, eq=False)
class FileRecordings:
    """A ``.bin`` file each, as published: 40 bits an event, x, y, polarity (1 bit), time (23)."""

    name: str
    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def events(self, place: int) -> Events:
        """Those of one recording; DataError where its file is missing or damaged."""
        path = self.paths[place]
        file = content(self.name, path)
        if len(file) % 5:
            raise DataError(
                f"{self.name}: {path} holds {len(file)} bytes, not whole events of 5; get it again"
            )
        x, y, high, middle, low = np.frombuffer(file, np.uint8).reshape(-1, 5).T
        time = (high & 127).astype(np.int64) << 16 | middle.astype(np.int64) << 8 | low
        events = Events(x, y, high >> 7, time)
        events.check(f"{self.name}: {path}")
        return events


@dataclass(frozen=True, eq=False)
class ArrayRecordings:
    """All in one: recording i has the events ``offsets[i]`` to ``offsets[i + 1]``."""

    all: Events
    offsets: Array

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def events(self, place: int) -> Events:
        """Those of one recording."""
        part = slice(self.offsets[place], self.offsets[place + 1])
        every = self.all
        return Events(every.x[part], every.y[part], every.polarity[part], every.time[part])


@dataclass(frozen=True, eq=False)
class Messages:
    """Recordings as spikes, int8 (recordings, T, 2, 34, 34), binned only when asked for."""

    recordings: Recordings
    num_steps: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all of them."""
        return (len(self), self.num_steps, 2, SIDE, SIDE)

    def __len__(self) -> int:
        return len(self.recordings)

    def __getitem__(self, indices: Tensor | slice, /) -> Tensor:
        places = torch.arange(len(self))[indices].tolist()
        spikes = np.zeros((len(places), *self.shape[1:]), dtype=np.int8)
        for row, place in zip(spikes, places, strict=True):
            row[:] = self.recordings.events(place).binned(self.num_steps)
        return torch.from_numpy(spikes)


def read_n_mnist(name: str, data_dir: Path) -> DataSet:
    """Read ``n-mnist`` or ``n-mnist:T``: the published folders, or a part of them in one file.

    Looked for are Train/0..9/*.bin and Test/0..9/*.bin in the folder or its subfolder N-MNIST or
    n-mnist, and else nmnist_small.npz in the folder or its subfolder n-mnist-small.

    Raises:
        DataError: neither is there, or what is there is damaged.
    """
    _, colon, steps = name.partition(":")
    if colon and not (steps.isascii() and steps.isdecimal() and int(steps) > 0):
        raise DataError(f"{name}: {steps!r} is no number of steps; write n-mnist:T, as n-mnist:20")
    num_steps = int(steps) if colon else DEFAULT_STEPS
    for folder in (data_dir / "N-MNIST", data_dir / "n-mnist", data_dir):
        if (folder / "Train").is_dir() and (folder / "Test").is_dir():
            train, test = (_folder(name, folder / part, num_steps) for part in ("Train", "Test"))
            break
    else:
        path = data_dir / "n-mnist-small" / "nmnist_small.npz"
        path = path if path.is_file() else data_dir / path.name
        if not path.is_file():
            raise DataError(
                f"{name}: neither Train and Test nor {path.name} is in {data_dir}, its N-MNIST or "
                "its n-mnist-small; put the publisher's files there, or name another folder"
            )
        train, test = (_file(name, path, part, num_steps) for part in ("train", "test"))
    return DataSet(name, train, test, 10, (0.0, 0.0), (1.0, 1.0), num_steps=num_steps)


def _folder(name: str, folder: Path, num_steps: int) -> Split:
    # file names count through all classes, in MNIST's own order
    paths = sorted(folder.glob("[0-9]/*.bin"), key=lambda path: path.name)
    if not paths:
        raise DataError(f"{name}: {folder} holds no 0..9/*.bin; put the publisher's files there")
    labels = torch.tensor([int(path.parent.name) for path in paths])
    return Split(Messages(FileRecordings(name, paths), num_steps), labels)


def _file(name: str, path: Path, part: str, num_steps: int) -> Split:
    keys = [f"{part}_{key}" for key in _KEYS]
    found = npz(name, path, tuple(keys))
    where = f"{name}: {path.name}"
    missing = [key for key in keys if key not in found]
    if missing:
        raise DataError(f"{where} lacks {', '.join(missing)}; get it again")
    x, y, polarity, time, offsets, labels = (found[key] for key in keys)
    whole = all(array.ndim == 1 and array.dtype.kind in "iu" for array in found.values())
    if (
        not whole
        or len({len(axis) for axis in (x, y, polarity, time)}) > 1
        or len(offsets) != len(labels) + 1
        or len(labels) == 0
        or (offsets[0], offsets[-1]) != (0, len(x))
        or (np.diff(offsets.astype(np.int64)) < 0).any()
        or labels.min() < 0
        or labels.max() > 9
    ):
        raise DataError(f"{where}: its {part} arrays do not belong together; get it again")
    events = Events(x, y, polarity, time)
    events.check(where)
    recordings = ArrayRecordings(events, offsets)
    return Split(Messages(recordings, num_steps), torch.from_numpy(labels.astype(np.int64)))
