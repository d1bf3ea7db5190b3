"""What the verbs that train share: which data, how long, how fast, and what is said at the end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from spikeship.deploy.io.inputs import Images
from spikeship.deploy.verbs.console import DONE, Voice
from spikeship.training.data import load as datasets
from spikeship.training.data.load import DataSet, with_validation
from spikeship.training.fit.config import Device, Precision
from spikeship.training.fit.processes import is_first


@dataclass(frozen=True)
class Source:
    """Where images come from.

    Attributes:
        name: of the set.
        folder: where it lies; None for the one in the environment.
        limit: only the first so many images of each split.
    """

    name: str
    folder: Path | None
    limit: int | None

    def load(self, *, messages: bool = False, validation: int = 0, seed: int = 0) -> DataSet:
        """Read the set, cut to the limit, with so many training images put aside.

        Raises:
            DataError: as ``data.load`` and ``with_validation``.
        """
        dataset = datasets.load(self.name, self.folder, messages=messages)
        if self.limit is not None:
            first = slice(self.limit)
            dataset = replace(
                dataset,
                train=dataset.train and dataset.train.take(first),
                test=dataset.test and dataset.test.take(first),
            )
        return with_validation(dataset, validation, seed) if validation else dataset


@dataclass(frozen=True)
class Fitting:
    """How to train, as far as the command line says it; None leaves the method's own default.

    Attributes:
        epochs: passes over the data.
        batch_size: samples a step.
        learning_rate: at the start.
        schedule: ``milestones`` or ``cosine``.
        precision: ``32-true`` or ``bf16-mixed``; None for what is fast here.
        validation: training images put aside to choose the best epoch by; 0 for none.
        log_dir: folder for metrics.
        checkpoint_every: steps between two states within an epoch.
        seed: of everything random.
        device: where.
        more: other fields of a FitConfig; None likewise.
    """

    epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    schedule: str | None
    precision: Precision | None
    validation: int
    log_dir: Path | None
    checkpoint_every: int | None
    seed: int
    device: Device
    more: Mapping[str, Any] = field(default_factory=dict)

    def changes(self) -> dict[str, Any]:
        """Return the fields of a FitConfig that are to be other than its defaults."""
        given = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "learning_rate": self.learning_rate,
            "schedule": self.schedule,
            "checkpoint_every": self.checkpoint_every,
            "log_dir": None if self.log_dir is None else str(self.log_dir),
            "precision": self.precision,
            **self.more,
        }
        chosen = {"seed": self.seed, "device": self.device}
        return chosen | {name: value for name, value in given.items() if value is not None}


def labels_of(dataset: DataSet, split: datasets.SplitName) -> Tensor:
    """Class of every image of a split that is trained or chosen on, int64.

    Raises:
        DataError: there are no images, or nobody said their classes.
    """
    labels = dataset.split(split).labels
    if labels is None:
        raise datasets.DataError(
            f"{dataset.name}: its {split} images have no labels; give y_{split}"
        )
    return labels


def state_beside(output: Path) -> Path:
    """Where an interruptible run keeps its state: beside what it will write."""
    return output.with_name(f"{output.name}.state")


def finish(
    voice: Voice,
    said: dict[str, Any],
    held_out: Images | None,
    predict: Callable[[Images], Tensor],
) -> int:
    """Say what came of training: accuracy on test images, where there are any with labels.

    Of several processes only the first has anything to say.
    """
    if not is_first():
        return DONE
    said |= {"accuracy": None, "images": 0, "correct": None}
    if held_out is not None and held_out.labels is not None:
        count, correct = len(held_out.values), held_out.correct(predict(held_out).numpy())
        assert correct is not None  # the labels are there
        said |= {"accuracy": correct / count, "images": count, "correct": correct}
        voice.say(f"{said['output']}: {correct / count:.2%} of {count} test images")
    voice.result(said)
    return DONE
