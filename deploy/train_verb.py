"""The verb train: a classifier of a known architecture on a known set."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from spikeship.deploy.check import DeployError
from spikeship.deploy.console import Voice, check_writable
from spikeship.deploy.fitting import Fitting, Source, finish, state_beside
from spikeship.deploy.inputs import of_set
from spikeship.training.activations import QCFS, ClippedReLU
from spikeship.training.ann import ann_config, evaluate_ann, train_ann
from spikeship.training.checkpoint import save_ann
from spikeship.training.models import build
from spikeship.training.processes import is_first

# where the level of a bounded activation starts; it is learnt with the weights
FIRST_LEVEL = 2.0


@dataclass(frozen=True)
class Training:
    """What train was asked for.

    Attributes:
        arch: name of the architecture.
        width: factor on hidden channels and units.
        batch_norm: whether one follows each convolution.
        activation: ``relu``, ``clip``, or ``qcfs:STEPS``.
    """

    arch: str
    width: float
    batch_norm: bool
    activation: str


def train(voice: Voice, request: Training, source: Source, fitting: Fitting, output: Path) -> int:
    """Train a classifier and write it."""
    check_writable(output)
    activation = _activation(request.activation)
    dataset = source.load(validation=fitting.validation, seed=fitting.seed)
    torch.manual_seed(fitting.seed)
    model = build(
        request.arch,
        dataset.input_shape,
        dataset.classes,
        batch_norm=request.batch_norm,
        width=request.width,
        activation=activation,
    )
    config = ann_config(dataset.input_shape, **fitting.changes())
    state = state_beside(output)
    history = train_ann(model, dataset, config, state_path=state, quiet=voice.quiet)
    if is_first():
        save_ann(
            output,
            model,
            arch=request.arch,
            input_shape=dataset.input_shape,
            classes=dataset.classes,
            data={"name": dataset.name, "mean": list(dataset.mean), "std": list(dataset.std)},
            provenance=config.recipe(),
            width=request.width,
        )
        state.unlink(missing_ok=True)
    said: dict[str, Any] = {
        "output": str(output),
        "epochs": len(history),
        "train_accuracy": history[-1].accuracy,
        "validation_accuracy": history[-1].validation,
    }
    held_out = None if dataset.test is None else of_set(dataset)
    return finish(voice, said, held_out, lambda images: evaluate_ann(model, images.values))


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
