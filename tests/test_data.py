"""Image sets: what the files say is what comes out, and damage is named."""

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.datasets import load_digits

from spikeship.training.data.load import DataError, DataSet, Split, load

Array = npt.NDArray[Any]
RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 256, (30, 28, 28), dtype=np.uint8)
COLOUR = RANDOM.integers(0, 256, (12, 3, 32, 32), dtype=np.uint8)


def _idx(array: Array) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def _write_idx(folder: Path, ending: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, images in (("train", GREY[:20]), ("t10k", GREY[20:])):
        for name, content in (
            (f"{part}-images-idx3-ubyte", _idx(images)),
            (f"{part}-labels-idx1-ubyte", _idx(np.arange(len(images)) % 10)),
        ):
            content = gzip.compress(content) if ending else content
            (folder / f"{name}{ending}").write_bytes(content)


def _write_cifar10(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    for place, name in enumerate(names):
        content = b"".join(
            bytes([index % 10]) + COLOUR[index].tobytes() for index in (2 * place, 2 * place + 1)
        )
        (folder / f"{name}.bin").write_bytes(content)


def _write_cifar100(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, places in (("train", range(10)), ("test", range(10, 12))):
        content = b"".join(
            bytes([place % 20, 99 - place]) + COLOUR[place].tobytes() for place in places
        )
        (folder / f"{name}.bin").write_bytes(content)


def _splits(dataset: DataSet) -> tuple[Split, Split]:
    assert dataset.train is not None
    assert dataset.test is not None
    return dataset.train, dataset.test


def test_digits_are_split_evenly_and_for_ever() -> None:
    digits = load("digits")
    train, test = _splits(digits)
    assert train.labels is not None and test.labels is not None
    assert train.images.shape == (1297, 1, 8, 8)
    assert test.labels.bincount().tolist() == [50] * 10
    assert digits.input_shape == (1, 8, 8)
    assert digits.classes == 10
    # no image is in both: all 1,797 of scikit-learn's are there, and those differ
    flat = torch.cat([train.images, test.images]).reshape(1797, -1)
    assert len(torch.unique(flat, dim=0)) == 1797
    # held out from the first to the last part of the file, whose writers differ
    file = (load_digits().data * 255 / 16).round().astype(np.uint8)
    places = {image.tobytes(): place for place, image in enumerate(file)}
    held_out = np.array([places[image.numpy().tobytes()] for image in test.images])
    assert np.histogram(held_out, bins=8, range=(0, 1797))[0].min() >= 55
    # the first zero of the file, 0 0 5 13 9 1 0 0 of 16 in its first row, is held out
    assert test.images[0, 0, 0].tolist() == [0, 0, 80, 207, 143, 16, 0, 0]
    assert train.images.max() == test.images.max() == 255


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_idx_sets_are_read_and_padded(tmp_path: Path, name: str, inside: bool, ending: str) -> None:
    _write_idx(tmp_path / name if inside else tmp_path, ending)
    dataset = load(name, tmp_path)
    train, test = _splits(dataset)
    assert train.images.shape == (20, 1, 32, 32)
    assert np.array_equal(test.images[:, 0, 2:30, 2:30].numpy(), GREY[20:])
    assert train.images.sum() == GREY[:20].sum()
    assert test.labels is not None
    assert test.labels.tolist() == list(range(10))
    values = np.pad(GREY[:20] / 255, ((0, 0), (2, 2), (2, 2)))
    assert dataset.mean == pytest.approx((values.mean(),), abs=1e-12)
    assert dataset.std == pytest.approx((values.std(),), abs=1e-12)


@pytest.mark.parametrize("inside", [True, False])
def test_cifar10_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inside: bool) -> None:
    _write_cifar10(tmp_path / "cifar-10-batches-bin" if inside else tmp_path)
    monkeypatch.setenv("SPIKESHIP_DATA", str(tmp_path))
    dataset = load("cifar10")
    train, test = _splits(dataset)
    assert np.array_equal(train.images.numpy(), COLOUR[:10])
    assert np.array_equal(test.images.numpy(), COLOUR[10:])
    assert train.labels is not None and test.labels is not None
    assert train.labels.tolist() == list(range(10))
    assert test.labels.tolist() == [0, 1]
    values = COLOUR[:10] / 255
    assert dataset.mean == pytest.approx(tuple(values.mean((0, 2, 3))), abs=1e-12)
    assert dataset.std == pytest.approx(tuple(values.std((0, 2, 3))), abs=1e-12)


@pytest.mark.parametrize("inside", [True, False])
def test_cifar100_is_read_with_its_fine_labels(tmp_path: Path, inside: bool) -> None:
    _write_cifar100(tmp_path / "cifar-100-binary" if inside else tmp_path)
    dataset = load("cifar100", tmp_path)
    train, test = _splits(dataset)
    assert dataset.classes == 100
    assert np.array_equal(train.images.numpy(), COLOUR[:10])
    assert np.array_equal(test.images.numpy(), COLOUR[10:])
    assert train.labels is not None and test.labels is not None
    assert train.labels.tolist() == list(range(99, 89, -1))
    assert test.labels.tolist() == [89, 88]
    values = COLOUR[:10] / 255
    assert dataset.mean == pytest.approx(tuple(values.mean((0, 2, 3))), abs=1e-12)


def test_colour_photographs_alone_are_varied_in_training(tmp_path: Path) -> None:
    _write_cifar10(tmp_path)
    _write_cifar100(tmp_path)
    _write_idx(tmp_path)
    kinds = {
        name: load(name, tmp_path).augmentation
        for name in ("cifar10", "cifar100", "digits", "mnist", "fashion-mnist")
    }
    assert kinds == {
        "cifar10": "shift-flip",
        "cifar100": "shift-flip",
        "digits": "none",
        "mnist": "none",
        "fashion-mnist": "none",
    }


@given(data=st.data(), train=st.integers(1, 4), test=st.integers(1, 4))
@settings(max_examples=30)
def test_any_idx_bytes_come_back(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, train: int, test: int
) -> None:
    folder = tmp_path_factory.mktemp("idx")
    written = {}
    for part, count in (("train", train), ("t10k", test)):
        images = data.draw(arrays(np.uint8, (count, 28, 28), elements=st.integers(0, 255)))
        images[0, 0, 0], images[-1, -1, -1] = 1, 2  # no set of one grey
        labels = data.draw(arrays(np.uint8, count, elements=st.integers(0, 9)))
        written[part] = images, labels
        (folder / f"{part}-images-idx3-ubyte").write_bytes(_idx(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(_idx(labels))
    for split, (images, labels) in zip(
        _splits(load("mnist", folder)), written.values(), strict=True
    ):
        assert split.labels is not None
        assert np.array_equal(split.images[:, 0, 2:-2, 2:-2].numpy(), images)
        assert split.labels.tolist() == labels.tolist()


@given(
    name=st.sampled_from(["cifar10", "cifar100"]),
    labels=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=30)
def test_any_cifar_records_come_back(
    tmp_path_factory: pytest.TempPathFactory, name: str, labels: list[int], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("cifar")
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    coarse = b"\x13" if name == "cifar100" else b""
    content = b"".join(
        coarse + bytes([label]) + row.tobytes() for label, row in zip(labels, pixels, strict=True)
    )
    batches = [f"data_batch_{number}" for number in range(1, 6)]
    files = [*batches, "test_batch"] if name == "cifar10" else ["train", "test"]
    for file in files:
        (folder / f"{file}.bin").write_bytes(content)
    train, test = _splits(load(name, folder))
    copies = 5 if name == "cifar10" else 1
    assert test.labels is not None and train.labels is not None
    assert test.labels.tolist() == labels and train.labels.tolist() == labels * copies
    assert np.array_equal(test.images.reshape(-1, 3072).numpy(), pixels)
    assert np.array_equal(train.images.reshape(-1, 3072).numpy(), np.tile(pixels, (copies, 1)))


def test_normalised_images_have_mean_0_and_deviation_1(tmp_path: Path) -> None:
    _write_cifar10(tmp_path)
    dataset = load("cifar10", tmp_path)
    images = dataset.normalised("train")
    assert images.dtype == torch.float32
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert (images.std((0, 2, 3), correction=0) - 1).abs().max() < 1e-5
    # a network's own constants win
    own = dataset.normalised("test", slice(0, 1), mean=(0.0, 0.25, 0.5), std=(1.0, 0.5, 0.25))
    expected = (COLOUR[10:11] / 255 - np.array([[[0]], [[0.25]], [[0.5]]])) / np.array(
        [[[1]], [[0.5]], [[0.25]]]
    )
    assert np.allclose(own.numpy(), expected, atol=1e-6)
    picked = dataset.normalised("train", torch.tensor([3, 1]))
    assert torch.equal(picked, images[[3, 1]])
    with pytest.raises(DataError, match="its images have 3"):
        dataset.normalised("test", mean=(0.5,), std=(0.5,))


def test_normalising_leaves_the_set_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x_test=RANDOM.normal(size=(4, 5)).astype(np.float32))
    dataset = load(f"npz:{path}")
    first = dataset.normalised("test", mean=(1.0,), std=(2.0,))
    assert torch.equal(dataset.normalised("test", mean=(1.0,), std=(2.0,)), first)


@pytest.mark.parametrize(
    ("array", "shape", "factor"),
    [
        (RANDOM.normal(size=(6, 2, 4, 4)), (2, 4, 4), 1.0),
        (RANDOM.normal(size=(6, 4, 4)).astype(np.float32), (1, 4, 4), 1.0),
        (RANDOM.normal(size=(6, 9)).astype(np.float16), (9,), 1.0),
        (RANDOM.integers(0, 256, (6, 4, 4), dtype=np.uint8), (1, 4, 4), 1 / 255),
    ],
)
def test_npz_arrays_are_taken_as_they_are(
    tmp_path: Path, array: Array, shape: tuple[int, ...], factor: float
) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x_test=array, y_test=np.array([0, 1, 2, 0, 1, 4]))
    dataset = load(f"npz:{path}")
    assert dataset.train is None
    assert dataset.input_shape == shape
    assert dataset.classes == 5
    images = dataset.normalised("test")
    expected = array.astype(np.float32).reshape(6, *shape) * np.float32(factor)
    assert np.allclose(images.numpy(), expected, rtol=1e-6, atol=0)
    with pytest.raises(DataError, match="x_train"):
        dataset.normalised("train")


def test_npz_needs_no_labels(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x_train=np.ones((2, 3)))
    dataset = load(f"npz:{path}")
    assert dataset.classes == 0
    assert dataset.train is not None
    assert dataset.train.labels is None


def _cut(name: str, to: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:to])


def _put(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut(IMAGES, 1000), "says shape .* holds 984 bytes"),
        (_cut(IMAGES, 7), "no IDX file"),
        (_put(IMAGES, b"\0\0\x09\3" + _idx(GREY[:20])[4:]), "no IDX file"),
        (_put(IMAGES, _idx(GREY[:20, :20])), "28, 28"),
        (_put(LABELS, _idx(np.arange(10))), "one whole number for each of the 20 images"),
        (_put(LABELS, _idx(np.arange(20))), "labels 0..19"),
        (lambda folder: (folder / LABELS).unlink(), "is missing"),
        (lambda folder: (folder / IMAGES).unlink(), "neither in"),
        (_put(IMAGES, _idx(np.zeros((20, 28, 28)))), "all training images are alike"),
    ],
)
def test_damaged_idx_files_are_refused_in_one_line(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    _write_idx(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=reason) as caught:
        load("mnist", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", [_cut(f"{IMAGES}.gz", 500), _put(f"{IMAGES}.gz", b"no gzip")])
def test_damaged_gzip_is_refused(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    _write_idx(tmp_path, ".gz")
    damage(tmp_path)
    with pytest.raises(DataError, match="is damaged"):
        load("mnist", tmp_path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut("data_batch_3.bin", 5000), "not whole records of 3073"),
        (_put("test_batch.bin", b""), "holds 0 bytes"),
        (_put("test_batch.bin", bytes([10]) + bytes(3072)), "labels 10..10"),
        (lambda folder: (folder / "data_batch_5.bin").unlink(), "is missing"),
    ],
)
def test_damaged_cifar10_is_refused(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    _write_cifar10(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=reason) as caught:
        load("cifar10", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_cut("train.bin", 5000), "not whole records of 3074"),
        (_put("test.bin", bytes([0, 100]) + bytes(3072)), "labels 100..100"),
        (lambda folder: (folder / "test.bin").unlink(), "is missing"),
        (lambda folder: (folder / "train.bin").unlink(), "neither in"),
    ],
)
def test_damaged_cifar100_is_refused(
    tmp_path: Path, damage: Callable[[Path], object], reason: str
) -> None:
    _write_cifar100(tmp_path)
    damage(tmp_path)
    with pytest.raises(DataError, match=reason) as caught:
        load("cifar100", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ({"images": np.zeros((2, 3))}, "neither x_train nor x_test"),
        ({"x_test": np.zeros((2, 3), np.int32)}, "give floats, or uint8"),
        ({"x_test": np.full((2, 3), np.nan)}, "not finite"),
        ({"x_test": np.zeros(3)}, r"shape \(3,\)"),
        ({"x_test": np.zeros((0, 3))}, r"shape \(0, 3\)"),
        ({"x_test": np.zeros((2, 3)), "y_test": np.zeros(2)}, "one whole number"),
        ({"x_test": np.zeros((2, 3)), "y_test": np.zeros(3, int)}, "each of the 2 images"),
        ({"x_test": np.zeros((2, 3)), "y_test": np.array([0, -1])}, "labels -1..0"),
        ({"x_test": np.zeros((2, 3)), "x_train": np.zeros((2, 4))}, "differ in the shape"),
        ({"x_test": np.array([{}, {}])}, "x_test.npy holds object of shape"),
    ],
)
def test_unusable_npz_arrays_are_refused(
    tmp_path: Path, held: dict[str, Array], reason: str
) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, **held)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=reason) as caught:
        load(f"npz:{path}")
    assert "\n" not in str(caught.value)


def test_unusable_npz_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "own.npz"
    np.savez(path, x_test=np.zeros((50, 30)))
    whole = path.read_bytes()
    np.save(tmp_path / "plain.npy", np.zeros((2, 3)))
    for content in (whole[:300], b"", b"PK\3\4" + bytes(300), bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(DataError, match="not a readable .npz"):
            load(f"npz:{path}")
    with pytest.raises(DataError, match="not a readable .npz"):
        load(f"npz:{tmp_path / 'plain.npy'}")
    with pytest.raises(DataError, match="no such file"):
        load(f"npz:{tmp_path / 'none.npz'}")


def test_unknown_names_and_folders_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPIKESHIP_DATA", raising=False)
    with pytest.raises(DataError, match="use one of digits, cifar10, cifar100, "):
        load("mnits")
    with pytest.raises(DataError, match=r"--data-dir or \$SPIKESHIP_DATA"):
        load("mnist")
    with pytest.raises(DataError, match="neither in"):
        load("mnist", tmp_path / "none")
