"""Training and running classifiers: on a set, varied, chosen by images kept for it."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from training_runs import config

from spikeship.training.ann.zoo import build
from spikeship.training.data.load import DataError, DataSet, Split, load, with_validation
from spikeship.training.fit.classifier import ann_config, evaluate_ann, train_ann
from spikeship.training.fit.config import FitConfig


def test_narrow_networks_train_longer_and_faster() -> None:
    assert ann_config((1, 8, 8), epochs=7, seed=3) == FitConfig(
        epochs=7, learning_rate=0.05, seed=3
    )
    assert ann_config((3, 32, 32)) == FitConfig()


def test_vgg5_learns_the_digits() -> None:
    digits = load("digits")
    torch.manual_seed(0)
    model = build("vgg5", (1, 8, 8), 10)
    settings = ann_config(digits.input_shape, epochs=30, device="cpu")
    train_ann(model, digits, settings, quiet=True)
    assert digits.test is not None and digits.test.labels is not None
    predictions = evaluate_ann(model, digits.normalised("test"), batch_size=64)
    assert predictions.shape == (500,)
    assert (predictions == digits.test.labels).double().mean() >= 0.95
    with pytest.raises(DataError, match="no labelled training images"):
        train_ann(model, DataSet("x", None, digits.test, 10, (0.0,), (1.0,)), settings)


class Watching(nn.Module):
    """Keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach().clone())
        return self.scale * x.mean((2, 3))


def test_cifar10_is_shifted_and_mirrored_at_random() -> None:
    # every pixel says where it was: its row, its column, and that it was inside
    row, column = torch.meshgrid(torch.arange(32) + 1, torch.arange(32) + 1, indexing="ij")
    image = torch.stack([row, column, torch.full((32, 32), 200)]).to(torch.uint8)
    split = Split(image.repeat(60, 1, 1, 1), torch.zeros(60, dtype=torch.int64))
    watching = Watching()
    dataset = DataSet(
        "cifar10", split, None, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.1), augmentation="shift-flip"
    )
    train_ann(watching, dataset, config(epochs=1, batch_size=60), quiet=True)
    mean, std = (torch.tensor(value).reshape(3, 1, 1) for value in (dataset.mean, dataset.std))
    (seen,) = (((batch * std + mean) * 255).round() for batch in watching.seen)
    padded = functional.pad(image, (4, 4, 4, 4))
    windows = set()
    for got in seen:
        mirrored = bool(got[1, 16, 15] > got[1, 16, 16])
        top = int(got[0, 16, 16]) - 13
        left = int(got[1, 16, 15 if mirrored else 16]) - 13
        wanted = padded[:, top : top + 32, left : left + 32]
        assert torch.equal(got, wanted.flip(-1) if mirrored else wanted)
        windows.add((top, left, mirrored))
    assert len(windows) > 40
    assert {top for top, *_ in windows} == {left for _, left, _ in windows} == set(range(9))
    assert {mirrored for *_, mirrored in windows} == {False, True}


class Untouchable(torch.Tensor):
    """Images that nobody may look at."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        raise AssertionError("test images were looked at")


def test_validation_images_choose_and_test_images_stay_unread() -> None:
    digits = with_validation(load("digits"), 200, seed=1)
    assert digits.validation is not None and digits.validation.labels is not None
    locked = digits.test.images.as_subclass(Untouchable) if digits.test else None
    digits = replace(digits, test=Split(locked, None))
    torch.manual_seed(0)
    model = build("vgg5", (1, 8, 8), 10)
    settings = ann_config(digits.input_shape, epochs=8, learning_rate=0.1, device="cpu")
    history = train_ann(model, digits, settings, quiet=True)
    validated = [entry.validation or 0.0 for entry in history]
    assert len(set(validated)) > 2
    predictions = evaluate_ann(model, digits.normalised("validation"))
    right = (predictions == digits.validation.labels).double().mean().item()
    assert right == max(validated)


def test_validation_images_need_labels() -> None:
    digits = load("digits")
    assert digits.test is not None
    dataset = replace(digits, validation=Split(digits.test.images, None))
    with pytest.raises(DataError, match="validation images have no labels"):
        train_ann(build("vgg5", (1, 8, 8), 10), dataset, config(), quiet=True)
