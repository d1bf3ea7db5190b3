"""What several test files need: ONNX files, and processes of ours that still run."""

import contextlib
import io
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn


def export_onnx(model: nn.Module, sample: torch.Tensor, path: Path, **settings: Any) -> None:
    """Let torch export a module; its exporters warn of themselves and of each other."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (sample,), path, **settings)


def lava_processes() -> set[int]:
    """Ids of running processes (not merely unreaped ones) that a Lava worker is or has started."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if b"spikeship.hw_models.lava.worker" in command and state not in "ZX":
            found.add(int(entry.name))
    return found
