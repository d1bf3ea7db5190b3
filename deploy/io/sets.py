"""Data sets as verbs read them: by name, cut to so many images, some put aside."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from spikeship.training.data import load as datasets
from spikeship.training.data.load import DataSet, SplitName, with_validation


def load_data(
    name: str,
    data_dir: str | Path | None = None,
    *,
    limit: int | None = None,
    messages: bool = False,
    validation: int = 0,
    seed: int = 0,
) -> DataSet:
    """Read a data set.

    Args:
        name: its name; see ``data.load``.
        data_dir: its folder; None for $SPIKESHIP_DATA.
        limit: only the first so many images of each split.
        messages: take arrays for messages, as a network does whose encoding is ``spikes``.
        validation: training images put aside to choose by.
        seed: which of them.

    Raises:
        DataError: as ``data.load`` and ``with_validation``.
    """
    dataset = datasets.load(name, None if data_dir is None else Path(data_dir), messages=messages)
    if limit is not None:
        first = slice(limit)
        dataset = replace(
            dataset,
            train=dataset.train and dataset.train.take(first),
            test=dataset.test and dataset.test.take(first),
        )
    return with_validation(dataset, validation, seed) if validation else dataset


def labels_of(dataset: DataSet, split: SplitName) -> Tensor:
    """Class of every image of a split that is trained or chosen on, int64.

    Raises:
        DataError: there are no images, or they have no labels.
    """
    labels = dataset.split(split).labels
    if labels is None:
        raise datasets.DataError(
            f"{dataset.name}: its {split} images have no labels; give y_{split}"
        )
    return labels
