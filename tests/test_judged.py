"""What convert says of itself: both networks on the same images, layer errors, and a remedy."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spikeship.deploy.cli.app import main
from spikeship.training.ann.network import INPUT, Layer, Network
from spikeship.training.conversion.judged import Judged, judge
from spikeship.training.conversion.pool_order import pools_behind
from spikeship.training.conversion.staged import convert_staged
from spikeship.training.snn.observe import evaluate


def classifier() -> Network:
    """A small one, with a max pool in front of its activation."""
    torch.manual_seed(0)
    layers = [
        Layer("conv", nn.Conv2d(1, 6, 3, padding=1), (INPUT,)),
        Layer("pool", nn.MaxPool2d(2), ("conv",)),
        Layer("relu", nn.ReLU(), ("pool",)),
        Layer("conv2", nn.Conv2d(6, 6, 3, padding=1), ("relu",)),
        Layer("relu2", nn.ReLU(), ("conv2",)),
        Layer("flat", nn.Flatten(), ("relu2",)),
        Layer("fc", nn.Linear(96, 5), ("flat",)),
    ]
    return Network(layers, (1, 8, 8)).eval()


def images(count: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_a_max_pool_changes_places_with_its_activation() -> None:
    ann = classifier()
    moved = pools_behind(ann)
    assert [layer.name for layer in moved.layers][:3] == ["conv", "relu", "pool"]
    x = images(4)
    assert torch.equal(moved(x), ann(x))


def test_both_are_run_on_the_same_images() -> None:
    ann = classifier()
    x = images(300)
    snn = convert_staged(ann, images(200, 2), num_steps=8)
    with torch.no_grad():
        wanted = ann(x).argmax(1)
    found = evaluate(snn, x).argmax(1)
    labels = torch.where(torch.arange(300) % 3 == 0, wanted, (wanted + 1) % 5)
    judged = judge(ann, snn, x, labels)
    assert judged.images == 300
    assert judged.agreement == pytest.approx(float((wanted == found).float().mean()))
    assert judged.classifier == pytest.approx(float((wanted == labels).float().mean()))
    assert judged.converted == pytest.approx(float((found == labels).float().mean()))
    assert judged.lost == pytest.approx(100 * (judged.classifier - judged.converted))
    blind = judge(ann, snn, x, None)
    assert blind.classifier is None and blind.lost == pytest.approx(100 * (1 - judged.agreement))


def test_errors_of_layers_fall_with_the_steps_and_show_what_is_broken() -> None:
    ann = classifier()
    x = images(100)
    few, many = (
        judge(ann, convert_staged(ann, images(200, 2), num_steps=steps, correction="none"), x, None)
        for steps in (2, 64)
    )
    assert set(few.errors) == {"relu", "relu2"}
    assert all(few.errors[name] > 4 * many.errors[name] for name in few.errors)
    assert max(many.errors.values()) < 0.01
    broken = copy.deepcopy(convert_staged(ann, images(200, 2), num_steps=64))
    with torch.no_grad():
        broken.network["conv2"].module.weight.mul_(-1)
    assert judge(ann, broken, x, None).errors["relu2"] > 0.5


def run(folder: Path, *words: Any) -> dict[str, Any]:
    out = folder / "said.json"
    assert main([*map(str, words), "--json", str(out)]) == 0
    said: dict[str, Any] = json.loads(out.read_text())
    return said


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ann") / "ann.safetensors"
    words = ["train", "vgg5", "--data", "digits", "--width", "0.25", "--batch-norm"]
    words += ["--epochs", "12", "--quiet"]
    assert main([*words, "-o", str(path)]) == 0
    return path


def test_convert_says_both_accuracies_and_what_would_do_better(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ("-o", tmp_path / "snn.nir")
    said = run(tmp_path, "convert", trained, "--data", "digits", "-T", 2, *out)
    told = capsys.readouterr()
    assert "spiking network" in told.out and "of its activations unsaid" in told.out
    assert said["lost_points"] > 2 and said["held_back"]
    assert "points are lost on" in told.err and "with --timing staged" in told.err
    assert said["tried"][0].startswith("--timing staged --encoding direct: ")
    words = ("--timing", "staged", "--encoding", "direct")
    better = run(tmp_path, "convert", trained, "--data", "digits", "-T", 2, *words, *out)
    assert better["lost_points"] < said["lost_points"] and better["timing"] == "staged"
    assert isinstance(Judged(1, None, None, 1.0).to_json()["lost_points"], float)
    assert np.isfinite(list(better["layer_errors"].values())).all()


def test_staged_networks_go_the_whole_way(trained: Path, tmp_path: Path) -> None:
    snn, net = tmp_path / "snn.nir", tmp_path / "net.safetensors"
    words = ("--timing", "staged", "--encoding", "direct", "-T", 6)
    run(tmp_path, "convert", trained, "--data", "digits", *words, "-o", snn)
    run(tmp_path, "quantize", snn, "-o", net)
    found = run(tmp_path, "simulate", net, "--data", "digits", "-n", 60)
    assert found["accuracy"] > 0.7 and found["num_steps"] == 6
    assert run(tmp_path, "verify", net, "--data", "digits", "-n", 2)["spikes_equal"]
    told = run(tmp_path, "verify", net, "--data", "digits", "-n", 4, "--against", "reference")
    assert told["spikes_equal"]
    on_chip = run(tmp_path, "estimate", net, "--data", "digits", "-n", 5, "--chip", "loihi2")
    assert on_chip["fits"]
    assert main(["estimate", str(net), "--data", "digits", "-n", "5", "--chip", "loihi1"]) == 1
