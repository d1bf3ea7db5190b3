"""Run a stage over images: predictions, accuracy after every step, and events where it counts them.

Every stage gets the same messages: they depend on seed and image only. Images are read, encoded
and run a batch at a time, so memory does not grow with their number; their labels and scores stay.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.inputs import Images, in_chunks, messages_of, steps_of
from spikeship.deploy.run import cluster
from spikeship.hw_models.errors import InputError
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.simulator.early_exit import EarlyExit
from spikeship.hw_models.simulator.simulation import MEMORY_BUDGET
from spikeship.hw_models.simulator.simulator import Simulator
from spikeship.training.snn.encoding import encode
from spikeship.training.snn.observe import fitting_batch
from spikeship.training.snn.spiking_network import SpikingNetwork

Z95 = 1.959963984540054
BATCH = 128  # images encoded at a time, at most,
BATCH_STEPS = 4096  # or more where they take few steps,
BATCH_BYTES = 2**26  # and what their messages may take
PIECE_BYTES = 2**26  # images of one worker's task
PIECES_PER_WORKER = 4  # at least so many where there are images enough, so that all end together

Progress = Callable[[int], None]
Recorder = Callable[[Recording], None]


@dataclass(frozen=True)
class Running:
    """How a graph is run; only ``early_exit`` changes what comes out.

    Attributes:
        threads: of one process; None for its cores.
        memory_budget: bytes that the layers in work may take in one process.
        device: ``cpu`` or ``cuda``.
        batch: images encoded at a time; None for as many as are sensible.
        early_exit: when an image may stop.
        potentials: whether recordings hold membrane potentials.
    """

    threads: int | None = None
    memory_budget: int = MEMORY_BUDGET
    device: str = "cpu"
    batch: int | None = None
    early_exit: EarlyExit | None = None
    potentials: bool = False


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A spiking stage over images.

    Attributes:
        predictions: class of each image, int64.
        scores: readout of each image and class, in the stage's own units.
        steps: local steps each image ran, int64.
        correct_by_step: right answers after local step 1 … T, or None without labels; an image
            that stopped early keeps its answer.
        counts: events, where the stage counts them.
    """

    predictions: NDArray[np.int64]
    scores: NDArray[Any]
    steps: NDArray[np.int64]
    correct_by_step: NDArray[np.int64] | None
    counts: EventCounts | None = None

    def __repr__(self) -> str:
        return f"<Evaluation of {len(self.predictions)} images, {self.scores.shape[1]} classes>"


def wilson(correct: int, images: int) -> tuple[float, float]:
    """95 % interval of an accuracy (Wilson's score interval), as fractions."""
    if images == 0:
        raise InputError("an accuracy over no images has no interval")
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
    running: Running | None = None,
    recorder: Recorder | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    address: str | None = None,
) -> Evaluation:
    """Run a FixedGraph over images in the simulator, in this process or on Ray workers.

    Args:
        graph: the network.
        images: in memory, or read as they are needed.
        seed: of the encoding.
        num_steps: T; the graph's own by default.
        running: threads, memory, device, early exit.
        recorder: is given every node's activity, some images at a time, in their order.
        progress: is given the number of images done since its last call.
        workers: processes to share the images among. The same numbers come out, whatever dies.
        address: ``HOST:PORT`` of a Ray cluster; None to start the workers on this machine.

    Raises:
        ValueError: images the graph cannot take.
        StateOverflowError: a sum left 24 bits.
        ClusterError: no workers are to be had, or some images end every worker that gets them.
    """
    order = _Order(graph, seed, steps_of(graph, num_steps, images), running or Running())
    if order.running.device == "cuda" and not torch.cuda.is_available():
        raise DeployError("device cuda: torch sees no CUDA device here; use the CPU")
    if workers is None and address is None:
        return _run(order, images, recorder, progress)
    if recorder is not None or order.running.device != "cpu":
        what = "a recording" if recorder is not None else f"device {order.running.device}"
        raise DeployError(f"workers: {what} is made by one process; leave out one of the two")
    with cluster.crew(workers, address, order.running.threads) as crew:
        return _shared_out(order, images, crew, progress)


def evaluation_of(
    graph: FixedGraph, recording: Recording, images: Images, counts: EventCounts
) -> Evaluation:
    """Accuracy and counts of a recording, whichever engine made it."""
    # an ungated output runs in chip steps; its local ones are the last
    by_step = recording.scores_by_step(graph)[:, -recording.num_steps :]
    steps = np.full(len(by_step), recording.num_steps, dtype=np.int64)
    scores = by_step[:, -1]
    correct = _correct(by_step, images.labels)
    return Evaluation(scores.argmax(axis=1), scores, steps, correct, counts)


