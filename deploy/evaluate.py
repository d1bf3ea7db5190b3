"""Run a stage over images: predictions, accuracy after every step, and events where it counts them.

Every stage gets the same messages: they depend on seed and image only.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikeship.deploy.inputs import Images, in_chunks, messages_of
from spikeship.hw_models.counts import EventCounts
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.recording import Recording
from spikeship.hw_models.simulator import simulate
from spikeship.training.encoding import encode
from spikeship.training.neurons import SpikingNetwork
from spikeship.training.observe import fitting_batch

Z95 = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A spiking stage over images.

    Attributes:
        predictions: class of each image, int64.
        scores: readout of each image and class, in the stage's own units.
        correct_by_step: right answers after local step 1 … T, or None without labels.
        counts: events, where the stage counts them.
        recording: every node's activity, where it was asked for.
    """

    predictions: NDArray[np.int64]
    scores: NDArray[Any]
    correct_by_step: NDArray[np.int64] | None
    counts: EventCounts | None = None
    recording: Recording | None = None


def wilson(correct: int, images: int) -> tuple[float, float]:
    """95 % interval of an accuracy (Wilson's score interval), as fractions."""
    if images == 0:
        raise ValueError("an accuracy over no images has no interval")
    share, z2 = correct / images, Z95**2 / images
    middle = (share + z2 / 2) / (1 + z2)
    half = Z95 * math.sqrt(share * (1 - share) / images + z2 / (4 * images)) / (1 + z2)
    return max(0.0, middle - half), min(1.0, middle + half)


def evaluate_graph(
    graph: FixedGraph,
    images: Images,
    *,
    seed: int,
    num_steps: int | None = None,
    record: bool = False,
) -> Evaluation:
    """Run a FixedGraph over images in the simulator, a chunk at a time.

    Raises:
        ValueError: images the graph cannot take. StateOverflowError: a sum left 24 bits.
    """
    counts: EventCounts | None = None
    predictions, every, by_step, recordings = [], [], [], []
    for chunk in in_chunks(images):
        messages = messages_of(graph, chunk, seed=seed, num_steps=num_steps)
        result = simulate(graph, messages, record=record)
        counts = result.counts if counts is None else counts + result.counts
        predictions.append(result.predictions)
        every.append(result.scores)
        by_step.append(_correct(result.scores_by_step, chunk))
        if result.recording is not None:
            recordings.append(result.recording)
    return Evaluation(
        predictions=np.concatenate(predictions),
        scores=np.concatenate(every),
        correct_by_step=_total(by_step),
        counts=counts,
        recording=_joined(recordings) if recordings else None,
    )


@torch.no_grad()
def evaluate_network(
    snn: SpikingNetwork, images: Images, *, seed: int, num_steps: int | None = None
) -> Evaluation:
    """Run a float spiking network over images."""
    steps = num_steps or snn.num_steps
    training, device = snn.training, next(snn.parameters()).device
    snn.eval()
    predictions, every, by_step = [], [], []
    for chunk in in_chunks(images, fitting_batch(snn.network, steps)):
        source = chunk.source(snn.coding.encoding)[:]
        messages = encode(source, snn.coding, steps, seed=seed, indices=chunk.indices)
        *_, readout = snn.walk(messages.to(device))
        scores = readout.weighted.cumsum(0).transpose(0, 1).cpu().numpy()
        predictions.append(scores[:, -1].argmax(axis=1).astype(np.int64))
        every.append(scores[:, -1])
        by_step.append(_correct(scores, chunk))
    snn.train(training)
    return Evaluation(np.concatenate(predictions), np.concatenate(every), _total(by_step))


def _correct(scores_by_step: NDArray[Any], images: Images) -> NDArray[np.int64] | None:
    """Right answers of a chunk after each step; scores are (images, steps, classes)."""
    if images.labels is None:
        return None
    right = scores_by_step.argmax(axis=2) == images.labels[:, None]
    return np.asarray(right.sum(axis=0), dtype=np.int64)


def _total(parts: list[NDArray[np.int64] | None]) -> NDArray[np.int64] | None:
    known = [part for part in parts if part is not None]
    return np.sum(known, axis=0) if known else None


def _joined(parts: list[Recording]) -> Recording:
    return Recording(
        num_steps=parts[0].num_steps,
        input=np.concatenate([part.input for part in parts]),
        nodes={
            name: np.concatenate([part.nodes[name] for part in parts]) for name in parts[0].nodes
        },
    )
