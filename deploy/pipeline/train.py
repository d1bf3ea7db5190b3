"""Train a classifier."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.options.train import TrainOptions
from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.checkpoint import save_ann
from spikeship.training.ann.whitening import whiten
from spikeship.training.ann.zoo import build
from spikeship.training.choices import Device
from spikeship.training.data.load import DataSet
from spikeship.training.fit.classifier import train_ann
from spikeship.training.fit.config import EpochMetrics
from spikeship.training.fit.recipe import Recipe, recipe_for
from spikeship.training.frontends.trace import trace

# where the level of a bounded activation starts; it is learnt with the weights
FIRST_LEVEL = 2.0
# training images whose patches are whitened
WHITENED = 5000
# architecture of a module that somebody brought
OWN = "own module"


@dataclass(frozen=True, eq=False)
class Trained:
    """A classifier that was trained here.

    Attributes:
        model: the module.
        arch: its architecture, ``own module`` where somebody brought it.
        width: factor on its channels.
        recipe: how it was trained.
        history: one entry an epoch.
        dataset: what it was trained on.
    """

    model: nn.Module
    arch: str
    width: float
    recipe: Recipe
    history: list[EpochMetrics]
    dataset: DataSet

    @property
    def parameters(self) -> int:
        """How many numbers it holds."""
        return sum(value.numel() for value in self.model.parameters())

    @property
    def ann(self) -> Ann:
        """The classifier as the other stages take it."""
        network = trace(self.model, self.dataset.input_shape)
        return Ann(network, self._data(), self.recipe.said() | {"arch": self.arch})

    def save(self, path: str | Path) -> Path:
        """Write it.

        Raises:
            DeployError: a module of one's own, which only its own code can build again.
        """
        if self.arch == OWN:
            raise DeployError(
                "save: a module of your own cannot be built again from our file; keep its "
                "state_dict with torch.save, and give --arch and --weights"
            )
        save_ann(
            Path(path),
            self.model,
            arch=self.arch,
            input_shape=self.dataset.input_shape,
            classes=self.dataset.classes,
            data=self._data(),
            provenance=self.recipe.said(),
            width=self.width,
        )
        return Path(path)

    def _data(self) -> dict[str, Any]:
        of = self.dataset
        return {"name": of.name, "mean": list(of.mean), "std": list(of.std)}

    def __repr__(self) -> str:
        last = self.history[-1]
        return (
            f"<Trained {self.arch}: {self.parameters:,} weights, {len(self.history)} epochs of "
            f"{self.dataset.name}, {last.accuracy:.2%} of the training images right>"
        )


def train(
    arch: str | nn.Module,
    dataset: DataSet,
    options: TrainOptions | None = None,
    *,
    seed: int = 0,
    device: Device = "auto",
    state: Path | None = None,
    quiet: bool = True,
) -> Trained:
    """Train a classifier.

    Args:
        arch: a name in ``zoo.ARCHITECTURES``, or a module of one's own, which is trained in place;
            options that build a network mean nothing to it.
        dataset: with training images; its validation images choose the epoch, where it has any.
        options: how.
        seed: of everything random.
        device: where.
        state: file that a run which is interrupted goes on from.
        quiet: no progress bar.

    Raises:
        SpikeshipError: an option, a set or a state that cannot be used.
    """
    options = options or TrainOptions()
    torch.manual_seed(seed)
    if isinstance(arch, nn.Module):
        model, name = arch, OWN
    else:
        name = arch
        model = build(
            arch,
            dataset.input_shape,
            dataset.classes,
            width=options.width,
            activation=_activation(options.activation),
            **options.network(),
        )
    if options.whiten:
        whiten(model, dataset.normalised("train", slice(WHITENED)))
    recipe = recipe_for(
        model,
        dataset,
        paper=options.paper,
        settings={**options.settings(), "seed": seed, "device": device},
        variation=options.variation(),
        label_smoothing=options.label_smoothing,
    )
    history = train_ann(
        model,
        dataset,
        recipe.config,
        variation=recipe.variation,
        label_smoothing=recipe.label_smoothing,
        state_path=state,
        quiet=quiet,
    )
    return Trained(model, name, options.width, recipe, history, dataset)


def _activation(text: str) -> Callable[[], nn.Module]:
    """Read ``relu``, ``clip`` or ``qcfs:STEPS``."""
    match text.partition(":"):
        case ("relu", "", ""):
            return nn.ReLU
        case ("clip", "", ""):
            return lambda: ClippedReLU(FIRST_LEVEL)
        case ("qcfs", ":", steps) if steps.isdecimal() and int(steps) > 0:
            return lambda: QCFS(FIRST_LEVEL, int(steps))
    raise DeployError(
        f"--activation: {text!r} is not known; use relu, clip, or qcfs:STEPS with the T to come"
    )
