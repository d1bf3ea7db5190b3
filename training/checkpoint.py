"""Checkpoints: trained ANNs and interrupted training runs as safetensors with a JSON header.

Every file carries one metadata key, ``"spikeship"``, whose value is a JSON object: ``format``,
``version``, ``sha256`` (over all tensors) and the fields of its kind. Nothing is pickled.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from spikeship.hw_models.atomic import replacing
from spikeship.training.models import build

KEY = "spikeship"
ANN_FORMAT, ANN_VERSION = "spikeship-ann", 1
STATE_FORMAT, STATE_VERSION = "spikeship-training-state", 1


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, in one line: which file, why, and what to do."""


@dataclass(frozen=True)
class AnnCheckpoint:
    """A trained network and what it was trained on.

    Attributes:
        model: the network, in eval mode, on the CPU.
        arch: its name in ``models.ARCHITECTURES``.
        input_shape: shape of one sample, (channel, height, width).
        classes: number of classes.
        data: JSON object: name, mean and std of the data set.
        provenance: JSON object: how the file came to be.
    """

    model: nn.Module
    arch: str
    input_shape: tuple[int, ...]
    classes: int
    data: dict[str, Any]
    provenance: dict[str, Any]


@dataclass(frozen=True)
class TrainingState:
    """A training run after a whole number of epochs.

    Attributes:
        model: state dict of the model.
        optimizer: the optimizer's tensors by parameter index and key.
        run: JSON object that says which run this is; another run must not go on from here.
        history: JSON object of every epoch done so far, in order.
    """

    model: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]
    run: dict[str, Any]
    history: list[dict[str, Any]]


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
) -> None:
    """Write a trained network; the arguments are the fields of :class:`AnnCheckpoint`."""
    header = {
        "arch": arch,
        "input_shape": list(input_shape),
        "classes": classes,
        "data": data,
        "provenance": provenance,
    }
    _write(path, ANN_FORMAT, ANN_VERSION, header, model.state_dict())


def load_ann(path: Path) -> AnnCheckpoint:
    """Read what :func:`save_ann` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, of another kind or version, or its tensors
            are not those of the architecture it names.
    """
    header, tensors = _read(path, ANN_FORMAT, ANN_VERSION)
    try:
        arch, classes = str(header["arch"]), int(header["classes"])
        shape = tuple(int(n) for n in header["input_shape"])
        data, provenance = dict(header["data"]), dict(header["provenance"])
        # on "meta" nothing is drawn or allocated: the weights come from the file
        with torch.device("meta"):
            model = build(arch, shape, classes)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its header describes no network ({_line(error)}); train it again"
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
    return AnnCheckpoint(model.eval(), arch, shape, classes, data, provenance)


def save_state(path: Path, state: TrainingState) -> None:
    """Write the state of a training run."""
    tensors = {f"model/{name}": value for name, value in state.model.items()}
    for index, values in state.optimizer.items():
        tensors |= {f"optimizer/{index}/{key}": value for key, value in values.items()}
    header = {"run": state.run, "history": state.history}
    _write(path, STATE_FORMAT, STATE_VERSION, header, tensors)


def load_state(path: Path) -> TrainingState:
    """Read what :func:`save_state` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or of another kind or version.
    """
    header, tensors = _read(path, STATE_FORMAT, STATE_VERSION)
    model: dict[str, Tensor] = {}
    optimizer: dict[int, dict[str, Tensor]] = {}
    try:
        for name, value in tensors.items():
            part, rest = name.split("/", 1)
            if part == "model":
                model[rest] = value
            else:
                index, key = rest.split("/", 1)
                optimizer.setdefault(int(index), {})[key] = value
        return TrainingState(model, optimizer, dict(header["run"]), list(header["history"]))
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a whole training state ({_line(error)}); delete it to start over"
        ) from error


def _write(
    path: Path, kind: str, version: int, header: dict[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    # a copy of each, because safetensors refuses tensors that share memory
    copies = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    header = {"format": kind, "version": version, "sha256": fingerprint(copies), **header}
    with replacing(Path(path)) as temporary:
        save_file(copies, temporary, metadata={KEY: json.dumps(header)})


def _read(path: Path, kind: str, version: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file; check the path") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a whole safetensors file ({_line(error)}); make it again"
        ) from error
    try:
        header = json.loads(metadata[KEY])
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


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
