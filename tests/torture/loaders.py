"""Every kind of file that Spikeship reads: how a good one is made, and the public way in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

import spikeship as ss
from spikeship.hw_models.graph import FixedGraph

LIMIT = 2  # images, wherever they are read


class Small(nn.Module):
    """What the files hold: a convolution, a pool and two dense layers for 1 x 8 x 8 images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2))
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 12), nn.ReLU(), nn.Linear(12, 10)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of images (batch, 1, 8, 8)."""
        scores: torch.Tensor = self.classifier(self.features(x))
        return scores


def small() -> nn.Module:
    """The module, for ``module:function``."""
    return Small()


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: what the damaged copy is called.
        load: reads it, by the public way.
    """

    name: str
    load: Callable[[Path], Any]


def make(folder: Path) -> None:
    """Write a good file of every kind into a folder, each in a folder of its own."""
    from net_files import conv, dense, write_net

    for name in KINDS:
        (folder / name).mkdir(parents=True)
    trained = ss.train("vgg5", "digits", epochs=1, width=0.125, device="cpu")
    ss.save(trained, folder / "classifier" / "a.safetensors")
    model = Small().eval()
    snn = ss.convert(model, "digits", num_steps=4)
    ss.save(snn, folder / "nir" / "a.nir")
    ss.save(ss.quantize(snn), folder / "integers" / "a.safetensors")
    with torch.no_grad():
        torch.onnx.export(
            model, (torch.zeros(1, 1, 8, 8),), folder / "onnx" / "a.onnx", dynamo=False
        )
    torch.save(model.state_dict(), folder / "weights" / "a.pth")
    write_net(
        folder / "net" / "a.net",
        [
            {"type": "input", "shape": [1, 6, 5]},
            conv(np.ones((2, 1, 3, 3)) * 20 - 7, [2, 4, 3], delay=[1] * 2),
            {"type": "flatten"},
            dense(np.arange(96).reshape(4, 24) - 40),
        ],
        10,
    )
    images = np.random.default_rng(0).random((20, 1, 8, 8)).astype(np.float32)
    labels = np.arange(20) % 10
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez_compressed(folder / "set" / "a.npz", **arrays)
    np.savez_compressed(folder / "own" / "a.npz", x=images)
    for part in ("png", "jpeg"):
        suffix = {"png": "png", "jpeg": "jpg"}[part]
        pixels = (images[0, 0] * 255).astype(np.uint8)
        Image.fromarray(pixels).resize((40, 30)).save(folder / part / f"a.{suffix}")
    _raw_sets(folder)
    _json(folder)
    _state(folder)


def _raw_sets(folder: Path) -> None:
    import gzip
    import struct

    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("t10k", 10)):
        pixels, kinds = rng.integers(0, 256, (count, 28, 28)), rng.integers(0, 10, count)
        where = folder / "gzip" / "mnist"
        where.mkdir(exist_ok=True)
        for name, values in (("images-idx3", pixels), ("labels-idx1", kinds)):
            header = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
            content = header + values.astype(np.uint8).tobytes()
            (where / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(content))
    where = folder / "cifar" / "cifar-10-batches-bin"
    where.mkdir()
    records = rng.integers(0, 256, (4, 3073)).astype(np.uint8)
    records[:, 0] %= 10
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (where / f"{name}.bin").write_bytes(records.tobytes())
    events: dict[str, Any] = {}
    for part in ("train", "test"):
        for key, most in (("x", 34), ("y", 34), ("p", 2), ("t_us", 300_000)):
            events[f"{part}_{key}"] = rng.integers(0, most, 40)
        events[f"{part}_offsets"] = np.array([0, 15, 40])
        events[f"{part}_label"] = np.array([3, 7])
    np.savez(folder / "events" / "nmnist_small.npz", **events)


def _json(folder: Path) -> None:
    import shutil
    from importlib.resources import files

    import gpu_results

    example = str(files("spikeship.deploy.validation").joinpath("example.json"))
    shutil.copyfile(example, folder / "rows" / "a.json")
    gpu_results.result(folder / "gpu", gpu_results.row("one")).rename(folder / "gpu" / "a.json")


def _state(folder: Path) -> None:
    from spikeship.training.fit.state import TrainingState, save_state

    tensors = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    state = TrainingState(tensors, {0: {"momentum": torch.ones(3, 2)}}, {"seed": 0}, [])
    save_state(folder / "state" / "a.state", state)


def _net() -> FixedGraph:
    return ss.quantize(ss.convert(Small().eval(), "digits", num_steps=4))


_kept: list[FixedGraph] = []


def _known() -> FixedGraph:
    """The network that pictures and arrays are read for; made once."""
    if not _kept:
        _kept.append(_net())
    return _kept[0]


def _run(graph: Any) -> None:
    """What was accepted also runs, or is refused then."""
    ss.verify(graph, against="reference")


def _own(path: Path) -> None:
    ss.predict(_known(), path, limit=LIMIT)


def _gpu(path: Path) -> None:
    from spikeship.deploy.analysis.gpu_row import read_gpu_result

    read_gpu_result(path, macs=None)


def _loaded_state(path: Path) -> None:
    from spikeship.training.fit.state import load_state

    load_state(path)


def _rows(path: Path) -> None:
    from spikeship.deploy.validation.rows import read_rows

    read_rows(path)


def _sized(name: str, path: Path) -> None:
    ss.load_data(name, path, limit=LIMIT)


def _weights(path: Path) -> None:
    ss.load_ann("torture.loaders:small", weights=path, input_shape=(1, 8, 8))


KINDS: dict[str, Kind] = {
    "net": Kind("a.net", lambda path: _run(ss.load(path))),
    "nir": Kind("a.nir", lambda path: ss.quantize(path)),
    "classifier": Kind("a.safetensors", lambda path: ss.load(path)),
    "integers": Kind("a.safetensors", lambda path: _run(ss.load(path))),
    "onnx": Kind("a.onnx", lambda path: ss.load(path)),
    "weights": Kind("a.pth", _weights),
    "set": Kind("a.npz", lambda path: _sized(f"npz:{path}", path.parent)),
    "own": Kind("a.npz", _own),
    "png": Kind("a.png", _own),
    "jpeg": Kind("a.jpg", _own),
    "gzip": Kind("mnist/train-images-idx3-ubyte.gz", lambda p: _sized("mnist", p.parents[1])),
    "cifar": Kind(
        "cifar-10-batches-bin/data_batch_2.bin", lambda p: _sized("cifar10", p.parents[1])
    ),
    "events": Kind("nmnist_small.npz", lambda path: _sized("n-mnist", path.parent)),
    "rows": Kind("a.json", _rows),
    "gpu": Kind("a.json", _gpu),
    "state": Kind("a.state", _loaded_state),
}
