"""The training loop and its checkpoints: resumed, seeded, refused, damaged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from training_runs import IMAGES, LABELS, config, loss, model, noisy

from spikeship.training.ann.checkpoint import (
    CheckpointError,
    load_ann,
    save_ann,
)
from spikeship.training.ann.zoo import build
from spikeship.training.fit.config import EpochMetrics, FitConfig, FitError
from spikeship.training.fit.loop import fit


def _fit(network: nn.Module, settings: FitConfig, path: Path | None = None) -> list[EpochMetrics]:
    return fit(network, noisy, LABELS, settings, loss, state_path=path, quiet=True)


def _equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_seed_decides() -> None:
    models = [model() for _ in range(3)]
    for network, seed in zip(models, (5, 5, 6), strict=True):
        _fit(network, config(seed=seed))
    assert _equal(models[0], models[1])
    assert not _equal(models[0], models[2])


def test_metrics_weigh_a_short_last_batch_right() -> None:
    network = nn.Sequential(nn.Linear(6, 3))
    settings = config(epochs=1, learning_rate=1e-30, weight_decay=0.0)
    (metrics,) = fit(network, lambda i: IMAGES[i], LABELS, settings, loss, quiet=True)
    with torch.no_grad():
        value, scores = loss(network, IMAGES, LABELS)
    assert metrics.epoch == 1
    assert metrics.loss == pytest.approx(value.item(), rel=1e-6)
    assert metrics.accuracy == (scores.argmax(1) == LABELS).double().mean().item()
    assert not network.training


def test_the_rate_falls_at_the_milestones() -> None:
    settings = FitConfig(epochs=10, learning_rate=1.0, milestones=(0.6, 0.8, 0.9), decay=0.1)
    rates = [settings.rate(epoch) for epoch in range(10)]
    assert rates == pytest.approx([1] * 6 + [0.1] * 2 + [0.01, 0.001])
    assert FitConfig(epochs=1).rate(0) == FitConfig().learning_rate


def test_progress_goes_to_stderr_alone(capfd: pytest.CaptureFixture[str]) -> None:
    _fit(model(), config())
    assert capfd.readouterr() == ("", "")
    fit(model(), noisy, LABELS, config(), loss)
    out, err = capfd.readouterr()
    assert out == ""
    assert "epoch 4/4" in err
    assert "16/16" in err


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"config": config(learning_rate=0.5)}, r"differs in learning_rate\)"),
        ({"labels": LABELS.flip(0)}, r"differs in labels\)"),
        ({"model": nn.Linear(6, 3)}, r"differs in modules, starting weights\)"),
    ],
)
def test_another_runs_state_is_refused(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "state.safetensors"
    given: dict[str, Any] = {"labels": LABELS, "config": config(), "loss": loss}
    given |= {"images_of": noisy, "state_path": path, "quiet": True}
    fit(model=model(), **given)
    with pytest.raises(FitError, match=reason) as caught:
        fit(**({"model": model()} | given | changes))
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    with pytest.raises(FitError, match="lower the learning rate"):
        _fit(model(), config(learning_rate=1e30), path)
    assert not path.exists()


@pytest.mark.parametrize(
    "changes",
    [{"epochs": 0}, {"batch_size": 0}, {"learning_rate": -1.0}, {"decay": 0.0}, {"seed": -1}]
    + [{"optimizer": "lion"}, {"device": "tpu"}],
)
def test_impossible_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FitError, match=next(iter(changes))):
        config(**changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_device_is_named() -> None:
    with pytest.raises(FitError, match="'cuda' is not there"):
        _fit(model(), config(device="cuda"))


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
    network = build("vgg5", (1, 8, 8), 10)
    state = torch.get_rng_state()
    read = load_ann(ann)
    assert torch.equal(torch.get_rng_state(), state)  # reading draws no numbers
    assert (read.arch, read.input_shape, read.classes) == ("vgg5", (1, 8, 8), 10)
    assert read.data == {"name": "digits", "mean": [0.5], "std": [0.25]}
    assert read.provenance == {"seed": 0}
    assert _equal(read.model, network)
    assert not read.model.training
    assert all(value.requires_grad for value in read.model.parameters())
    assert [path.name for path in ann.parent.iterdir()] == [ann.name]


def _rewrite(path: Path, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> None:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["spikeship"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header, tensors)
    save_file(tensors, path, metadata={"spikeship": json.dumps(header)})


def _bytes(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(change(path.read_bytes()))


def _header(change: Callable[[Any], object]) -> Callable[[Path], object]:
    return lambda path: _rewrite(path, lambda header, _: change(header) and None)


def _other(**metadata: str) -> Callable[[Path], object]:
    return lambda path: save_file({"x": torch.zeros(2)}, path, metadata=metadata or None)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "truncated": _bytes(lambda whole: whole[:-100]),
    "header cut": _bytes(lambda whole: whole[:50]),
    "empty": _bytes(lambda _: b""),
    "noise": _bytes(lambda _: bytes(range(256)) * 40),
    "bit": _bytes(lambda whole: whole[:-50] + bytes([whole[-50] ^ 1]) + whole[-49:]),
    "foreign": _other(),
    "foreign header": _other(spikeship="[1, 2"),
    "kind": _header(lambda header: header.update(format="spikeship-training-state")),
    "version": _header(lambda header: header.update(version=2)),
    "classes": _header(lambda header: header.update(classes=11)),
    "arch": _header(lambda header: header.update(arch="vgg6")),
    "field": _header(lambda header: header.pop("data")),
}


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
    DAMAGES[how](path)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_ann(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("how", ["truncated", "foreign", "bit"])
def test_a_damaged_state_is_refused(tmp_path: Path, how: str) -> None:
    path = tmp_path / "state.safetensors"
    _fit(model(), config(epochs=1), path)
    DAMAGES[how](path)
    with pytest.raises(CheckpointError):
        _fit(model(), config(epochs=1), path)
