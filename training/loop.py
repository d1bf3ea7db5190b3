"""The training loop, on Lightning Fabric: seeded, resumable, with a progress bar on stderr."""

import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
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
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import Optimizer

from spikeship.training.checkpoint import TrainingState, fingerprint, load_state, save_state
from spikeship.training.data import DataError, DataSet

Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]


class FitError(ValueError):
    """A training run that cannot start, go on, or converge, in one line."""


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    The defaults but for ``epochs`` are those of Rathi et al., ICLR 2020 (arXiv 2005.01807), for
    ANNs, who train 300 epochs.

    Attributes:
        epochs: passes over the data.
        batch_size: samples a step.
        learning_rate: at the start.
        optimizer: ``"sgd"`` (with ``momentum``) or ``"adam"`` (which ignores it).
        momentum: of SGD.
        weight_decay: L2 penalty.
        milestones: fractions of ``epochs`` after which the learning rate is multiplied by
            ``decay``.
        decay: that factor.
        seed: of everything random.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.

    Raises:
        FitError: a value outside its range.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-2
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    milestones: tuple[float, ...] = (0.6, 0.8, 0.9)
    decay: float = 0.1
    seed: int = 0
    device: Literal["cpu", "cuda", "auto"] = "auto"

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "decay"):
            if not getattr(self, name) > 0:
                raise FitError(f"{name} must be positive, got {getattr(self, name)}")
        if self.seed < 0:
            raise FitError(f"seed must not be negative, got {self.seed}")
        if self.optimizer not in ("sgd", "adam"):
            raise FitError(f"optimizer {self.optimizer!r} is not known; use 'sgd' or 'adam'")
        if self.device not in ("cpu", "cuda", "auto"):
            raise FitError(f"device {self.device!r} is not known; use 'cpu', 'cuda' or 'auto'")

    def rate(self, epoch: int) -> float:
        """Learning rate of an epoch, counted from 0."""
        passed = sum(epoch >= round(part * self.epochs) for part in self.milestones)
        return self.learning_rate * self.decay**passed


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch of training gave.

    Attributes:
        epoch: number of the epoch, from 1.
        loss: mean over the samples, as they were seen during training.
        accuracy: fraction of the samples, 0..1, likewise.
        seconds: how long it took.
    """

    epoch: int
    loss: float
    accuracy: float
    seconds: float

    def line(self, epochs: int) -> str:
        """Say it in one line, of a run of so many epochs."""
        return f"epoch {self.epoch}/{epochs}  loss {self.loss:.4f}  accuracy {self.accuracy:.2%}"


def fit(
    model: nn.Module,
    images_of: Callable[[Tensor], Tensor],
    labels: Tensor,
    config: FitConfig,
    loss: Loss,
    *,
    purpose: Mapping[str, Any] | None = None,
    state_path: Path | None = None,
    quiet: bool = False,
) -> list[EpochMetrics]:
    """Train ``model`` in place; it ends where it began (device) and in eval mode.

    All generators (Python, NumPy, torch) are seeded anew from (seed, epoch) when an epoch begins,
    so a run resumed after any epoch ends, on a CPU, with the same bits as one never interrupted,
    whatever ``images_of``, ``loss`` and dropout draw.

    Args:
        model: network to train.
        images_of: gives the network's input for sample indices (int64, on the CPU); may augment.
        labels: class of every sample, int64, shape (samples,).
        config: how to train.
        loss: gives the loss (scalar) and the class scores (batch, classes) for a batch.
        purpose: JSON object of what else makes this run another than others.
        state_path: where to keep the state after every epoch; a state found there of the same
            run (config but for the device, labels, weights it started from, and purpose) is
            resumed.
        quiet: no progress bar.

    Returns:
        One entry an epoch, those before a resume included.

    Raises:
        FitError: no such device, a state of another run at ``state_path``, no samples, or a loss
            that is not finite.
        CheckpointError: a damaged file at ``state_path``.
    """
    if len(labels) == 0:
        raise FitError("there are no samples to train on; give a set with training images")
    home = next(model.parameters()).device
    run = _describe(config, labels, model) | dict(purpose or {})
    fabric = _fabric(config.device)
    model.to(fabric.device)
    optimizer = _optimizer(model, config)
    history: list[EpochMetrics] = []
    if state_path is not None and state_path.exists():
        history = _resume(state_path, run, model, optimizer)
    wrapped, stepper = fabric.setup(model, optimizer)
    steps = -(-len(labels) // config.batch_size)
    try:
        with _few_threads(model), _progress(quiet) as progress:
            task = progress.add_task("", total=config.epochs * steps)
            progress.update(task, completed=len(history) * steps)
            for epoch in range(len(history), config.epochs):
                began = time.perf_counter()
                _seed(config.seed, epoch)
                for group in optimizer.param_groups:
                    group["lr"] = config.rate(epoch)
                model.train()
                sums = torch.zeros(2, dtype=torch.float64, device=fabric.device)
                for batch in torch.split(torch.randperm(len(labels)), config.batch_size):
                    x = fabric.to_device(images_of(batch))
                    y = fabric.to_device(labels[batch])
                    value, scores = loss(wrapped, x, y)
                    stepper.zero_grad()
                    fabric.backward(value)
                    stepper.step()
                    right = (scores.detach().argmax(1) == y).sum()
                    sums += torch.stack([value.detach() * len(batch), right])
                    progress.advance(task)
                mean, accuracy = (sums / len(labels)).tolist()
                if not math.isfinite(mean):
                    raise FitError(
                        f"the loss is {mean} in epoch {epoch + 1}; lower the learning rate "
                        f"(it was {config.rate(epoch):g})"
                    )
                done = EpochMetrics(epoch + 1, mean, accuracy, time.perf_counter() - began)
                history.append(done)
                progress.update(task, description=done.line(config.epochs))
                if state_path is not None:
                    save_state(state_path, _state(model, optimizer, run, history))
    finally:
        model.to(home).eval()
    return history


def ann_config(input_shape: Sequence[int], **changes: Any) -> FitConfig:
    """Settings that train the paper's networks in few epochs.

    From a side of 32 on, the paper's rate (30 epochs instead of 300); smaller images make the
    networks narrow, which need a larger rate and more epochs, and have the time for them.

    Args:
        input_shape: shape of one image.
        **changes: fields of :class:`FitConfig` to set otherwise.
    """
    narrow = {"epochs": 100, "learning_rate": 5e-2} if input_shape[-1] < 32 else {}
    return FitConfig(**(narrow | changes))


def train_ann(
    model: nn.Module,
    dataset: DataSet,
    config: FitConfig,
    *,
    state_path: Path | None = None,
    quiet: bool = False,
) -> list[EpochMetrics]:
    """Train a classifier on a set's training images with cross-entropy; see :func:`fit`.

    CIFAR-10's are shifted and mirrored at random, as the paper does; other sets stay as they are.

    Args:
        model: network from (batch, *input_shape) to (batch, classes), trained in place.
        dataset: needs training images and labels.
        config: how to train.
        state_path: where to keep the state.
        quiet: no progress bar.

    Raises:
        FitError: as :func:`fit`.
        DataError: the set has no training images or labels.
    """
    if dataset.train is None or dataset.train.labels is None:
        raise DataError(f"{dataset.name}: has no labelled training images; give x_train, y_train")
    black = -torch.tensor(dataset.mean) / torch.tensor(dataset.std)

    def images_of(indices: Tensor) -> Tensor:
        images = dataset.normalised("train", indices)
        return _augmented(images, black) if dataset.name == "cifar10" else images

    def loss(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        scores: Tensor = network(x)
        return functional.cross_entropy(scores, y), scores

    labels = dataset.train.labels
    return fit(model, images_of, labels, config, loss, state_path=state_path, quiet=quiet)


@torch.no_grad()
def evaluate_ann(model: nn.Module, images: Tensor, batch_size: int = 256) -> Tensor:
    """Class of every image, int64 on the CPU, shape (images,).

    Args:
        model: network to run, in eval mode, on whatever device it is.
        images: float32, normalised, shape (images, *input_shape).
        batch_size: images run at once.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    classes = [model(part.to(device)).argmax(1).cpu() for part in torch.split(images, batch_size)]
    model.train(training)
    return torch.cat(classes) if classes else torch.zeros(0, dtype=torch.int64)


