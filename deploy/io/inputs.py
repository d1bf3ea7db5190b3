"""A data set as the messages a network takes: normalised and encoded as the network says."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.deploy.errors import DeployError
from spikeship.hw_models.graph import FixedGraph
from spikeship.training.data import load as datasets
from spikeship.training.data.load import DataSet, Samples, SplitName
from spikeship.training.snn.encoding import MAX_MESSAGE, Encoding, InputCoding, encode

CHUNK = 64
CALIBRATION = 128  # training images that thresholds and ranges are observed on
PEAK_IMAGES = 1024  # of those that are read one by one, looked at for the largest value


@dataclass(frozen=True, eq=False)
class Images:
    """Normalised images of one split, each with its index in it.

    Attributes:
        values: float32 (images, *input shape), in memory or read when asked for; of messages, their
            mean over time.
        labels: int64 (images,), or None.
        indices: place of each image in its split; the encoding depends on it.
        data: JSON object: name, mean and std, as networks keep it.
        messages: whole numbers (images, T, *input shape) where the set consists of messages, else
            None.
    """

    values: Samples
    labels: NDArray[np.int64] | None
    indices: Tensor
    data: Mapping[str, Any]
    messages: Samples | None = None

    def __repr__(self) -> str:
        return f"<{len(self.values):,} images of {self.data.get('name')}>"

    def correct(self, predictions: NDArray[np.int64]) -> int | None:
        """How many predictions, of the first images, are right; None without labels."""
        if self.labels is None:
            return None
        return int((predictions == self.labels[: len(predictions)]).sum())

    def first(self, count: int) -> "Images":
        """The first ``count`` of them, in memory."""
        return self.part(slice(count))

    def part(self, part: slice) -> "Images":
        """Some of them, in memory."""
        return Images(
            self.values[part],
            None if self.labels is None else self.labels[part],
            self.indices[part],
            self.data,
            None if self.messages is None else self.messages[part],
        )

    def source(self, encoding: Encoding) -> Samples:
        """What a spiking network's encoding starts from: images, or messages for ``spikes``.

        Raises:
            DataError: no messages, for ``spikes``.
        """
        if encoding != "spikes":
            return self.values
        if self.messages is None:
            raise datasets.DataError(
                f"{self.data.get('name')}: holds images, the network takes spikes over time; use "
                "n-mnist, or npz:FILE with messages (images, T, …)"
            )
        return self.messages

    def peak(self) -> float:
        """Largest |x| of the images; where they are read one by one, of about the first 1,000."""
        if isinstance(self.values, Tensor):
            return float(self.values.abs().max())
        starts = range(0, min(PEAK_IMAGES, len(self.values)), CHUNK)
        return max(float(self.values[begin : begin + CHUNK].abs().max()) for begin in starts)


def load_images(
    name: str,
    data_dir: Path | None,
    *,
    split: SplitName = "test",
    limit: int | None = None,
    like: Mapping[str, Any] | None = None,
    input_shape: Sequence[int] | None = None,
    encoding: Encoding | None = None,
) -> Images:
    """Read a set and normalise one split of it.

    Args:
        name: name of the set.
        data_dir: where it lies.
        split: which part.
        limit: take only the first so many images.
        like: a network's data object, whose mean and std win over the set's own.
        input_shape: what the network takes.
        encoding: the network's; for ``spikes`` arrays are taken for messages.

    Raises:
        DataError: the set cannot be read, or its images are not of the network's shape.
    """
    dataset = datasets.load(name, data_dir, messages=encoding == "spikes")
    return of_set(dataset, split=split, limit=limit, like=like, input_shape=input_shape)


def images_for(
    graph: FixedGraph,
    data: str,
    data_dir: Path | None,
    limit: int | None = None,
    *,
    split: SplitName = "test",
) -> Images:
    """Read a set's images as a quantized network takes them; see load_images."""
    dataset = datasets.load(data, data_dir, messages=graph.input.encoding == "spikes")
    return of_set_for(graph, dataset, limit, split=split)


def of_set_for(
    graph: FixedGraph, dataset: DataSet, limit: int | None = None, *, split: SplitName = "test"
) -> Images:
    """Take a set that is already read as a quantized network takes it; see load_images."""
    like = dict(graph.metadata.get("data") or {})
    return of_set(dataset, split=split, limit=limit, like=like, input_shape=graph.input.shape)


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
    part = dataset.split(split).take(slice(limit))
    count = len(part.images)
    if count == 0:
        raise datasets.DataError(
            f"{dataset.name}: has no {split} images to run; -n must be above 0"
        )
    stored = like or {}
    mean = tuple(stored.get("mean") or dataset.mean)
    std = tuple(stored.get("std") or dataset.std)
    values = replace(dataset.as_images(split, mean, std), samples=part.images)
    return Images(
        values=values[:] if isinstance(part.images, Tensor) else values,
        labels=None if part.labels is None else part.labels.numpy(),
        indices=torch.arange(count),
        data={"name": dataset.name, "mean": list(mean), "std": list(std)},
        messages=None if dataset.num_steps is None else part.images,
    )


def coding_of(graph: FixedGraph) -> InputCoding:
    """How images become a graph's messages."""
    source = graph.input
    return InputCoding(source.encoding, source.scale, source.max_message, source.signed)


def steps_of(graph: FixedGraph, num_steps: int | None, images: Images | None = None) -> int:
    """T that was asked for, or else the graph's own, or else that of the messages it is given.

    Raises:
        DeployError: none of them is there.
    """
    steps = num_steps or graph.num_steps
    if steps is None and images is not None and images.messages is not None:
        steps = int(images.messages.shape[1])
    if steps is None:
        raise DeployError("the network says no number of steps; give -T")
    return steps


def messages_of(
    graph: FixedGraph, images: Images, *, seed: int, num_steps: int | None = None
) -> NDArray[np.int8] | NDArray[np.int32]:
    """Encode images for a graph, (images, T, *input shape); T as ``steps_of`` says.

    Direct input to a staged graph has one step.

    Raises:
        DeployError: no T, or messages of another.
    """
    steps = steps_of(graph, num_steps, images)
    if graph.input.max_message > MAX_MESSAGE:
        return _wide_messages(images, steps)
    coding = coding_of(graph)
    source = images.source(coding.encoding)[:]
    sending = graph.input_steps(steps)
    encoded = encode(source, coding, sending, seed=seed, indices=images.indices)
    return np.ascontiguousarray(encoded.numpy())


def _wide_messages(images: Images, steps: int) -> NDArray[np.int32]:
    """Messages too large for training's 8 bits, as they are; the engines check their size."""
    given = images.source("spikes")[:].numpy()
    if given.shape[1] != steps:
        raise DeployError(
            f"messages of {given.shape[1]} steps for a run of {steps}; give -T {given.shape[1]}, "
            "or messages of as many"
        )
    messages = given.astype(np.int32)
    if not np.array_equal(messages, given):
        raise DeployError("messages must be whole numbers; round them first")
    return messages


def in_chunks(images: Images, size: int = CHUNK) -> Iterator[Images]:
    """Cut images into runs of ``size`` that keep their indices."""
    for begin in range(0, len(images.values), size):
        yield images.part(slice(begin, begin + size))
