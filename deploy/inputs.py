"""A data set as the messages a network takes: normalised and encoded as the network says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.deploy.check import DeployError
from spikeship.hw_models.graph import FixedGraph
from spikeship.training import data as datasets
from spikeship.training.data import DataSet, SplitName
from spikeship.training.encoding import InputCoding, encode

CHUNK = 64
CALIBRATION = 128  # training images that thresholds and ranges are observed on


@dataclass(frozen=True, eq=False)
class Images:
    """Normalised images of one split, each with its index in it.

    Attributes:
        values: float32 (images, *input shape). labels: int64 (images,), or None.
        indices: place of each image in its split; the encoding depends on it.
        data: JSON object: name, mean and std, as networks keep it.
    """

    values: Tensor
    labels: NDArray[np.int64] | None
    indices: Tensor
    data: Mapping[str, Any]

    def correct(self, predictions: NDArray[np.int64]) -> int | None:
        """How many predictions are right; None without labels."""
        return None if self.labels is None else int((predictions == self.labels).sum())

    def first(self, count: int) -> "Images":
        """The first ``count`` of them."""
        labels = None if self.labels is None else self.labels[:count]
        return Images(self.values[:count], labels, self.indices[:count], self.data)


def load_images(
    name: str,
    data_dir: Path | None,
    *,
    split: SplitName = "test",
    limit: int | None = None,
    like: Mapping[str, Any] | None = None,
    input_shape: Sequence[int] | None = None,
) -> Images:
    """Read a set and normalise one split of it.

    Args:
        name: name of the set.
        data_dir: where it lies.
        split: which part.
        limit: take only the first so many images.
        like: a network's data object, whose mean and std win over the set's own.
        input_shape: what the network takes.

    Raises:
        DataError: the set cannot be read, or its images are not of the network's shape.
    """
    return of_set(
        datasets.load(name, data_dir), split=split, limit=limit, like=like, input_shape=input_shape
    )


def of_set(
    dataset: DataSet,
    *,
    split: SplitName = "test",
    limit: int | None = None,
    like: Mapping[str, Any] | None = None,
    input_shape: Sequence[int] | None = None,
) -> Images:
    """Normalise one split of a set that is already read; see load_images."""
    if input_shape is not None and tuple(input_shape) != dataset.input_shape:
        raise datasets.DataError(
            f"{dataset.name}: its images have shape {dataset.input_shape}, the network takes "
            f"{tuple(input_shape)}; use the set it was trained for"
        )
    part = dataset.split(split)
    count = len(part.images) if limit is None else min(limit, len(part.images))
    if count == 0:
        raise datasets.DataError(
            f"{dataset.name}: has no {split} images to run; -n must be above 0"
        )
    stored = like or {}
    mean = tuple(stored.get("mean") or dataset.mean)
    std = tuple(stored.get("std") or dataset.std)
    return Images(
        values=dataset.normalised(split, slice(0, count), mean, std),
        labels=None if part.labels is None else part.labels[:count].numpy(),
        indices=torch.arange(count),
        data={"name": dataset.name, "mean": list(mean), "std": list(std)},
    )


def coding_of(graph: FixedGraph) -> InputCoding:
    """How images become a graph's messages."""
    source = graph.input
    return InputCoding(source.encoding, source.scale, source.max_message, source.signed)


def messages_of(
    graph: FixedGraph, images: Images, *, seed: int, num_steps: int | None = None
) -> NDArray[np.int8]:
    """Encode images for a graph, (images, T, *input shape); T is the graph's own by default.

    Raises:
        DeployError: the graph names no T and none is given.
    """
    steps = num_steps or graph.num_steps
    if steps is None:
        raise DeployError("the network says no number of steps; give -T")
    encoded = encode(images.values, coding_of(graph), steps, seed=seed, indices=images.indices)
    return np.ascontiguousarray(encoded.numpy())


def in_chunks(images: Images, size: int = CHUNK) -> Iterator[Images]:
    """Cut images into runs of ``size`` that keep their indices."""
    for begin in range(0, len(images.values), size):
        part = slice(begin, begin + size)
        labels = None if images.labels is None else images.labels[part]
        yield Images(images.values[part], labels, images.indices[part], images.data)