@contextmanager
def _few_threads(model: nn.Module) -> Iterator[None]:
    """Use one thread for a small network: measured as fast, and 8 times where cores are busy."""
    threads = torch.get_num_threads()
    if sum(value.numel() for value in model.parameters()) < 1_000_000:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _augmented(images: Tensor, black: Tensor) -> Tensor:
    """Shift each image by up to 4 pixels each way, black coming in, and mirror half of them."""
    count, channels, height, width = images.shape
    padded = black.reshape(1, -1, 1, 1).repeat(count, 1, height + 8, width + 8)
    padded[:, :, 4:-4, 4:-4] = images
    top, left = torch.randint(0, 9, (2, count, 1, 1, 1))
    columns = torch.arange(width).repeat(count, 1, 1, 1)
    mirrored = torch.rand(count) < 0.5
    columns[mirrored] = columns[mirrored].flip(-1)
    return padded[
        torch.arange(count).reshape(-1, 1, 1, 1),
        torch.arange(channels).reshape(1, -1, 1, 1),
        torch.arange(height).reshape(1, 1, -1, 1) + top,
        columns + left,
    ]


def _describe(config: FitConfig, labels: Tensor, model: nn.Module) -> dict[str, Any]:
    """Say, in JSON values, which run this is: the same run ends in the same weights."""
    run = {key: value for key, value in asdict(config).items() if key != "device"}
    run["milestones"] = list(config.milestones)
    run["labels"] = fingerprint({"labels": labels})
    run["starting weights"] = fingerprint(model.state_dict())
    return run


