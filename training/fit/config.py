"""How to train: the settings of a run, its learning rate over time, what an epoch gave."""

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from spikeship.hw_models.errors import SpikeshipError
from spikeship.training import choices
from spikeship.training.choices import Schedule

Device = choices.Device
Precision = Literal["32-true", "bf16-mixed"]


class FitError(SpikeshipError, ValueError):
    """A training run that cannot start, go on, or converge, in one line."""


@dataclass(frozen=True)
class FitConfig:
    """How to train.

    The defaults but for ``epochs`` are those of Rathi et al., ICLR 2020 (arXiv 2005.01807), for
    ANNs, who train 300 epochs.

    Attributes:
        epochs: passes over the data.
        batch_size: samples a step, those of all processes together.
        learning_rate: the highest; at the start after the warm-up, or at ``peak``.
        optimizer: ``"sgd"`` (with ``momentum``) or ``"adam"`` (which ignores it).
        momentum: of SGD.
        nesterov: whether SGD's momentum is Nesterov's.
        weight_decay: L2 penalty; or, if ``decoupled``, the part of each weight that a step at the
            highest rate takes away.
        decoupled: whether the decay acts on the weights themselves, apart from gradient and
            momentum (Loshchilov & Hutter, ICLR 2019); it follows the rate, not its size.
        norm_rate: factor on the learning rate of batch norm's biases, and of no other parameters.
        schedule: ``"milestones"``, steps down; ``"cosine"``, half a cosine from the learning rate
            to 0 (Loshchilov & Hutter, ICLR 2017, without restarts); or ``"one-cycle"``, up to the
            learning rate and down to 0 in straight lines (Smith & Topin, arXiv 1708.07120).
        milestones: fractions of ``epochs`` after which the learning rate is multiplied by
            ``decay``; only for that schedule.
        decay: that factor.
        peak: part of the epochs after which one-cycle's rate is highest.
        warmup: epochs, also parts of one, in which the learning rate first rises from 0 in a
            straight line.
        averaging: epochs over which weights are averaged: the network that is validated and comes
            out is the mean over the steps, weighted by exp(-age / averaging). 0 for the last
            step's weights.
        clip_norm: largest L2 norm of all gradients together, larger ones are scaled down to it;
            None for no limit.
        precision: ``"32-true"``, or ``"bf16-mixed"``: convolutions and matrix products in
            bfloat16, weights in float32.
        seed: of everything random.
        device: ``"cpu"``, ``"cuda"`` or ``"auto"``.
        checkpoint_every: steps within an epoch between two writings of the state.
        log_dir: folder for the metrics of every epoch as ``metrics.csv`` and for TensorBoard; None
            for neither. It belongs to one run.

    Raises:
        FitError: a value outside its range.
    """

    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 1e-2
    optimizer: Literal["sgd", "adam"] = "sgd"
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 5e-4
    decoupled: bool = False
    norm_rate: float = 1.0
    schedule: Schedule = "milestones"
    milestones: tuple[float, ...] = (0.6, 0.8, 0.9)
    decay: float = 0.1
    peak: float = 0.25
    averaging: float = 0.0
    warmup: float = 0.0
    clip_norm: float | None = None
    precision: Precision = "32-true"
    seed: int = 0
    device: Device = "auto"
    checkpoint_every: int = 500
    log_dir: str | None = None

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < math.inf:
                raise FitError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("momentum", "weight_decay", "averaging"):
            if not 0 <= getattr(self, name) < math.inf:
                raise FitError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.seed < 0:
            raise FitError(f"seed must not be negative, got {self.seed}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise FitError(f"clip_norm must be positive, got {self.clip_norm}; None is no limit")
        for name, known in _KNOWN.items():
            if getattr(self, name) not in known:
                said = " or ".join([", ".join(map(repr, known[:-1])), repr(known[-1])])
                raise FitError(f"{name} {getattr(self, name)!r} is not known; use {said}")
        self._check_together()

    def _check_together(self) -> None:
        """Refuse settings that leave each other without meaning."""
        if self.nesterov and not self.momentum:
            raise FitError("nesterov needs momentum, which is 0; give some, or leave nesterov out")
        if self.decoupled and self.weight_decay >= 1:
            raise FitError(f"weight_decay must be below 1 if decoupled, got {self.weight_decay}")
        if not 0 < self.peak < 1:
            raise FitError(f"peak must lie between 0 and 1, got {self.peak}")
        if self.warmup and self.schedule == "one-cycle":
            raise FitError("one-cycle rises by itself; give peak in place of warmup")
        if not 0 <= self.warmup < self.epochs:
            raise FitError(
                f"warmup must lie in 0 <= warmup < epochs ({self.epochs}), got {self.warmup}"
            )

    def rate(self, epoch: int, done: float = 0.0) -> float:
        """Learning rate in an epoch, counted from 0, of which a part (0 <= done < 1) is done."""
        now = epoch + done
        if self.schedule == "one-cycle":
            part = now / self.epochs
            return self.learning_rate * min(part / self.peak, (1 - part) / (1 - self.peak))
        rise = min(1.0, now / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            way = max(0.0, now - self.warmup) / (self.epochs - self.warmup)
            return self.learning_rate * rise * (0.5 + 0.5 * math.cos(math.pi * way))
        passed = sum(epoch >= round(part * self.epochs) for part in self.milestones)
        return self.learning_rate * self.decay**passed * rise

    def recipe(self) -> dict[str, Any]:
        """The settings that decide what a run ends in, as a JSON object.

        These are all but the device, how often the state is written, and where metrics go.
        """
        recipe = asdict(self)
        for name in ("device", "checkpoint_every", "log_dir"):
            del recipe[name]
        return recipe | {"milestones": list(self.milestones)}


_POSITIVE = ("epochs", "batch_size", "learning_rate", "decay", "norm_rate", "checkpoint_every")
_KNOWN = {
    "optimizer": ("sgd", "adam"),
    "schedule": get_args(Schedule),
    "precision": ("32-true", "bf16-mixed"),
    "device": ("cpu", "cuda", "auto"),
}


@dataclass(frozen=True)
class EpochMetrics:
    """What one epoch of training gave.

    Attributes:
        epoch: number of the epoch, from 1.
        loss: mean over the samples, as they were seen during training.
        accuracy: fraction of the samples, 0..1, averaged in the same way.
        seconds: how long it took, without validation.
        validation: what the run's ``validate`` gave after it; None where there is none.
    """

    epoch: int
    loss: float
    accuracy: float
    seconds: float
    validation: float | None = None

    def line(self, epochs: int) -> str:
        """Say it in one line, of a run of so many epochs."""
        said = f"epoch {self.epoch}/{epochs}  loss {self.loss:.4f}  accuracy {self.accuracy:.2%}"
        return said if self.validation is None else f"{said}  validation {self.validation:.2%}"
