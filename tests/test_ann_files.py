"""Files of trained ANNs say how the network differs from the paper's, and older files do not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.checkpoint import CheckpointError, load_ann, save_ann
from spikeship.training.ann.zoo import build

SHAPE = (1, 16, 16)


def _save(path: Path, model: nn.Module, arch: str, width: float = 1.0) -> None:
    data = {"name": "digits", "mean": [0.5], "std": [0.25]}
    save_ann(
        path,
        model,
        arch=arch,
        input_shape=SHAPE,
        classes=7,
        data=data,
        provenance={},
        width=width,
    )


def _header(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["spikeship"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    change(header)
    save_file(tensors, path, metadata={"spikeship": json.dumps(header)})


@pytest.mark.parametrize("arch", ["vgg9", "resnet12"])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(
    ("activation", "shown"),
    [(nn.ReLU, "ReLU()"), (lambda: ClippedReLU(2.5), "level=2.5"), (lambda: QCFS(3.0, 8), "=8")],
)
def test_a_variant_comes_back_from_its_file(
    tmp_path: Path,
    arch: str,
    batch_norm: bool,
    activation: Callable[[], nn.Module],
    shown: str,
) -> None:
    torch.manual_seed(0)
    path = tmp_path / "ann.safetensors"
    options: dict[str, Any] = {"batch_norm": batch_norm, "width": 1 / 32, "activation": activation}
    model = build(arch, SHAPE, 7, **options)
    x = torch.randn(4, *SHAPE)
    model(x)  # batch norm sees something
    _save(path, model.eval(), arch, 1 / 32)
    read = load_ann(path)
    assert read.width == 1 / 32
    assert str(read.model) == str(model)
    assert shown in str(read.model)
    assert torch.equal(read.model(x), model(x))


@pytest.mark.parametrize("arch", ["vgg9", "fast9"])
@pytest.mark.parametrize("head", ["dense", "pool", None])
@pytest.mark.parametrize("pooling", ["max", "average", None])
def test_head_and_pools_come_back(tmp_path: Path, arch: str, head: Any, pooling: Any) -> None:
    path = tmp_path / "ann.safetensors"
    model = build(arch, SHAPE, 7, width=1 / 32, head=head, pooling=pooling, dropout=False).eval()
    _save(path, model, arch, 1 / 32)
    read, x = load_ann(path), torch.randn(4, *SHAPE)
    assert torch.equal(read.model(x), model(x))
    pools = [str(part) for part in model.modules() if "Pool" in type(part).__name__]
    assert [str(part) for part in read.model.modules() if "Pool" in type(part).__name__] == pools


def test_a_file_without_these_fields_is_the_papers_network(tmp_path: Path) -> None:
    path = tmp_path / "ann.safetensors"
    model = build("vgg5", SHAPE, 7).eval()
    _save(path, model, "vgg5")

    def older(header: dict[str, Any]) -> None:
        for name in ("width", "batch_norm", "activation", "head", "pooling"):
            del header[name]

    _header(path, older)
    read = load_ann(path)
    x = torch.randn(2, *SHAPE)
    assert torch.equal(read.model(x), model(x))
    assert read.width == 1.0


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("width", 0.5, "of the wrong shape"),
        ("width", -1.0, "width must be a positive factor"),
        ("width", "wide", "describes no network"),
        ("batch_norm", True, "missing, surplus"),
        ("activation", {"name": "clip"}, "missing, surplus"),
        ("activation", {"name": "tanh"}, "activation 'tanh' is not known"),
        ("activation", {"name": "qcfs"}, "describes no network .'steps'"),
        ("activation", {"name": "qcfs", "steps": 0}, "steps must be at least 1"),
        ("activation", None, "describes no network"),
        ("head", "pool", "missing, surplus"),
        ("head", "round", "head 'round' is not known"),
        ("pooling", ["max"], "is not known"),
    ],
)
def test_a_header_that_is_not_the_networks_is_refused(
    tmp_path: Path, field: str, value: Any, reason: str
) -> None:
    path = tmp_path / "ann.safetensors"
    _save(path, build("vgg5", SHAPE, 7), "vgg5")
    _header(path, lambda header: header.update({field: value}))
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_ann(path)
    assert "\n" not in str(caught.value)