def _fabric(device: str) -> Fabric:
    if device == "cuda" and not torch.cuda.is_available():
        raise FitError("device 'cuda' is not there; use 'cpu' or 'auto'")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Fabric(accelerator=device, devices=1)


def _optimizer(model: nn.Module, config: FitConfig) -> Optimizer:
    rate, decay = config.learning_rate, config.weight_decay
    if config.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)
    return torch.optim.SGD(
        model.parameters(), lr=rate, momentum=config.momentum, weight_decay=decay
    )


def _seed(seed: int, epoch: int) -> None:
    mixed = int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])
    random.seed(mixed)
    np.random.seed(mixed)
    torch.manual_seed(mixed)


def _state(
    model: nn.Module, optimizer: Optimizer, run: dict[str, Any], history: list[EpochMetrics]
) -> TrainingState:
    # the rates and the like come from the config again; only the tensors are the run's own
    tensors = {
        index: {key: value for key, value in values.items() if isinstance(value, Tensor)}
        for index, values in optimizer.state_dict()["state"].items()
    }
    return TrainingState(model.state_dict(), tensors, run, [asdict(entry) for entry in history])


def _resume(
    path: Path, run: dict[str, Any], model: nn.Module, optimizer: Optimizer
) -> list[EpochMetrics]:
    state = load_state(path)
    differing = [key for key in run if state.run.get(key) != run[key]]
    if differing:
        raise FitError(
            f"{path}: is the state of another run (differs in {', '.join(differing)}); "
            "delete it to start over, or give the settings it was made with"
        )
    try:
        model.load_state_dict(state.model)
        history = [EpochMetrics(**entry) for entry in state.history]
    except (RuntimeError, TypeError) as error:
        raise FitError(f"{path}: does not fit the model; delete it to start over") from error
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state.optimizer})
    return history


def _progress(quiet: bool) -> Progress:
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
