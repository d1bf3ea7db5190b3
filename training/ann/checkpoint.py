"""Checkpoints: trained ANNs as safetensors with a JSON header, and the container they share.

Every file carries one metadata key, ``"spikeship"``, whose value is a JSON object: ``format``,
``version``, ``sha256`` (over all tensors) and the fields of its kind. Nothing is pickled.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from spikeship.hw_models.atomic import replacing
from spikeship.hw_models.errors import InputError, SpikeshipError, reason
from spikeship.hw_models.json_text import parse
from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.vgg import VGGS
from spikeship.training.ann.zoo import build
from spikeship.training.choices import Head, Pooling
from spikeship.training.statistics import check_statistics

KEY = "spikeship"
ANN_FORMAT, ANN_VERSION = "spikeship-ann", 1


class CheckpointError(SpikeshipError, ValueError):
    """A checkpoint that cannot be read, in one line: which file, why, and what to do."""


@dataclass(frozen=True)
class AnnCheckpoint:
    """A trained network and what it was trained on.

    Attributes:
        model: the network, in eval mode, on the CPU.
        arch: its name in ``zoo.ARCHITECTURES``.
        input_shape: shape of one sample, (channel, height, width).
        classes: number of classes.
        data: JSON object: name, mean and std of the data set.
        provenance: JSON object: how the file came to be.
        width: factor on the architecture's hidden channels and units.
    """

    model: nn.Module
    arch: str
    input_shape: tuple[int, ...]
    classes: int
    data: dict[str, Any]
    provenance: dict[str, Any]
    width: float = 1.0


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of ``tensors``, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}|{value.dtype}|{tuple(value.shape)}|".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_ann(
    path: Path,
    model: nn.Module,
    *,
    arch: str,
    input_shape: Sequence[int],
    classes: int,
    data: dict[str, Any],
    provenance: dict[str, Any],
    width: float = 1.0,
) -> None:
    """Write a trained network; the arguments are the fields of :class:`AnnCheckpoint`.

    Whether it has batch norm, what stands for its ReLUs, how it pools and what head a VGG has, is
    read off the model.
    """
    header = {
        "arch": arch,
        "input_shape": list(input_shape),
        "classes": classes,
        "data": data,
        "provenance": provenance,
        "width": width,
        "batch_norm": any(isinstance(module, nn.BatchNorm2d) for module in model.modules()),
        "activation": _said(model),
        "pooling": _pooling(model),
        "head": _head(model, arch),
    }
    write_checked(path, ANN_FORMAT, ANN_VERSION, header, model.state_dict())


def load_ann(path: Path) -> AnnCheckpoint:
    """Read what :func:`save_ann` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind or version, or its tensors
            are not those of the architecture it names.
    """
    header, tensors = read_checked(path, ANN_FORMAT, ANN_VERSION)
    try:
        arch, classes = str(header["arch"]), int(header["classes"])
        shape = tuple(int(n) for n in header["input_shape"])
        data, provenance = dict(header["data"]), dict(header["provenance"])
        check_statistics(data)
        width = float(header.get("width", 1.0))
        # on "meta" nothing is drawn or allocated: the weights come from the file
        with torch.device("meta"):
            model = build(
                arch,
                shape,
                classes,
                batch_norm=bool(header.get("batch_norm", False)),
                width=width,
                activation=_activation(header.get("activation", {"name": "relu"})),
                head=_known(header, "head", Head),
                pooling=_known(header, "pooling", Pooling),
            )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its header describes no network ({reason(error)}); train it again"
        ) from error
    expected = model.state_dict()
    wrong = sorted(expected.keys() ^ tensors.keys()) + sorted(
        name
        for name in expected.keys() & tensors.keys()
        if (expected[name].shape, expected[name].dtype)
        != (tensors[name].shape, tensors[name].dtype)
    )
    if wrong:
        raise CheckpointError(
            f"{path}: {', '.join(wrong)} missing, surplus or of the wrong shape for {arch} with "
            f"input {shape} and {classes} classes; train it again"
        )
    model.load_state_dict(tensors, assign=True)
    return AnnCheckpoint(model.eval(), arch, shape, classes, data, provenance, width)


def _said(model: nn.Module) -> dict[str, Any]:
    """What stands for a model's ReLUs, as a JSON object."""
    for module in model.modules():
        if isinstance(module, QCFS):
            return {"name": "qcfs", "steps": module.steps}
        if isinstance(module, ClippedReLU):
            return {"name": "clip"}
    return {"name": "relu"}


def _pooling(model: nn.Module) -> Pooling | None:
    """What a model's pools take where that is not the average."""
    return "max" if any(isinstance(part, nn.MaxPool2d) for part in model.modules()) else None


def _head(model: nn.Module, arch: str) -> Head | None:
    """Which head a VGG has; None of other networks, which have but one."""
    if arch not in VGGS:
        return None
    dense = sum(isinstance(part, nn.Linear) for part in model.modules())
    return "dense" if dense > 1 else "pool"


def _known(header: dict[str, Any], name: str, kind: Any) -> Any:
    """One of a Literal's values, or None.

    Raises:
        ValueError: something else.
    """
    value = header.get(name)
    if value is not None and value not in get_args(kind):
        raise InputError(f"{name} {value!r} is not known")
    return value


def _activation(said: dict[str, Any]) -> Callable[[], nn.Module]:
    """Give the maker of what :func:`_said` says; its levels are among the tensors."""
    match said["name"]:
        case "relu":
            return nn.ReLU
        case "clip":
            return lambda: ClippedReLU(1.0)
        case "qcfs":
            steps = int(said["steps"])
            return lambda: QCFS(1.0, steps)
    raise InputError(f"activation {said['name']!r} is not known")


def write_checked(
    path: Path, kind: str, version: int, header: dict[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write tensors whole or not at all, with their header and checksum.

    Args:
        path: the file; its folder is made.
        kind: the header's ``format``.
        version: of that format.
        header: JSON object, the fields of the kind.
        tensors: by name, on any device.
    """
    # a copy of each, because safetensors refuses tensors that share memory
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    header = {"format": kind, "version": version, "sha256": fingerprint(copies), **header}
    with replacing(Path(path)) as temporary:
        save_file(copies, temporary, metadata={KEY: json.dumps(header)})


def read_checked(path: Path, kind: str, version: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read what :func:`write_checked` wrote: the header and the tensors, on the CPU.

    Raises:
        CheckpointError: the file is missing, damaged, or of another kind or version.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file; check the path") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({reason(error)}); make it again"
        ) from error
    try:
        header = parse(metadata[KEY])
        found = (header["format"], header["version"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: a safetensors file without a Spikeship header; give one that Spikeship wrote"
        ) from error
    if found[0] != kind:
        raise CheckpointError(f"{path}: holds a {found[0]!r}, where a {kind!r} is needed")
    if found[1] != version:
        raise CheckpointError(
            f"{path}: is version {found[1]!r} of {kind}, this Spikeship reads version {version}; "
            "make it again, or use the Spikeship that wrote it"
        )
    if header.get("sha256") != fingerprint(tensors):
        raise CheckpointError(f"{path}: its tensors do not match its checksum; make it again")
    return header, tensors
