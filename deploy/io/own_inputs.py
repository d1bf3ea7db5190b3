"""A user's own pictures or arrays, brought to the shape and statistics a network takes."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.inputs import Images
from spikeship.hw_models.errors import InputError, reason
from spikeship.hw_models.graph import FixedGraph
from spikeship.training.data.readers import npz
from spikeship.training.data.readers.pictures import open_picture


def read_own(path: Path, graph: FixedGraph, limit: int | None = None) -> Images:
    """Read one picture, or the images of an ``.npz`` file.

    A picture is turned to the network's channels and scaled to its sides; an ``.npz`` file holds
    them under ``x``, ``x_test`` or as its only array, uint8 (0..255) or floats 0..1, with or
    without the channel axis where there is one channel. Both are normalised with the mean and
    std the network was trained with. A network with ``spikes`` input takes integer messages
    (images, T, *shape) as they are.

    Raises:
        DeployError: missing, unreadable, or of another shape.
    """
    if not path.is_file():
        raise DeployError(f"{path}: no such file")
    values = _arrays(path, limit) if path.suffix == ".npz" else _picture(path, graph)
    if graph.input.encoding == "spikes":
        steps_shape = tuple(values.shape[2:])
        if steps_shape != graph.input.shape:
            raise DeployError(
                f"{path}: messages have shape {tuple(values.shape)}, the network takes (images, "
                f"T, {', '.join(map(str, graph.input.shape))})"
            )
        rates = values.float().mean(1)
        return Images(rates, None, torch.arange(len(values)), {}, messages=values)
    if values.ndim == len(graph.input.shape) and graph.input.shape[0] == 1:
        values = values.unsqueeze(1)
    if tuple(values.shape[1:]) != graph.input.shape:
        raise DeployError(
            f"{path}: images have shape {tuple(values.shape[1:])}, the network takes "
            f"{graph.input.shape}"
        )
    if values.dtype == torch.uint8:
        values = values.float() / 255
    elif not (values.is_floating_point() or values.dtype == torch.bool):
        raise DeployError(f"{path}: holds {values.dtype}; give uint8 (0..255) or floats (0..1)")
    data = dict(graph.metadata.get("data") or {})
    axes = (1, -1, *[1] * (len(graph.input.shape) - 1))
    mean, std = (torch.tensor(data.get(key) or [default]) for key, default in _NEUTRAL)
    normalised = (values.float() - mean.reshape(axes)) / std.reshape(axes)
    return Images(normalised, None, torch.arange(len(values)), data)


_NEUTRAL = (("mean", 0.0), ("std", 1.0))


def _arrays(path: Path, limit: int | None) -> Tensor:
    known = list(npz.headers(path))
    names: list[str] = [name for name in ("x", "x_test") if name in known]
    if not names and len(known) == 1:
        names = known
    if not names:
        raise DeployError(f"{path}: holds {known[:10]}; name the images x or x_test")
    values = npz.read(path, names[0], limit)
    if values.dtype.kind not in "fiub" or len(values) == 0:
        raise DeployError(f"{path}: {values.dtype} array of {len(values)} images; give numbers")
    try:
        return torch.from_numpy(np.array(values))
    except TypeError as error:
        raise DeployError(f"{path}: torch has no {values.dtype}; give uint8 or float32") from error


def _picture(path: Path, graph: FixedGraph) -> Tensor:
    if len(graph.input.shape) != 3 or graph.input.shape[0] not in (1, 3):
        raise DeployError(
            f"{path}: the network takes {graph.input.shape}, which no picture is; give an .npz file"
        )
    channels, height, width = graph.input.shape
    try:
        with open_picture(path) as picture:
            if picture.mode.startswith(("I", "F")):
                raise InputError(f"mode {picture.mode} holds more than 8 bits; save it with 8")
            scaled = picture.convert("L" if channels == 1 else "RGB").resize((width, height))
    except Exception as error:  # damaged files make Pillow raise many kinds
        raise DeployError(
            f"{path}: not a picture that can be read ({reason(error)}); give a PNG or JPEG file"
        ) from error
    values = np.array(scaled).reshape(1, height, width, channels)
    return torch.from_numpy(values.transpose(0, 3, 1, 2).copy())
