"""The trained classifier a user brings, whatever it comes in, as one thing that can be run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from spikeship.deploy.errors import DeployError
from spikeship.hw_models.errors import reason
from spikeship.hw_models.events.macs import conv_macs
from spikeship.training.ann.checkpoint import load_ann
from spikeship.training.ann.network import Network
from spikeship.training.data import own_code
from spikeship.training.data.load import Samples
from spikeship.training.fit.classifier import evaluate_ann
from spikeship.training.frontends.onnx import from_onnx
from spikeship.training.frontends.pools import MaxPool
from spikeship.training.frontends.trace import trace
from spikeship.training.snn.form import sample_shapes


@dataclass(frozen=True, eq=False)
class Ann:
    """A trained classifier.

    Attributes:
        network: its layers.
        data: name, mean and std of the set it was trained on; empty where the file says none.
        provenance: where it came from.
        onnx: the file, where it came from ONNX, for the reference it is held against.
    """

    network: Network
    data: Mapping[str, Any]
    provenance: Mapping[str, Any]
    onnx: Path | None = None

    def __repr__(self) -> str:
        said = self.provenance
        name = said.get("arch") or said.get("onnx") or said.get("module") or "network"
        return f"<Ann {name}: {len(self.network.layers)} layers on {self.network.input_shape}>"

    def predict(self, images: Samples) -> NDArray[np.int64]:
        """Class of each normalised image (images, *input shape)."""
        return np.asarray(evaluate_ann(self.network, images).numpy(), dtype=np.int64)

    def predict_with_onnxruntime(self, images: Samples) -> NDArray[np.int64]:
        """The same, by ONNX Runtime from the file itself.

        Raises:
            DeployError: the network did not come from ONNX, or ONNX Runtime refuses the file.
        """
        import onnxruntime

        if self.onnx is None:
            raise DeployError("the network did not come from an ONNX file")
        try:
            session = onnxruntime.InferenceSession(
                str(self.onnx), providers=["CPUExecutionProvider"]
            )
            entry = session.get_inputs()[0]
            # a file exported with a fixed batch takes only that many at once
            size = entry.shape[0] if isinstance(entry.shape[0], int) else 256
            values = images[:].numpy()
            padded = np.concatenate([values, np.repeat(values[-1:], -len(values) % size, axis=0)])
            scores = [
                session.run(None, {entry.name: padded[i : i + size]})[0]
                for i in range(0, len(padded), size)
            ]
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise DeployError(f"{self.onnx}: ONNX Runtime refuses it ({reason(error)})") from error
        best: NDArray[np.int64] = np.concatenate(scores)[: len(images)].argmax(axis=1)
        return best

    def macs(self, *, padding: bool = True) -> int:
        """Multiply-accumulates of one inference (convolutions and linear layers).

        Args:
            padding: whether taps on padding count, as dense kernels do them.
        """
        shapes = sample_shapes(self.network)
        total = 0
        for layer in self.network.layers:
            module = layer.module
            if isinstance(module, nn.Conv2d):
                total += conv_macs(
                    module.weight.shape,
                    shapes[layer.inputs[0]][1:],
                    stride=module.stride,
                    pads=[int(side) for side in module.padding],
                    dilation=module.dilation,
                    padding=padding,
                )
            elif isinstance(module, nn.Linear):
                total += module.weight.numel()
        return total


def load(
    path: Path | None,
    *,
    arch: str | None = None,
    weights: Path | None = None,
    untrained: bool = False,
    input_shape: Sequence[int] | None = None,
    max_pool: MaxPool = "keep",
) -> Ann:
    """Read a classifier.

    Args:
        path: ``.safetensors`` (ours) or ``.onnx``; or None, with ``arch``.
        arch: ``package.module:factory`` of a torch module.
        weights: its ``.pth`` state dict, read with ``weights_only``.
        untrained: take the weights that the factory itself gives, drawn or loaded.
        input_shape: shape of one image, needed with ``arch``.
        max_pool: ``keep`` max pools, which staged timing has, or put an ``average`` pool in the
            place of each.

    Raises:
        ValueError: a file or module that cannot be read or has no such form, in one line.
    """
    if (path is None) == (arch is None):
        raise DeployError("give either a file (.safetensors or .onnx) or --arch with --weights")
    if arch is None and weights is not None:
        raise DeployError(f"--weights: {path} holds its own; leave it out, or give --arch")
    if arch is None and untrained:
        raise DeployError(f"--untrained: {path} holds weights; leave it out, or give --arch")
    if arch is not None:
        if (weights is None) != untrained:
            raise DeployError(
                f"{arch}: give its trained weights with --weights, or --untrained to take those "
                "that the factory itself gives"
            )
        module = _with_weights(_made(arch), weights)
        if input_shape is None:
            raise DeployError(f"{arch}: give --data, whose images say the input's shape")
        network = trace(module, input_shape, max_pool=max_pool)
        return Ann(network, {}, {"arch": arch, "weights": str(weights) if weights else None})
    assert path is not None
    if path.suffix == ".onnx":
        return Ann(from_onnx(path, max_pool=max_pool), {}, {"onnx": path.name}, onnx=path)
    if path.suffix != ".safetensors":
        raise DeployError(
            f"{path}: give a .safetensors file that 'spikeship train' wrote, or an .onnx file"
        )
    found = load_ann(path)
    network = trace(found.model, found.input_shape)
    return Ann(network, found.data, {**found.provenance, "ann": path.name, "arch": found.arch})


def _made(arch: str) -> nn.Module:
    module = own_code.call(arch, DeployError)
    if not isinstance(module, nn.Module):
        raise DeployError(f"{arch}: returned {type(module).__name__}, expected a torch.nn.Module")
    return module.eval()


def _with_weights(module: nn.Module, weights: Path | None) -> nn.Module:
    if weights is None:
        return module
    if not weights.is_file():
        raise DeployError(f"{weights}: no such file")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
        module.load_state_dict(state)
    except Exception as error:  # torch raises many kinds here
        raise DeployError(
            f"{weights}: cannot be loaded as this module's state dict ({reason(error)})"
        ) from error
    return module
