"""N-MNIST: what the camera saw comes out step by step, and damage is named."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeship.training.data.load import DataError, load
from spikeship.training.data.readers.events import FileRecordings

Array = npt.NDArray[Any]
EVENT = st.tuples(
    st.integers(0, 33), st.integers(0, 33), st.integers(0, 1), st.integers(0, 2**23 - 1)
)
RECORDINGS = [
    [(0, 1, 0, 0), (33, 32, 1, 149_999), (33, 32, 1, 100_000), (5, 6, 1, 150_000)],
    [(7, 8, 0, 299_999), (9, 9, 1, 300_000)],
    [],
]


def _bin(events: list[tuple[int, int, int, int]]) -> bytes:
    """40 bits an event: x, y, polarity (1 bit), time (23 bits), the high byte first."""
    return b"".join(
        ((x << 32) | (y << 24) | (polarity << 23) | time).to_bytes(5, "big")
        for x, y, polarity, time in events
    )


def _write_folders(folder: Path) -> None:
    """Recordings 1, 2, 3 are of classes 9, 0, 4."""
    for part in ("Train", "Test"):
        for number, (label, events) in enumerate(zip((9, 0, 4), RECORDINGS, strict=True), 1):
            path = folder / part / str(label) / f"{number:05}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_bin(events))


def _one_file() -> dict[str, Array]:
    columns = np.array([event for recording in RECORDINGS for event in recording]).T
    keys = ("x", "y", "p", "t_us")
    types = (np.uint8, np.uint8, np.uint8, np.uint32)
    held: dict[str, Array] = {}
    for part in ("train", "test"):
        for key, values, kind in zip(keys, columns, types, strict=True):
            held[f"{part}_{key}"] = values.astype(kind)
        held[f"{part}_offsets"] = np.array([0, 4, 6, 6])
        held[f"{part}_label"] = np.array([9, 0, 4], np.uint8)
    return held


def _write_file(folder: Path, **changes: Array) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "nmnist_small.npz", **(_one_file() | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "write",
    [
        _write_folders,
        lambda folder: _write_folders(folder / "N-MNIST"),
        lambda folder: _write_folders(folder / "n-mnist"),
        _write_file,
        lambda folder: _write_file(folder / "n-mnist-small"),
    ],
)
def test_recordings_become_spikes_in_their_steps(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path)
    dataset = load("n-mnist:2", tmp_path)
    assert (dataset.num_steps, dataset.input_shape, dataset.classes) == (2, (2, 34, 34), 10)
    for name in ("train", "test"):
        split = dataset.split(name)  # type: ignore[arg-type]
        assert split.labels is not None and split.labels.tolist() == [9, 0, 4]
        assert split.images.shape == (3, 2, 2, 34, 34)
        messages = split.images[:]
        assert messages.dtype == torch.int8
        # recording, step, polarity, row, column; two events in one step are one spike
        assert messages.nonzero().tolist() == [
            [0, 0, 0, 1, 0],
            [0, 0, 1, 32, 33],
            [0, 1, 1, 6, 5],
            [1, 1, 0, 8, 7],
        ]
        assert messages.max() == 1
        picked = split.images[torch.tensor([1, 0])]
        assert torch.equal(picked, messages[[1, 0]])
    rates = dataset.normalised("train")
    assert rates[0, 1, 32, 33] == 0.5 and rates[0].sum() == 1.5


def test_the_name_says_the_steps(tmp_path: Path) -> None:
    _write_folders(tmp_path)
    assert load("n-mnist", tmp_path).num_steps == 20
    assert load("n-mnist:7", tmp_path).split("test").images.shape == (3, 7, 2, 34, 34)
    for name in ("n-mnist:", "n-mnist:0", "n-mnist:x", "n-mnist:-3"):
        with pytest.raises(DataError, match="is no number of steps"):
            load(name, tmp_path)


@given(st.lists(EVENT, max_size=20), st.integers(1, 40))
def test_files_say_every_event_and_each_lands_in_its_step(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int, int, int]], steps: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "events.bin"
    path.write_bytes(_bin(events))
    read = FileRecordings("x", [path]).events(0)
    columns = (read.x, read.y, read.polarity, read.time)
    assert [tuple(map(int, event)) for event in zip(*columns, strict=True)] == events
    spikes = read.binned(steps)
    expected = {
        (time * steps // 300_000, polarity, y, x)
        for x, y, polarity, time in events
        if time < 300_000
    }
    assert {tuple(place) for place in np.argwhere(spikes).tolist()} == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (_bin([(1, 1, 0, 5)])[:4], "4 bytes, not whole events of 5"),
        (_bin([(34, 1, 0, 5)]), "outside 34 x 34"),
        (_bin([(1, 240, 0, 5)]), "outside 34 x 34"),
    ],
)
def test_damaged_recordings_are_named_when_they_are_read(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    _write_folders(tmp_path)
    (tmp_path / "Test" / "0" / "00002.bin").write_bytes(content)
    dataset = load("n-mnist", tmp_path)
    with pytest.raises(DataError, match=f"0/00002.bin.* {reason}") as caught:
        dataset.normalised("test")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"train_x": np.full(6, 34, np.uint8)}, "outside 34 x 34"),
        ({"train_y": np.full(6, -1)}, "outside 34 x 34"),
        ({"test_p": np.full(6, 2, np.uint8)}, "outside 34 x 34"),
        ({"train_x": np.zeros(5, np.uint8)}, "train arrays do not belong together"),
        ({"test_offsets": np.array([0, 4, 7, 6])}, "test arrays do not belong together"),
        ({"test_offsets": np.array([0, 4, 6])}, "test arrays do not belong together"),
        ({"test_label": np.array([9, 0, 10])}, "test arrays do not belong together"),
        ({"test_t_us": np.zeros((6, 1))}, "test arrays do not belong together"),
    ],
)
def test_damaged_files_of_recordings_are_refused(
    tmp_path: Path, changes: dict[str, Array], reason: str
) -> None:
    _write_file(tmp_path, **changes)
    with pytest.raises(DataError, match=reason) as caught:
        load("n-mnist", tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_recordings_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither Train and Test nor nmnist_small.npz"):
        load("n-mnist", tmp_path)
    np.savez(tmp_path / "nmnist_small.npz", train_x=np.zeros(3, np.uint8))
    with pytest.raises(DataError, match="lacks train_y, train_p"):
        load("n-mnist", tmp_path)
    (tmp_path / "nmnist_small.npz").write_bytes(b"damaged")
    with pytest.raises(DataError, match="not a readable .npz"):
        load("n-mnist", tmp_path)
    for part in ("Train", "Test"):
        (tmp_path / part).mkdir()
    with pytest.raises(DataError, match=r"Train holds no 0..9/\*.bin"):
        load("n-mnist", tmp_path)


def test_real_recordings_are_three_saccades() -> None:
    folder = Path(os.environ.get("SPIKESHIP_DATA", ""))
    if not os.environ.get("SPIKESHIP_DATA") or not (folder / "n-mnist-small").is_dir():
        pytest.skip("SPIKESHIP_DATA is not set, or holds no n-mnist-small")
    dataset = load("n-mnist:30", folder / "n-mnist-small")
    messages = dataset.split("test").images[:]
    assert messages.shape == (100, 30, 2, 34, 34)
    # the camera moves three times: its middle sees most, its turning points least
    rates = messages.double().mean((0, 2, 3, 4))
    moves = rates.reshape(3, 10)
    assert (moves[:, 3:7].mean(1) > 1.5 * moves[:, [0, -1]].mean(1)).all()
