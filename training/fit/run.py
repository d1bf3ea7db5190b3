"""How far a training run is: its epochs, its best weights, and the file it goes on from."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer

from spikeship.training.fit.averaging import WeightAverage
from spikeship.training.fit.config import EpochMetrics, FitError
from spikeship.training.fit.generators import generator_states, restore_generators
from spikeship.training.fit.processes import gather, on_first
from spikeship.training.fit.state import TrainingState, load_state, save_state


@dataclass
class Run:
    """How far a run is, and its file.

    Attributes:
        fabric: the processes.
        model: network in training.
        optimizer: its optimizer.
        description: JSON object that says which run this is.
        path: of the state, or None.
        average: running mean of the weights, or None.
        history: the epochs done.
        best: weights after the best of them, where the run validates.
        step: steps done in the epoch after them.
        resumed: the state that the run goes on from, until it has.
    """

    fabric: Fabric
    model: nn.Module
    optimizer: Optimizer
    description: dict[str, Any]
    path: Path | None
    average: WeightAverage | None
    history: list[EpochMetrics] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    step: int = 0
    resumed: TrainingState | None = None

    def resume(self) -> None:
        """Go on from the state in the file, where there is one."""
        state = self.resumed = on_first(self.fabric, self._found)
        if state is None:
            return
        try:
            self.model.load_state_dict(state.model)
            if self.average is not None:
                self.average.load_state_dict(state.average)
            self.history = [EpochMetrics(**entry) for entry in state.history]
        except (RuntimeError, TypeError) as error:
            raise FitError(
                f"{self.path}: does not fit the model; delete it to start over"
            ) from error
        self.best = state.best
        self.step = state.step
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": state.optimizer})

    def _found(self) -> TrainingState | None:
        if self.path is None:
            return None
        if not self.path.exists():
            return None
        state = load_state(self.path)
        keys = {**self.description, **state.run}
        differing = [key for key in keys if state.run.get(key) != self.description.get(key)]
        if differing:
            raise FitError(
                f"{self.path}: is the state of another run (differs in {', '.join(differing)}); "
                "delete it to start over, or give the settings it was made with"
            )
        return state

    def enter_epoch(self) -> tuple[Tensor, float]:
        """Return the epoch's sums so far, of loss and right answers, and the seconds they took."""
        state, self.resumed = self.resumed, None
        if state is None or state.step == 0:
            return torch.zeros(2, dtype=torch.float64, device=self.fabric.device), 0.0
        # once more, because the epoch's beginning may have changed the model and has drawn
        self.model.load_state_dict(state.model)
        mine = state.processes[self.fabric.global_rank]
        restore_generators(mine, self.fabric.device)
        return self.fabric.to_device(mine["sums"]), state.seconds

    def result(self) -> AbstractContextManager[None]:
        """Let the model have, within this context, the weights that would come out now."""
        return nullcontext() if self.average is None else self.average.applied()

    def judge(self, metrics: EpochMetrics) -> None:
        """Keep the weights that the model has now, if they are the best so far."""
        quality = metrics.validation
        if quality is not None and all(
            entry.validation is None or quality > entry.validation for entry in self.history
        ):
            weights = self.model.state_dict()
            self.best = {name: value.detach().clone() for name, value in weights.items()}

    def leave_epoch(self, metrics: EpochMetrics) -> None:
        """Count an epoch as done."""
        self.history.append(metrics)
        self.step = 0
        self.save()

    def take_result(self) -> None:
        """Give the model the weights of the best epoch, or the mean where none was sought."""
        if self.best:
            self.model.load_state_dict(self.best)
        elif self.average is not None:
            self.average.give()

    def save(self, sums: Tensor | None = None, seconds: float = 0.0) -> None:
        """Write the state; within an epoch with its sums so far and the seconds they took."""
        if self.path is None:
            return
        path, processes = self.path, []
        if sums is not None:
            mine = generator_states(self.fabric.device) | {"sums": sums.cpu()}
            processes = gather(self.fabric, mine)
        # the rates and the like come from the config again; only the tensors are the run's own
        tensors = {
            index: {key: value for key, value in values.items() if isinstance(value, Tensor)}
            for index, values in self.optimizer.state_dict()["state"].items()
        }
        state = TrainingState(
            self.model.state_dict(),
            tensors,
            self.description,
            [asdict(entry) for entry in self.history],
            self.best,
            {} if self.average is None else self.average.state_dict(),
            self.step,
            seconds,
            processes,
        )
        on_first(self.fabric, lambda: save_state(path, state))
