"""How a classifier is trained: the paper's way, or one that needs few epochs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from spikeship.training.data.augment import Variation, variation_of
from spikeship.training.data.data_set import DataSet
from spikeship.training.fit.config import FitConfig, Precision
from spikeship.training.fit.processes import pick


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    Attributes:
        config: the settings of the run.
        variation: how training images are varied.
        label_smoothing: part of the target that is spread over all classes.
    """

    config: FitConfig
    variation: Variation
    label_smoothing: float

    def said(self) -> dict[str, Any]:
        """As a JSON object, for a file's provenance."""
        told = {"variation": self.variation.recipe(), "label_smoothing": self.label_smoothing}
        return self.config.recipe() | told


def recipe_for(
    model: nn.Module,
    dataset: DataSet,
    *,
    paper: bool = False,
    settings: Mapping[str, Any] | None = None,
    variation: Mapping[str, Any] | None = None,
    label_smoothing: float | None = None,
) -> Recipe:
    """Settle how to train a network on a set.

    The paper's way (Rathi et al., ICLR 2020, arXiv 2005.01807): 300 epochs of SGD at 0.01 in steps
    down, batches of 64, shifts with black, random mirroring. Ours, measured in
    ``benchmarks/paper_table.py``: 30 epochs of Nesterov's SGD in one cycle, batches of 128,
    averaged weights, label smoothing, mirroring in turns.

    Args:
        model: its batch norm, where it has any, bears a larger rate.
        dataset: the set.
        paper: whether it is the paper's.
        settings: fields of :class:`FitConfig` to set otherwise.
        variation: fields of :class:`Variation`, other than its defaults.
        label_smoothing: likewise.

    Raises:
        FitError: a setting outside its range, or no such device.
        DataError: a variation outside its range.
    """
    changes = dict(settings or {})
    base = variation_of(dataset, paper=paper)
    if paper:
        config = FitConfig(**(_PAPER | changes))
        smoothing = 0.0
    else:
        if changes.get("precision") is None:
            device = pick(changes.get("device", "auto"))
            changes["precision"] = fast_precision(device, dataset.input_shape)
        config = FitConfig(**(_OURS | _rate(model, dataset) | changes))
        smoothing = 0.1
    return Recipe(
        config,
        replace(base, **(variation or {})),
        smoothing if label_smoothing is None else label_smoothing,
    )


def fast_precision(device: str, input_shape: tuple[int, ...]) -> Precision:
    """bfloat16 where the device multiplies in it and images are no thumbnails, else float32.

    Args:
        device: ``cpu`` or ``cuda``.
        input_shape: of one image; below a side of 32 steps are short in any precision.
    """
    if input_shape[-1] < _FULL_SIDE:
        return "32-true"
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"


def _rate(model: nn.Module, dataset: DataSet) -> dict[str, Any]:
    """Highest rate and, for small images, which make narrow networks, more epochs."""
    norm = any(isinstance(part, nn.BatchNorm2d) for part in model.modules())
    if dataset.input_shape[-1] < _FULL_SIDE:
        return {"epochs": 60, "learning_rate": 0.2 if norm else 0.1}
    return {"learning_rate": 0.2 if norm else 0.02}


_FULL_SIDE = 32
_PAPER: dict[str, Any] = {"epochs": 300}
_OURS: dict[str, Any] = {
    "epochs": 30,
    "batch_size": 128,
    "schedule": "one-cycle",
    "nesterov": True,
    "averaging": 1.0,
}
