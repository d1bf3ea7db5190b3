"""What a training run shows and leaves behind: a bar on stderr, metrics as CSV and TensorBoard."""

import warnings
from pathlib import Path

from lightning_fabric.loggers.csv_logs import CSVLogger
from lightning_fabric.loggers.tensorboard import TensorBoardLogger
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from spikeship.training.fit.config import EpochMetrics, FitError


def progress_bar(quiet: bool) -> Progress:
    """Return a bar with steps, steps a second and the time left; none if ``quiet``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet,
    )


class _Rate(ProgressColumn):
    """Steps a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f}/s")


class MetricsLog:
    """Metrics of every epoch in a folder: ``metrics.csv`` and TensorBoard's event files.

    The folder belongs to one run. A resumed run writes its epochs so far anew, so that none is
    there twice or missing, wherever it was interrupted.

    Args:
        folder: where to; made if it is not there.
        resumed: whether the run goes on from a state, so that files in the folder are its own.

    Raises:
        FitError: the folder holds metrics and the run is a new one.
    """

    def __init__(self, folder: Path, *, resumed: bool) -> None:
        old = [*folder.glob(_CSV), *folder.glob(_EVENTS)]
        if old and not resumed:
            raise FitError(
                f"{folder}: holds the metrics of another run; give another log_dir, or delete them"
            )
        for path in old:
            path.unlink()
        # the empty names keep the files in the folder itself
        self._table = CSVLogger(folder, name="", version="", flush_logs_every_n_steps=1)
        self._board = TensorBoardLogger(folder, name="", version="")
        with warnings.catch_warnings():
            # of files beside them, which stay
            warnings.filterwarnings("ignore", "Experiment logs directory")
            self._table.experiment  # noqa: B018 — opens it

    def write(self, metrics: EpochMetrics, learning_rate: float) -> None:
        """Add an epoch; the number of the epoch, from 1, is the loggers' step."""
        values = {
            "loss": metrics.loss,
            "accuracy": metrics.accuracy,
            "learning_rate": learning_rate,
            "seconds": metrics.seconds,
        }
        if metrics.validation is not None:
            values["validation"] = metrics.validation
        self._table.log_metrics({**values}, metrics.epoch)
        self._board.log_metrics(values, metrics.epoch)
        self._table.save()
        self._board.save()

    def close(self) -> None:
        """Write what is left and close the files."""
        self._table.finalize("success")
        self._board.finalize("success")


_CSV, _EVENTS = "metrics.csv", "events.out.tfevents.*"
