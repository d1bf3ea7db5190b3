"""What fine-tuning may be asked to do otherwise than the paper; the options combine."""

import math
from dataclasses import dataclass, fields
from typing import Literal

from spikeship.training import choices
from spikeship.training.fit.config import FitError

LossName = choices.LossName


@dataclass(frozen=True)
class Tuning:
    """Options of ``stdb.finetune``; the defaults are the paper's way.

    Attributes:
        loss: ``ce``, cross-entropy on the mean output, or ``tet``, on every step's
            (``losses.tet``).
        tet_weight: weight of what draws every output to ``tet_target``, 0..1.
        tet_target: that constant, in units of the class scores.
        distill: weight of the distance from a teacher's class probabilities
            (``losses.distillation``), 0..1; the rest is ``loss``'s.
        temperature: softens both probabilities, positive.
        start_steps: T of the first epoch, from which T goes down evenly to the network's own; that
            is reached for the last third of the epochs. None: T stays.
        attached: let gradients pass through the reset.
        learn_threshold: train the neurons' thresholds.
        learn_leak: train their leaks.
        learn_per: ``layer`` trains as many values as the network has, ``channel`` one a channel (a
            unit, in dense layers) at least.
        learn_factor: factor on the learning rate for them; they have no weight decay.
        synop_weight: weight of the share that hidden neurons' synaptic operations have in all
            that are possible (every neuron firing in every step), not negative; 0.1 to 0.3 save
            much, 1 and more can silence layers.

    Raises:
        FitError: a value outside its range, or one that another option leaves without meaning.
    """

    loss: LossName = "ce"
    tet_weight: float = 0.05
    tet_target: float = 1.0
    distill: float = 0.0
    temperature: float = 2.0
    start_steps: int | None = None
    attached: bool = False
    learn_threshold: bool = False
    learn_leak: bool = False
    learn_per: Literal["layer", "channel"] = "layer"
    learn_factor: float = 1.0
    synop_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.loss not in ("ce", "tet"):
            raise FitError(f"loss {self.loss!r} is not known; use 'ce' or 'tet'")
        if self.learn_per not in ("layer", "channel"):
            raise FitError(f"learn_per {self.learn_per!r} is not known; use 'layer' or 'channel'")
        for name in ("tet_weight", "distill"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise FitError(f"{name} must lie in 0..1, got {getattr(self, name)}")
        for name in ("temperature", "learn_factor"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise FitError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not 0.0 <= self.synop_weight < math.inf:
            raise FitError(f"synop_weight must be finite and >= 0, got {self.synop_weight}")
        if not math.isfinite(self.tet_target):
            raise FitError(f"tet_target must be finite, got {self.tet_target}")
        self._check_used(("tet_weight", "tet_target"), self.loss == "tet", "loss 'tet'")
        self._check_used(("temperature",), self.distill > 0, "distill above 0 and a teacher")
        self._check_used(
            ("learn_per", "learn_factor"), self.learns, "learn_threshold or learn_leak"
        )

    @property
    def learns(self) -> bool:
        """Whether neurons are trained too."""
        return self.learn_threshold or self.learn_leak

    def steps(self, epoch: int, epochs: int, last: int) -> int:
        """T of an epoch, counted from 0, of a run of ``epochs`` that ends with T = ``last``."""
        ramp = epochs - -(-epochs // 3)
        if self.start_steps is None or epoch >= ramp:
            return last
        return self.start_steps + round((last - self.start_steps) * epoch / ramp)

    def check_annealing(self, epochs: int, last: int, encoding: str) -> None:
        """Refuse a ``start_steps`` from which T cannot go down.

        Args:
            epochs: of the run.
            last: T it is to end with.
            encoding: of the network's input.

        Raises:
            FitError: in one line.
        """
        if self.start_steps is None:
            return
        if self.start_steps <= last:
            raise FitError(
                f"start_steps must be more than T, which is {last}, got {self.start_steps}"
            )
        if epochs < 2:
            raise FitError(f"start_steps needs at least 2 epochs to go down to T={last}")
        if encoding == "spikes":
            raise FitError("start_steps: spikes come with their own T; leave it out")

    def _check_used(self, names: tuple[str, ...], used: bool, needs: str) -> None:
        defaults = {field.name: field.default for field in fields(self)}
        for name in names:
            if not used and getattr(self, name) != defaults[name]:
                raise FitError(f"{name} has no meaning without {needs}; leave it out")
