"""The training loop and its checkpoints: resumed, seeded, refused, damaged."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from spikeship.training.checkpoint import (
    CheckpointError,
    load_ann,
    load_state,
    replacing,
    save_ann,
)
from spikeship.training.data import DataError, DataSet, Split, load
from spikeship.training.loop import (
    EpochMetrics,
    FitConfig,
    FitError,
    ann_config,
    evaluate_ann,
    fit,
    train_ann,
)
from spikeship.training.models import build

LABELS = torch.arange(50) % 3
IMAGES = torch.randn(50, 6, generator=torch.Generator().manual_seed(2)) + LABELS[:, None]


def _model() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3))


def _noisy(indices: Tensor) -> Tensor:
    """Images with noise from every global generator."""
    noise = torch.randn(len(indices), 6) + float(np.random.normal()) + random.gauss()
    return IMAGES[indices] + 0.1 * noise


def _loss(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    scores: Tensor = model(x)
    return functional.cross_entropy(scores, y), scores


def _config(**changes: Any) -> FitConfig:
    settings: dict[str, Any] = {"epochs": 4, "batch_size": 16, "device": "cpu", "seed": 5}
    return FitConfig(**(settings | changes))


def _fit(model: nn.Module, config: FitConfig, path: Path | None = None) -> list[EpochMetrics]:
    return fit(model, _noisy, LABELS, config, _loss, state_path=path, quiet=True)


def _equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path: Path, optimizer: str) -> None:
    config, path = _config(optimizer=optimizer), tmp_path / "state.safetensors"
    whole, start = _model(), _model()
    history = _fit(whole, config)
    assert not _equal(whole, start)

    steps = 0

    def interrupted(indices: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        if steps > 10:  # in the third epoch of four steps each
            raise KeyboardInterrupt
        return _noisy(indices)

    with pytest.raises(KeyboardInterrupt):
        fit(_model(), interrupted, LABELS, config, _loss, state_path=path, quiet=True)
    assert len(load_state(path).history) == 2
    torch.manual_seed(99)
    resumed = _model()
    again = _fit(resumed, config, path)
    assert _equal(resumed, whole)
    assert [(entry.epoch, entry.loss, entry.accuracy) for entry in again] == [
        (entry.epoch, entry.loss, entry.accuracy) for entry in history
    ]
    # a finished run is not run again
    finished = _model()
    assert _fit(finished, config, path) == again
    assert _equal(finished, whole)


def test_the_seed_decides() -> None:
    models = [_model() for _ in range(3)]
    for model, seed in zip(models, (5, 5, 6), strict=True):
        _fit(model, _config(seed=seed))
    assert _equal(models[0], models[1])
    assert not _equal(models[0], models[2])


def test_metrics_weigh_a_short_last_batch_right() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    config = _config(epochs=1, learning_rate=1e-30, weight_decay=0.0)
    (metrics,) = fit(model, lambda indices: IMAGES[indices], LABELS, config, _loss, quiet=True)
    with torch.no_grad():
        loss, scores = _loss(model, IMAGES, LABELS)
    assert metrics.epoch == 1
    assert metrics.loss == pytest.approx(loss.item(), rel=1e-6)
    assert metrics.accuracy == (scores.argmax(1) == LABELS).double().mean().item()
    assert not model.training


def test_the_rate_falls_at_the_milestones() -> None:
    config = FitConfig(epochs=10, learning_rate=1.0, milestones=(0.6, 0.8, 0.9), decay=0.1)
    rates = [config.rate(epoch) for epoch in range(10)]
    assert rates == pytest.approx([1] * 6 + [0.1] * 2 + [0.01, 0.001])
    assert FitConfig(epochs=1).rate(0) == FitConfig().learning_rate
    assert ann_config((1, 8, 8), epochs=7, seed=3) == FitConfig(
        epochs=7, learning_rate=0.05, seed=3
    )
    assert ann_config((3, 32, 32)) == FitConfig()


def test_progress_goes_to_stderr_alone(capfd: pytest.CaptureFixture[str]) -> None:
    _fit(_model(), _config())
    assert capfd.readouterr() == ("", "")
    fit(_model(), _noisy, LABELS, _config(), _loss)
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch 4/4" in err
    assert "16/16" in err


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config": _config(learning_rate=0.5)}, r"differs in learning_rate\)"),
        ({"labels": LABELS.flip(0)}, r"differs in labels\)"),
        ({"model": nn.Linear(6, 3)}, r"differs in starting weights\)"),
    ],
)
def test_another_runs_state_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "state.safetensors"
    given: dict[str, Any] = {"labels": LABELS, "config": _config(), "loss": _loss}
    given |= {"images_of": _noisy, "state_path": path, "quiet": True}
    fit(model=_model(), **given)
    with pytest.raises(FitError, match=reason) as caught:
        fit(**({"model": _model()} | given | changes))
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(FitError, match="lower the learning rate"):
        _fit(_model(), _config(learning_rate=1e30), path)
    assert not path.exists()


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": -1.0}, {"decay": 0.0}, {"seed": -1}]
    + [{"optimizer": "lion"}, {"device": "tpu"}],
)
def test_impossible_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FitError, match=next(iter(changes))):
        _config(**changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_named() -> None:
    with pytest.raises(FitError, match="'cuda' is not there"):
        _fit(_model(), _config(device="cuda"))


def test_vgg5_learns_the_digits() -> None:
    digits = load("digits")
    torch.manual_seed(0)
    model = build("vgg5", (1, 8, 8), 10)
    config = ann_config(digits.input_shape, epochs=30, device="cpu")
    train_ann(model, digits, config, quiet=True)
    assert digits.test is not None and digits.test.labels is not None
    predictions = evaluate_ann(model, digits.normalised("test"), batch_size=64)
    assert predictions.shape == (500,)
    assert (predictions == digits.test.labels).double().mean() >= 0.95
    with pytest.raises(DataError, match="no labelled training images"):
        train_ann(model, DataSet("x", None, digits.test, 10, (0.0,), (1.0,)), config)


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
    dataset = DataSet("cifar10", split, None, 3, (0.5, 0.4, 0.3), (0.2, 0.3, 0.1))
    train_ann(watching, dataset, _config(epochs=1, batch_size=60), quiet=True)
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


@pytest.fixture(scope="module")
def ann(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ann") / "deep" / "ann.safetensors"
    torch.manual_seed(0)
    _save(path)
    return path


def _save(path: Path) -> None:
    save_ann(
        path,
        build("vgg5", (1, 8, 8), 10),
        arch="vgg5",
        input_shape=(1, 8, 8),
        classes=10,
        data={"name": "digits", "mean": [0.5], "std": [0.25]},
        provenance={"seed": 0},
    )


def test_an_ann_comes_back_from_its_file(ann: Path) -> None:
    torch.manual_seed(0)
    model = build("vgg5", (1, 8, 8), 10)
    state = torch.get_rng_state()
    read = load_ann(ann)
    assert torch.equal(torch.get_rng_state(), state)  # reading draws no numbers
    assert (read.arch, read.input_shape, read.classes) == ("vgg5", (1, 8, 8), 10)
    assert read.data == {"name": "digits", "mean": [0.5], "std": [0.25]}
    assert read.provenance == {"seed": 0}
    assert _equal(read.model, model)
    assert not read.model.training
    assert all(value.requires_grad for value in read.model.parameters())
    assert [path.name for path in ann.parent.iterdir()] == [ann.name]


def _rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["spikeship"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    change(header, tensors)
    save_file(tensors, path, metadata={"spikeship": json.dumps(header)})


def _damage(path: Path, how: str) -> None:
    whole = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "truncated":
        path.write_bytes(whole[:-100])
    elif how == "header cut":
        path.write_bytes(whole[:50])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "noise":
        path.write_bytes(bytes(range(256)) * 40)
    elif how == "bit":
        path.write_bytes(whole[:-50] + bytes([whole[-50] ^ 1]) + whole[-49:])
    elif how == "foreign":
        save_file({"x": torch.zeros(2)}, path)
    elif how == "foreign header":
        save_file({"x": torch.zeros(2)}, path, metadata={"spikeship": "[1, 2"})
    elif how == "kind":
        _rewrite(path, lambda header, _: header.update(format="spikeship-training-state"))
    elif how == "version":
        _rewrite(path, lambda header, _: header.update(version=2))
    elif how == "classes":
        _rewrite(path, lambda header, _: header.update(classes=11))
    elif how == "arch":
        _rewrite(path, lambda header, _: header.update(arch="vgg6"))
    elif how == "field":
        _rewrite(path, lambda header, _: header.pop("data") and None)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("missing", "no such file"),
        ("truncated", "not a whole safetensors file"),
        ("header cut", "not a whole safetensors file"),
        ("empty", "not a whole safetensors file"),
        ("noise", "not a whole safetensors file"),
        ("bit", "checksum"),
        ("foreign", "without a Spikeship header"),
        ("foreign header", "without a Spikeship header"),
        ("kind", "where a 'spikeship-ann' is needed"),
        ("version", "version 2"),
        ("classes", "classifier.fc3.weight missing, surplus or of the wrong shape"),
        ("arch", "'vgg6' is not known"),
        ("field", "'data'"),
    ],
)
def test_a_damaged_ann_is_refused_in_one_line(tmp_path: Path, how: str, reason: str) -> None:
    path = tmp_path / "ann.safetensors"
    _save(path)
    _damage(path, how)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_ann(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("how", ["truncated", "foreign", "bit"])
def test_a_damaged_state_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "state.safetensors"
    _fit(_model(), _config(epochs=1), path)
    _damage(path, how)
    with pytest.raises(CheckpointError):
        _fit(_model(), _config(epochs=1), path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