@torch.no_grad()
def evaluate_network(
    snn: SpikingNetwork, images: Images, *, seed: int, num_steps: int | None = None
) -> Evaluation:
    """Run a float spiking network over images."""
    steps, sending = num_steps or snn.num_steps, snn.input_steps(num_steps)
    training, device = snn.training, next(snn.parameters()).device
    snn.eval()
    parts = []
    for chunk in in_chunks(images, fitting_batch(snn.network, steps)):
        source = chunk.source(snn.coding.encoding)[:]
        messages = encode(source, snn.coding, sending, seed=seed, indices=chunk.indices)
        *_, readout = snn.walk(messages.to(device))
        scores = readout.weighted.cumsum(0).transpose(0, 1).cpu().numpy()
        ran = np.full(len(scores), steps, dtype=np.int64)
        correct = _correct(scores, chunk.labels)
        parts.append(Evaluation(scores[:, -1].argmax(axis=1), scores[:, -1], ran, correct))
    snn.train(training)
    return _merged(parts)


@dataclass(frozen=True)
class _Order:
    """What every range of images is run with."""

    graph: FixedGraph
    seed: int
    steps: int
    running: Running


def _run(
    order: _Order, images: Images, recorder: Recorder | None, progress: Progress | None
) -> Evaluation:
    """Run images in this process."""
    graph, running = order.graph, order.running
    simulator = Simulator(
        graph,
        memory_budget=running.memory_budget,
        threads=running.threads,
        device=running.device,
    )
    batches = (
        messages_of(graph, chunk, seed=order.seed, num_steps=order.steps)
        for chunk in in_chunks(images, running.batch or _fitting(order))
    )
    parts: list[Evaluation] = []
    done = 0
    for found in simulator.runs(
        batches,
        record=recorder is not None,
        potentials=recorder is not None and running.potentials,
        early_exit=running.early_exit,
    ):
        count = len(found.scores)
        labels = None if images.labels is None else images.labels[done : done + count]
        # an ungated output runs in chip steps; its local ones are the last
        correct = _correct(found.scores_by_step[:, -order.steps :], labels)
        parts.append(
            Evaluation(found.predictions, found.scores, found.steps, correct, found.counts)
        )
        if recorder is not None:
            assert found.recording is not None  # asked for above
            recorder(found.recording)
        if progress is not None:
            progress(count)
        done += count
    return _merged(parts)


def _shared_out(
    order: _Order, images: Images, crew: cluster.Crew, progress: Progress | None
) -> Evaluation:
    """Run pieces of the images on workers. They travel as images and are encoded there."""
    running = replace(
        order.running,
        threads=crew.threads,
        memory_budget=order.running.memory_budget // crew.beside,
    )
    one = images.part(slice(1))
    each = one.values[:].nbytes + (0 if one.messages is None else one.messages[:].nbytes)
    fair = -(-len(images.values) // (PIECES_PER_WORKER * crew.workers))
    size = max(1, min(fair, PIECE_BYTES // each))
    pieces = ((int(part.indices[0]), part) for part in in_chunks(images, size))

    def done(piece: Evaluation) -> None:
        if progress is not None:
            progress(len(piece.predictions))

    return _merged(crew.each_once(_run_piece, replace(order, running=running), pieces, done))


def _run_piece(order: _Order, piece: Images) -> Evaluation:
    """Run images that were sent here."""
    return _run(order, piece, None, None)


def _fitting(order: _Order) -> int:
    """Images whose messages are encoded at a time."""
    each = order.steps * math.prod(order.graph.input.shape)
    return max(1, min(max(BATCH, BATCH_STEPS // order.steps), BATCH_BYTES // each))


def _correct(
    scores_by_step: NDArray[Any], labels: NDArray[np.int64] | None
) -> NDArray[np.int64] | None:
    """Right answers after each step of scores (images, steps, classes)."""
    if labels is None:
        return None
    right = scores_by_step.argmax(axis=2) == labels[:, None]
    return np.asarray(right.sum(axis=0), dtype=np.int64)


def _merged(parts: Sequence[Evaluation]) -> Evaluation:
    """Put ranges together, in their order."""
    if not parts:
        raise DeployError("there are no images to run; give at least one")
    correct = [part.correct_by_step for part in parts if part.correct_by_step is not None]
    counts = [part.counts for part in parts if part.counts is not None]
    return Evaluation(
        predictions=np.concatenate([part.predictions for part in parts]),
        scores=np.concatenate([part.scores for part in parts]),
        steps=np.concatenate([part.steps for part in parts]),
        correct_by_step=np.sum(correct, axis=0) if correct else None,
        counts=reduce(add, counts) if counts else None,
    )
