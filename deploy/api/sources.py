"""Where networks and images come from: data sets, classifiers and modules."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

from torch import nn

from spikeship.deploy.io import classifier, sets
from spikeship.deploy.io.classifier import Ann
from spikeship.training.choices import MaxPool
from spikeship.training.data.load import DataSet
from spikeship.training.frontends.trace import trace as trace_module

File: TypeAlias = str | Path
Data: TypeAlias = str | DataSet


def load_data(
    name: str,
    data_dir: File | None = None,
    *,
    limit: int | None = None,
    messages: bool = False,
    validation: int = 0,
    seed: int = 0,
) -> DataSet:
    """Read a data set by name; nothing is downloaded.

    Args:
        name: digits, mnist, fashion-mnist, cifar10, cifar100, imagefolder, n-mnist[:T], npz:FILE,
            or package.module:function.
        data_dir: its folder; None for $SPIKESHIP_DATA.
        limit: only the first so many images of each split.
        messages: take arrays for messages over time.
        validation: training images put aside to choose by.
        seed: which.

    Raises:
        SpikeshipError: an unknown name, or files that are missing or damaged.
    """
    return sets.load_data(
        name, data_dir, limit=limit, messages=messages, validation=validation, seed=seed
    )


def load_ann(
    file: File,
    *,
    weights: File | None = None,
    untrained: bool = False,
    input_shape: Sequence[int] | None = None,
    max_pool: MaxPool = "keep",
) -> Ann:
    """Read a trained classifier.

    Args:
        file: ``.safetensors`` written by Spikeship, ``.onnx``, or ``package.module:factory``.
        weights: state dict of the factory's module, read with ``weights_only``.
        untrained: take the weights that the factory itself gives.
        input_shape: of one image, for a factory.
        max_pool: keep max pools, which staged timing has, or put an average in the place of each.

    Raises:
        SpikeshipError: it cannot be read, or has layers without a spiking form.
    """
    made = ":" in str(file) and not Path(file).exists()
    return classifier.load(
        None if made else Path(file),
        arch=str(file) if made else None,
        weights=None if weights is None else Path(weights),
        untrained=untrained,
        input_shape=input_shape,
        max_pool=max_pool,
    )


def trace(module: nn.Module, data: Data | Sequence[int], *, max_pool: MaxPool = "keep") -> Ann:
    """Take a trained module as it is.

    Args:
        module: feed-forward; see the documentation for what it may be made of.
        data: what it was trained on, or the shape of one image.
        max_pool: keep max pools, which staged timing has, or put an average in the place of each.

    Raises:
        SpikeshipError: a layer without a spiking form, by its path.
    """
    dataset = set_of(data) if isinstance(data, str | DataSet) else None
    shape = data if dataset is None else dataset.input_shape
    known: dict[str, Any] = {}
    if dataset is not None:
        known = {"name": dataset.name, "mean": list(dataset.mean), "std": list(dataset.std)}
    network = trace_module(module.eval(), shape, max_pool=max_pool)  # type: ignore[arg-type]
    return Ann(network, known, {"module": type(module).__name__})


def set_of(data: Data, **how: Any) -> DataSet:
    """Read a data set by name, or take it as it is."""
    return data if isinstance(data, DataSet) else sets.load_data(data, **how)
