"""The state of an interrupted training run, between two steps, in one file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from spikeship.hw_models.errors import reason
from spikeship.training.ann.checkpoint import CheckpointError, read_checked, write_checked

STATE_FORMAT, STATE_VERSION = "spikeship-training-state", 3


@dataclass(frozen=True)
class TrainingState:
    """A training run after a whole number of epochs, or in the middle of one.

    Attributes:
        model: state dict of the model.
        optimizer: the optimizer's tensors by parameter index and key.
        run: JSON object that says which run this is; another run must not go on from here.
        history: JSON object of every epoch done so far, in order.
        best: state dict after the best of these epochs; empty where none is sought.
        average: running mean of the weights; empty where none is kept.
        step: steps done in the epoch after them; 0 between two epochs.
        seconds: that they took.
        processes: of every process, in the order of their ranks, its generators and its sums over
            these steps; empty where ``step`` is 0.
    """

    model: dict[str, Tensor]
    optimizer: dict[int, dict[str, Tensor]]
    run: dict[str, Any]
    history: list[dict[str, Any]]
    best: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    seconds: float = 0.0
    processes: list[dict[str, Tensor]] = field(default_factory=list)


def save_state(path: Path, state: TrainingState) -> None:
    """Write the state of a training run; a reader sees the old file or the whole new one."""
    tensors = _under("model", state.model) | _under("best", state.best)
    tensors |= _under("average", state.average)
    for index, values in state.optimizer.items():
        tensors |= _under(f"optimizer/{index}", values)
    for rank, values in enumerate(state.processes):
        tensors |= _under(f"process/{rank}", values)
    header = {
        "run": state.run,
        "history": state.history,
        "step": state.step,
        "seconds": state.seconds,
    }
    write_checked(path, STATE_FORMAT, STATE_VERSION, header, tensors)


def load_state(path: Path) -> TrainingState:
    """Read what :func:`save_state` wrote.

    Raises:
        CheckpointError: the file is missing, damaged, or of another kind or version.
    """
    header, tensors = read_checked(path, STATE_FORMAT, STATE_VERSION)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "best": {}, "average": {}}
    listed: dict[str, dict[int, dict[str, Tensor]]] = {"optimizer": {}, "process": {}}
    try:
        for name, value in tensors.items():
            part, rest = name.split("/", 1)
            if part in parts:
                parts[part][rest] = value
            else:
                index, key = rest.split("/", 1)
                listed[part].setdefault(int(index), {})[key] = value
        processes = listed["process"]
        return TrainingState(
            parts["model"],
            listed["optimizer"],
            dict(header["run"]),
            list(header["history"]),
            parts["best"],
            parts["average"],
            int(header["step"]),
            float(header["seconds"]),
            [processes[rank] for rank in range(len(processes))],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a whole training state ({reason(error)}); delete it to start over"
        ) from error


def _under(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{part}/{name}": value for name, value in tensors.items()}
