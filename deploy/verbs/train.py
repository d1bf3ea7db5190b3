"""The verb train: a classifier of a known architecture on a known set."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.inputs import of_set
from spikeship.deploy.verbs.console import Voice, check_writable
from spikeship.deploy.verbs.fitting import Fitting, Source, finish, state_beside
from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.checkpoint import save_ann
from spikeship.training.ann.whitening import whiten
from spikeship.training.ann.zoo import build
from spikeship.training.data.load import DataSet
from spikeship.training.fit.classifier import evaluate_ann, train_ann
from spikeship.training.fit.processes import is_first
from spikeship.training.fit.recipe import recipe_for

# where the level of a bounded activation starts; it is learnt with the weights
FIRST_LEVEL = 2.0
# training images whose patches are whitened
WHITENED = 5000


@dataclass(frozen=True)
class Training:
    """What train was asked for. What is None is the recipe's own choice.

    Attributes:
        arch: name of the architecture.
        width: factor on hidden channels and units.
        activation: ``relu``, ``clip``, or ``qcfs:STEPS``.
        paper: whether to train as the paper does.
        network: other options of ``models.build``.
        variation: fields of ``augment.Variation``.
        label_smoothing: part of the target that is spread over all classes.
        whiten: whether the first convolution whitens patches, and stays so.
        test: whether test images are read at the end.
    """

    arch: str
    width: float
    activation: str
    paper: bool
    network: Mapping[str, Any]
    variation: Mapping[str, Any]
    label_smoothing: float | None
    whiten: bool
    test: bool

    def build(self, dataset: DataSet) -> nn.Module:
        """Make the network, its first weights drawn from torch's generator."""
        own: dict[str, Any] = {"dropout": True, "start": "paper"} if self.paper else {}
        return build(
            self.arch,
            dataset.input_shape,
            dataset.classes,
            width=self.width,
            activation=_activation(self.activation),
            **(own | _given(self.network)),
        )


def train(voice: Voice, request: Training, source: Source, fitting: Fitting, output: Path) -> int:
    """Train a classifier and write it."""
    check_writable(output)
    dataset = source.load(validation=fitting.validation, seed=fitting.seed)
    torch.manual_seed(fitting.seed)
    model = request.build(dataset)
    if request.whiten:
        whiten(model, dataset.normalised("train", slice(WHITENED)))
    recipe = recipe_for(
        model,
        dataset,
        paper=request.paper,
        settings=fitting.changes(),
        variation=_given(request.variation),
        label_smoothing=request.label_smoothing,
    )
    state = state_beside(output)
    history = train_ann(
        model,
        dataset,
        recipe.config,
        variation=recipe.variation,
        label_smoothing=recipe.label_smoothing,
        state_path=state,
        quiet=voice.quiet,
    )
    if is_first():
        save_ann(
            output,
            model,
            arch=request.arch,
            input_shape=dataset.input_shape,
            classes=dataset.classes,
            data={"name": dataset.name, "mean": list(dataset.mean), "std": list(dataset.std)},
            provenance=recipe.said(),
            width=request.width,
        )
        state.unlink(missing_ok=True)
    said: dict[str, Any] = {
        "output": str(output),
        "epochs": len(history),
        "seconds": sum(entry.seconds for entry in history),
        "parameters": sum(value.numel() for value in model.parameters()),
        "train_accuracy": history[-1].accuracy,
        "validation_accuracy": history[-1].validation,
    }
    held_out = of_set(dataset) if request.test and dataset.test is not None else None
    return finish(voice, said, held_out, lambda images: evaluate_ann(model, images.values))


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that somebody set."""
    return {name: value for name, value in options.items() if value is not None}


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
