"""Sets of a user's own, messages, and a validation split taken from the training images."""

import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikeship.training.data.data_set import Chosen
from spikeship.training.data.load import DataError, DataSet, Split, load, with_validation

RANDOM = np.random.default_rng(0)
SPIKES = RANDOM.integers(-2, 3, (6, 5, 2, 4, 4)).astype(np.int8)


def _labelled(labels: list[int]) -> DataSet:
    images = torch.arange(len(labels), dtype=torch.float32)[:, None]
    split = Split(images, torch.tensor(labels))
    return DataSet("x", split, None, max(labels) + 1, (0.5,), (0.25,))


@given(
    counts=st.lists(st.integers(3, 9), min_size=2, max_size=5),
    seed=st.integers(0, 2**32),
    data=st.data(),
)
def test_validation_is_balanced_and_taken_from_training(
    counts: list[int], seed: int, data: st.DataObject
) -> None:
    labels = data.draw(st.permutations(np.repeat(np.arange(len(counts)), counts).tolist()))
    images = data.draw(st.integers(len(counts), 2 * len(counts)))
    whole = _labelled(labels)
    dataset = with_validation(whole, images, seed)
    train, held_out = dataset.split("train"), dataset.split("validation")
    assert train.labels is not None and held_out.labels is not None
    assert len(held_out.labels) == images
    # as many of each class as can be
    of_class = held_out.labels.bincount(minlength=len(counts))
    assert of_class.max() - of_class.min() <= 1
    # every image is in one of the two, with its own label
    places = torch.cat([train.images[:], held_out.images[:]])[:, 0].long()
    assert places.sort().values.tolist() == list(range(len(labels)))
    assert torch.cat([train.labels, held_out.labels]).tolist() == [labels[k] for k in places]
    assert (dataset.mean, dataset.std) == (whole.mean, whole.std)
    again = with_validation(whole, images, seed).split("validation")
    assert torch.equal(again.images[:], held_out.images[:])


def test_another_seed_moves_other_images() -> None:
    whole = _labelled([0, 1] * 50)
    first, other = (with_validation(whole, 20, seed).split("validation") for seed in (0, 1))
    assert not torch.equal(first.images[:], other.images[:])


@pytest.mark.parametrize(
    ("labels", "images", "reason"),
    [
        ([0, 0, 1, 1, 2, 2], 2, "2 images for validation are fewer than its 3 classes"),
        ([0, 0, 0, 1, 1], 4, "class 1 has 2 training images, 2 for validation leave none"),
    ],
)
def test_a_validation_split_that_cannot_be_is_refused(
    labels: list[int], images: int, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        with_validation(_labelled(labels), images, 0)


def test_splits_that_are_not_there_are_named() -> None:
    dataset = _labelled([0, 1])
    with pytest.raises(DataError, match="no validation images; call with_validation"):
        dataset.normalised("validation")
    with pytest.raises(DataError, match="no test images; add x_test"):
        dataset.split("test")
    unlabelled = DataSet("x", Split(torch.zeros(4, 1), None), None, 0, (0.0,), (1.0,))
    with pytest.raises(DataError, match="no labels"):
        with_validation(unlabelled, 2, 0)


def test_samples_chosen_twice_are_still_the_right_ones() -> None:
    all_of_them = torch.arange(20.0)[:, None]
    once = Chosen(all_of_them, torch.tensor([19, 3, 5, 7]))
    split = Split(once, torch.arange(4)).take(torch.tensor([3, 1])).take(slice(1, None))
    assert split.images.shape == (1, 1)
    assert split.images[:].tolist() == [[3.0]]
    assert split.labels is not None and split.labels.tolist() == [1]


@pytest.mark.parametrize("dtype", [np.int8, np.float32, np.int64])
def test_messages_are_taken_as_they_are(tmp_path: Path, dtype: npt.DTypeLike) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x_test=SPIKES.astype(dtype), y_test=np.arange(6))
    dataset = load(f"npz:{path}")
    assert (dataset.num_steps, dataset.input_shape, dataset.classes) == (5, (2, 4, 4), 6)
    messages = dataset.split("test").images[:]
    assert messages.dtype == torch.int8
    assert np.array_equal(messages.numpy(), SPIKES)
    # an ANN takes the rates
    rates = dataset.normalised("test")
    assert rates.dtype == torch.float32
    assert np.allclose(rates.numpy(), SPIKES.mean(1), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "steps", "image"), [((6, 5, 9), 5, (9,)), ((6, 5, 4, 4), 5, (1, 4, 4))]
)
def test_arrays_that_could_be_images_are_messages_where_the_network_says_so(
    tmp_path: Path, shape: tuple[int, ...], steps: int, image: tuple[int, ...]
) -> None:
    path = tmp_path / "own.npz"
    values = RANDOM.integers(0, 3, shape).astype(np.uint8)
    np.savez(path, x_test=values)
    assert load(f"npz:{path}").num_steps is None
    np.savez(tmp_path / "int8.npz", x_test=values.astype(np.int8))
    assert load(f"npz:{tmp_path / 'int8.npz'}").num_steps == steps
    dataset = load(f"npz:{path}", messages=True)
    assert (dataset.num_steps, dataset.input_shape) == (steps, image)
    assert np.array_equal(dataset.split("test").images[:].numpy().reshape(shape), values)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (np.full((2, 3, 4), 0.5), "float64 and no messages; give whole numbers"),
        (np.full((2, 3, 4), np.nan), "no messages"),
        (np.full((2, 3, 4), 32768), "of magnitude 32767 at most"),
        (np.full((2, 3, 4), -32768, np.int16), "of magnitude 32767 at most"),
        (np.zeros((2, 3)), r"shape \(2, 3\); give messages"),
        (np.zeros((2, 0, 3)), r"shape \(2, 0, 3\); give messages"),
        (np.array([["a"]]), "give plain numbers"),
    ],
)
def test_arrays_that_are_no_messages_are_refused(
    tmp_path: Path, messages: npt.NDArray[Any], reason: str
) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x_test=messages)
    with pytest.raises(DataError, match=reason) as caught:
        load(f"npz:{path}", messages=True)
    assert "\n" not in str(caught.value)


