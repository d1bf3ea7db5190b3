"""Sets as networks take them: messages as they come, and pictures that are read when asked for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from spikeship.deploy.cli.app import main
from spikeship.deploy.io import network_file as files
from spikeship.deploy.io.inputs import CHUNK, load_images, messages_of
from spikeship.deploy.run.evaluate import evaluate_network
from spikeship.training.ann.network import Network
from spikeship.training.conversion.convert import convert
from spikeship.training.data.load import DataError
from spikeship.training.fit.classifier import evaluate_ann
from spikeship.training.frontends.trace import trace

STEPS = 6


def camera_factory() -> nn.Module:
    """What --arch test_inputs:camera_factory makes."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 7, stride=5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 3)
    )


def _say(tmp_path: Path, *arguments: Any) -> dict[str, Any]:
    said = tmp_path / "said.json"
    words = [str(argument) for argument in arguments]
    assert main([*words, "--json", str(said), "--quiet"]) == 0
    result: dict[str, Any] = json.loads(said.read_text())
    return result


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A camera's recordings of three classes: a line at another place each."""
    random = np.random.default_rng(0)
    folder = tmp_path / "data"
    for part in ("Train", "Test"):
        for number in range(24):
            label = number % 3
            events = 400
            columns = np.stack(
                [
                    random.integers(0, 34, events),
                    random.integers(10 * label, 10 * label + 5, events),
                    random.integers(0, 2, events) << 7,
                    *random.integers(0, 256, (2, events)),
                ]
            )
            columns[2] |= random.integers(0, 4, events)  # the high bits of the time
            path = folder / part / str(label) / f"{number:05}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(columns.T.astype(np.uint8).tobytes())
    return folder


def test_a_cameras_messages_go_the_whole_way(
    tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--data", f"n-mnist:{STEPS}", "--data-dir", recordings)
    snn, tuned, net = (tmp_path / name for name in ("snn.nir", "tuned.nir", "net.safetensors"))
    monkeypatch.chdir(Path(__file__).parent)
    arch = ("--arch", "test_inputs:camera_factory", "--untrained")
    _say(tmp_path, "convert", *arch, *data, "-T", STEPS, "--encoding", "spikes", "-o", snn)
    told = _say(tmp_path, "finetune", snn, *data, "--epochs", 12, "--lr", "1e-2", "-o", tuned)
    assert told["images"] == 24 and told["accuracy"] > 0.9
    _say(tmp_path, "quantize", tuned, "--chip", "loihi2", *data, "-o", net)
    found = _say(tmp_path, "simulate", net, *data)
    assert found["accuracy"] == pytest.approx(told["accuracy"], abs=0.1)
    checked = _say(tmp_path, "verify", net, "--against", "reference", *data, "-n", 4)
    assert checked["spikes_equal"] and checked["spikes_compared"] > 0
    report = ("--report", tmp_path / "report.html")
    rows = _say(tmp_path, "compare", *arch, "--snn", tuned, "--net", net, *data, *report)["rows"]
    assert [row["stage"] for row in rows] == ["ann", "hybrid", "integer"]
    # what the network is fed is what the camera saw
    graph = files.load(net)
    images = load_images(data[1], recordings, encoding="spikes", input_shape=(2, 34, 34))
    assert images.messages is not None
    assert np.array_equal(messages_of(graph, images, seed=9), images.messages[:].numpy())
    assert torch.equal(images.values[:], images.messages[:].float().mean(1))


def test_arrays_of_messages_reach_the_network_as_they_are(tmp_path: Path, recordings: Path) -> None:
    camera = load_images(f"n-mnist:{STEPS}", recordings)
    assert camera.messages is not None and camera.labels is not None
    network = trace(camera_factory(), (2, 34, 34))
    spiking = convert(network, camera.messages[:], num_steps=STEPS, encoding="spikes")
    path = tmp_path / "own.npz"
    np.savez(path, x_test=camera.messages[:].numpy(), y_test=camera.labels)
    own = load_images(f"npz:{path}", None, encoding="spikes")
    first, second = (evaluate_network(spiking, images, seed=0) for images in (camera, own))
    assert np.array_equal(first.scores, second.scores)
    assert np.abs(first.scores).max() > 0
    assert camera.first(5).part(slice(1, 3)).messages is not None
    picked = evaluate_network(spiking, camera.first(5).part(slice(1, 3)), seed=0)
    assert np.array_equal(picked.scores, first.scores[1:3])


def test_images_are_no_messages(recordings: Path) -> None:
    camera = load_images(f"n-mnist:{STEPS}", recordings)
    assert camera.messages is not None
    network = trace(camera_factory(), (2, 34, 34))
    spiking = convert(network, camera.messages[:], num_steps=STEPS, encoding="spikes")
    with pytest.raises(DataError, match="digits: holds images, the network takes spikes") as caught:
        evaluate_network(spiking, load_images("digits", None), seed=0)
    assert "\n" not in str(caught.value)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three classes of plain colours, more pictures than are run at once."""
    random = np.random.default_rng(0)
    for part, count in (("train", 8), ("val", CHUNK // 3 + 2)):
        for channel in range(3):
            folder = tmp_path / "pictures" / part / "abc"[channel]
            folder.mkdir(parents=True)
            for number in range(count):
                colour = random.integers(0, 60, 3)
                colour[channel] = 250
                Image.new("RGB", (40, 30), tuple(colour.tolist())).save(folder / f"{number}.png")
    return tmp_path / "pictures"


def _colour_classifier() -> Network:
    """Answers the channel that is brightest."""
    conv, dense = nn.Conv2d(3, 3, 56, stride=56), nn.Linear(48, 3)
    with torch.no_grad():
        for module in (conv, dense):
            assert module.bias is not None
            module.weight.zero_()
            module.bias.zero_()
        for channel in range(3):
            conv.weight[channel, channel] = 1 / 56**2
            dense.weight[channel, 16 * channel : 16 * channel + 16] = 1 / 16
    return trace(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), dense), (3, 224, 224))


def test_pictures_are_run_without_ever_being_all_in_memory(
    pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = load_images("imagefolder", pictures)
    count = len(images.values)
    assert images.values.shape == (count, 3, 224, 224) and count > CHUNK
    assert not isinstance(images.values, torch.Tensor)
    read: list[int] = []
    original = type(images.values).__getitem__

    def watched(self: Any, indices: Any) -> torch.Tensor:
        values = original(self, indices)
        read.append(len(values))
        return values

    monkeypatch.setattr(type(images.values), "__getitem__", watched)
    network = _colour_classifier()
    answers = evaluate_ann(network, images.values, batch_size=32)
    assert images.correct(answers.numpy()) == count
    train = load_images("imagefolder", pictures, split="train")
    spiking = convert(
        network, train.values[:6], num_steps=4, balance_steps=4, peak=train.peak(), data=images.data
    )
    found = evaluate_network(spiking, images, seed=0)
    assert images.correct(found.predictions) == count
    assert max(read) < count and sum(read) >= 2 * count


def test_the_peak_of_pictures_is_looked_for_in_the_first_of_them(pictures: Path) -> None:
    images = load_images("imagefolder", pictures, split="train")
    assert images.peak() == pytest.approx(float(images.values[:].abs().max()))
