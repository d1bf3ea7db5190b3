"""Folders of pictures: read when asked for, scaled and cut as ImageNet's classifiers are."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from spikeship.training.data.augment import training_images
from spikeship.training.data.load import DataError, DataSet, load, with_validation
from spikeship.training.data.readers.image_folder import AREA, RATIO, Pictures

COLOURS = {"bird": (200, 40, 0), "cat": (0, 120, 240), "dog": (90, 90, 10)}


def _write(folder: Path, counts: dict[str, int], size: tuple[int, int] = (60, 40)) -> None:
    for kind, count in counts.items():
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            ending = (".png", ".PNG")[number % 2]
            picture = Image.new("RGB", size, COLOURS.get(kind, (9, 9, 9)))
            picture.save(folder / kind / f"{number:03}{ending}", "png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _write(tmp_path / "train", {"dog": 3, "bird": 2, "cat": 4})
    _write(tmp_path / "val", {"cat": 2, "dog": 1})
    (tmp_path / "train" / "dog" / "notes.txt").write_text("no picture")
    (tmp_path / "train" / "cat" / ".hidden.png").write_text("no picture")
    return tmp_path


def test_classes_are_the_folders_and_take_turns(folder: Path) -> None:
    dataset = load("imagefolder", folder)
    train, test = dataset.split("train"), dataset.split("test")
    assert (dataset.classes, dataset.input_shape) == (3, (3, 224, 224))
    assert train.images.shape == (9, 3, 224, 224)
    assert train.labels is not None and test.labels is not None
    assert train.labels.tolist() == [0, 1, 2, 0, 1, 2, 1, 2, 1]
    assert test.labels.tolist() == [1, 2, 1]
    for split in (train, test):
        assert split.labels is not None
        middles = split.images[:][:, :, 112, 112].tolist()
        kinds = list(COLOURS.values())
        assert middles == [list(kinds[label]) for label in split.labels.tolist()]


def test_pictures_are_normalised_with_imagenets_constants(folder: Path) -> None:
    images = load("imagefolder", folder).normalised("test", torch.tensor([1]))
    assert images.shape == (1, 3, 224, 224)
    expected = (np.array(COLOURS["dog"]) / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    assert images[0, :, 0, 0].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (1000, 257), (224, 224)])
def test_the_middle_is_what_scaling_and_cutting_give(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    path = tmp_path / "x.png"
    Image.fromarray(pixels).save(path)
    width, height = size
    short = min(size)
    scaled = Image.fromarray(pixels).resize(
        (int(256 * width / short), int(256 * height / short)), Image.Resampling.BILINEAR
    )
    array = np.asarray(scaled)
    top, left = (round((side - 224) / 2) for side in array.shape[:2])
    expected = array[top : top + 224, left : left + 224].transpose(2, 0, 1)
    got = Pictures("x", [str(path)])[:]
    assert got.dtype == torch.uint8
    assert np.array_equal(got[0].numpy(), expected)


def test_grey_and_palette_pictures_become_colour(tmp_path: Path) -> None:
    for mode in ("L", "P", "RGBA", "CMYK"):
        path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.new("RGB", (30, 30), (255, 255, 255)).convert(mode).save(path)
        assert (Pictures("x", [str(path)])[:] >= 250).all(), mode


def _gradient(folder: Path) -> DataSet:
    """A picture whose red says the column and whose green says the row."""
    (folder / "train" / "a").mkdir(parents=True)
    (folder / "train" / "b").mkdir(parents=True)
    rows, columns = np.mgrid[:240, :240].astype(np.uint8)
    picture = Image.fromarray(np.stack([columns, rows, np.zeros_like(rows)], axis=2))
    for kind in ("a", "b"):
        for number in range(2):
            picture.save(folder / "train" / kind / f"{number}.png")
    return load("imagefolder", folder)


def test_training_parts_have_the_published_areas_and_ratios(tmp_path: Path) -> None:
    dataset = _gradient(tmp_path)
    train = dataset.split("train").images
    assert isinstance(train, Pictures)
    torch.manual_seed(0)
    crops = train.crops(torch.zeros(300, dtype=torch.int64)).double()
    wide = (crops[:, 0, :, -1] - crops[:, 0, :, 0]).mean(1) * 225 / 224
    high = (crops[:, 1, -1, :] - crops[:, 1, 0, :]).mean(1) * 225 / 224
    area = wide * high / 240**2
    assert AREA[0] - 0.02 < area.min() < 0.12 and 0.9 < area.max() <= 1.02
    inside = (wide < 230) & (high < 230)  # others were cut off at the sides
    ratio = (wide / high)[inside]
    assert RATIO[0] * 0.95 < ratio.min() < 0.8 and 1.25 < ratio.max() < RATIO[1] * 1.05
    # high parts are as likely as wide ones, and parts lie everywhere
    assert abs(ratio.log().mean()) < 0.05
    left = crops[:, 0, 0, 0][wide < 120]
    assert left.min() < 20 and left.max() > 110
    assert torch.equal(
        train.crops(torch.tensor([1]), torch.Generator().manual_seed(5)),
        train.crops(torch.tensor([1]), torch.Generator().manual_seed(5)),
    )


def test_training_images_are_parts_of_the_files_and_mirrored(tmp_path: Path) -> None:
    dataset = with_validation(_gradient(tmp_path), 2, 0)
    torch.manual_seed(1)
    images = training_images(dataset, torch.tensor([0, 1] * 20))
    assert images.shape == (40, 3, 224, 224)
    falls = (images[:, 0, :, -1] - images[:, 0, :, 0]).mean(1) < 0
    assert 8 <= falls.sum() <= 32
    assert (images[:, 1, -1] > images[:, 1, 0]).all()  # never upside down
    torch.manual_seed(1)
    assert torch.equal(training_images(dataset, torch.tensor([0, 1] * 20)), images)


def test_validation_pictures_are_the_right_files(folder: Path) -> None:
    dataset = with_validation(load("imagefolder", folder), 3, 0)
    held_out = dataset.split("validation")
    assert held_out.labels is not None and held_out.labels.sort().values.tolist() == [0, 1, 2]
    colours = held_out.images[:][:, :, 0, 0].tolist()
    kinds = list(COLOURS.values())
    assert colours == [list(kinds[label]) for label in held_out.labels.tolist()]
    # and so are those that stay for training
    train = dataset.split("train")
    assert train.labels is not None and len(train.labels) == 6
    parts = training_images(dataset, torch.arange(6)) * torch.tensor(dataset.std).reshape(3, 1, 1)
    colours = ((parts + torch.tensor(dataset.mean).reshape(3, 1, 1)) * 255)[:, :, 0, 0]
    assert colours.round().tolist() == [list(kinds[label]) for label in train.labels.tolist()]


def _remove(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def _both(folder: Path) -> None:
    _remove(folder / "train")
    _remove(folder / "val")


def _no_pictures(folder: Path) -> None:
    _remove(folder / "val")
    (folder / "val" / "cat").mkdir(parents=True)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (_both, "neither train nor val"),
        (_no_pictures, "val holds no CLASS/"),
        (lambda folder: (folder / "val" / "cow").mkdir(), "class 'cow' of .* is not in train"),
    ],
)
def test_folders_that_make_no_set_are_refused(
    folder: Path, damage: Callable[[Path], object], reason: str
) -> None:
    damage(folder)
    with pytest.raises(DataError, match=reason) as caught:
        load("imagefolder", folder)
    assert "\n" not in str(caught.value)


def test_val_alone_is_enough_to_run_a_network(folder: Path) -> None:
    _remove(folder / "train")
    dataset = load("imagefolder", folder)
    assert dataset.train is None and dataset.classes == 2
    assert dataset.normalised("test", slice(0, 1)).shape == (1, 3, 224, 224)


@pytest.mark.parametrize("content", [b"", b"no picture", None])
def test_a_damaged_picture_is_named(folder: Path, content: bytes | None) -> None:
    path = folder / "val" / "cat" / "000.png"
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    dataset = load("imagefolder", folder)  # nothing is read yet
    with pytest.raises(DataError, match="cat/000.png is not a picture Pillow can read") as caught:
        dataset.normalised("test")
    assert "\n" not in str(caught.value)


def test_real_pictures_are_read() -> None:
    folder = Path(os.environ.get("SPIKESHIP_DATA", "")) / "imagenette"
    if not os.environ.get("SPIKESHIP_DATA") or not folder.is_dir():
        pytest.skip("SPIKESHIP_DATA is not set, or holds no imagenette")
    dataset = load("imagefolder", folder)
    assert dataset.classes == 10
    images = dataset.normalised("test", slice(0, 100))
    # photographs of ImageNet's are about normal after ImageNet's normalisation
    assert images.mean().abs() < 0.25 and 0.8 < images.std() < 1.3