OWN = """
import numpy as np
import torch
from spikeship.training.data.load import DataSet, Split

def arrays():
    return {"x_train": np.ones((4, 3, 8, 8), np.uint8), "y_train": torch.tensor([0, 1, 2, 6]),
            "x_test": torch.zeros(2, 3, 8, 8), "y_test": None}

def whole():
    split = Split(torch.zeros(2, 7), torch.tensor([0, 1]))
    return DataSet("z", None, split, 2, (0.5,), (2.0,), augmentation="none")

def empty():
    return DataSet("z", None, None, 2, (0.5,), (2.0,))

def wrong():
    return [1, 2]

def broken():
    raise RuntimeError("the disk\\nis full")

value = 3
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of the user's, where they stand; its name, as modules stay loaded."""
    name = re.sub(r"\W", "_", f"own_{tmp_path.name}")
    (tmp_path / f"{name}.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return name


def test_a_function_of_the_users_own_gives_arrays_or_a_whole_set(own: str) -> None:
    dataset = load(f"{own}:arrays")
    assert (dataset.name, dataset.classes, dataset.input_shape) == (f"{own}:arrays", 7, (3, 8, 8))
    assert dataset.normalised("train").unique().tolist() == pytest.approx([1 / 255])
    assert dataset.test is not None and dataset.test.labels is None
    whole = load(f"{own}:whole")
    assert (whole.name, whole.mean, whole.input_shape) == (f"{own}:whole", (0.5,), (7,))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (":empty", "returned a DataSet without images"),
        (":wrong", "returned list; return a DataSet, or a dict of arrays x_train"),
        (":broken", "RuntimeError: the disk is full"),
        (":value", "TypeError"),
        (":none", "AttributeError"),
        (".none:function", "ModuleNotFoundError"),
        (":", "write it as package.module:function"),
    ],
)
def test_a_function_that_gives_no_set_is_refused(own: str, function: str, reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        load(f"{own}{function}")
    assert str(caught.value).startswith(own)
    assert "\n" not in str(caught.value)


def test_the_real_cifar10_has_its_published_statistics() -> None:
    folder = Path(os.environ.get("SPIKESHIP_DATA", "")) / "cifar-10-batches-bin"
    if not os.environ.get("SPIKESHIP_DATA") or not folder.is_dir():
        pytest.skip("SPIKESHIP_DATA is not set, or holds no cifar-10-batches-bin")
    dataset = load("cifar10")
    train = dataset.split("train")
    assert train.images.shape == (50_000, 3, 32, 32)
    assert train.labels is not None and train.labels.bincount().tolist() == [5000] * 10
    # as everybody who normalises CIFAR-10 writes them, in four digits
    assert dataset.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=1e-4)
    assert dataset.std == pytest.approx((0.2470, 0.2435, 0.2616), abs=1e-4)
