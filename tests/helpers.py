"""What several test files need: ONNX files, and processes of ours that still run."""

import contextlib
import io
import signal
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


def lava_processes(scratch: Path) -> set[int]:
    """Ids of running processes (not merely unreaped ones) of Lava workers.

    Only of those whose job lies under ``scratch``: others may be running beside the tests.
    """
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        ours = b"spikeship.hw_models.lava.worker" in command and str(scratch).encode() in command
        if ours and state not in "ZX":
            found.add(int(entry.name))
    return found


def shared_memory(processes: set[int]) -> set[Path]:
    """Shared memory that these processes have mapped."""
    found = set()
    for process in processes:
        with contextlib.suppress(OSError):
            maps = Path(f"/proc/{process}/maps").read_text()
            found |= {Path(word) for word in maps.split() if word.startswith("/dev/shm/")}
    return found


def hear_interrupts() -> None:
    """Hear signals again in a new process: what a background or nohup starts ignores some."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
