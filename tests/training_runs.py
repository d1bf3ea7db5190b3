"""Small training runs for processes of their own: those that are killed, those that share."""

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from spikeship.training.ann import checkpoint
from spikeship.training.fit.config import EpochMetrics, FitConfig
from spikeship.training.fit.loop import fit

LABELS = torch.arange(50) % 3
IMAGES = torch.randn(50, 6, generator=torch.Generator().manual_seed(2)) + LABELS[:, None]


def model(dropout: float = 0.3) -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 3))


def noisy(indices: Tensor) -> Tensor:
    """Images with noise from every global generator."""
    noise = torch.randn(len(indices), 6) + float(np.random.normal()) + random.gauss()
    return IMAGES[indices] + 0.1 * noise


def loss(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    scores: Tensor = network(x)
    return functional.cross_entropy(scores, y), scores


def config(**changes: Any) -> FitConfig:
    settings: dict[str, Any] = {"epochs": 4, "batch_size": 16, "device": "cpu", "seed": 5}
    return FitConfig(**(settings | changes))


def quality(network: nn.Sequential) -> float:
    """A number that goes up and down with the weights, so that the best epoch is not the last."""
    first = network[0]
    assert isinstance(first, nn.Linear)
    return float(torch.sin(250 * first.weight.detach().double().sum()))


def killable(path: Path, settings: dict[str, Any], pause: float = 0.0) -> list[EpochMetrics]:
    """Train with noise, dropout and validation, and keep the state at ``path``."""

    def images_of(indices: Tensor) -> Tensor:
        time.sleep(pause)
        return noisy(indices)

    network = model()
    return fit(
        network,
        images_of,
        LABELS,
        config(**settings),
        loss,
        state_path=path,
        quiet=True,
        validate=lambda: quality(network),
    )


def announced(started: Any, path: Path, settings: dict[str, Any], pause: float) -> None:
    """Say that the process is there, and train."""
    started.set()
    killable(path, settings, pause)


def killed_in(place: str, write: int, path: Path, settings: dict[str, Any]) -> None:
    """Run until a write of the state: killed with half the file written, or before its renaming."""
    save_file, replace = checkpoint.save_file, os.replace
    writes = 0

    def half(tensors: Any, file: Any, metadata: Any) -> None:
        nonlocal writes
        writes += 1
        save_file(tensors, file, metadata)
        if writes == write and place == "content":
            os.truncate(file, os.path.getsize(file) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    def renamed(source: Any, target: Any) -> None:
        if writes == write and place == "renaming":
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    checkpoint.save_file = half  # type: ignore[assignment]
    os.replace = renamed  # type: ignore[assignment]
    killable(path, settings)
