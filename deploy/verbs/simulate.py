"""The verb ``simulate``: a network over a data set, its accuracy, counts and recordings."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io import network_file as files
from spikeship.deploy.io import record_file
from spikeship.deploy.io.inputs import Images, images_for, messages_of, steps_of
from spikeship.deploy.run.evaluate import (
    Evaluation,
    Recorder,
    Running,
    evaluate_graph,
    evaluation_of,
)
from spikeship.deploy.verbs.console import DONE, Voice, check_writable
from spikeship.hw_models.events.counts import EventCounts, LayerCounts, count_events
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.lava import runner
from spikeship.hw_models.simulator.early_exit import EarlyExit
from spikeship.hw_models.simulator.simulation import MEMORY_BUDGET

COST_IMAGES = 256


@dataclass(frozen=True)
class Request:
    """What simulate was asked for.

    Attributes:
        net: the network's file. data: name of the set. data_dir: its folder.
        on: ``cpu``, ``cuda`` or ``lava``.
        record: file to record to. membranes: whether to record potentials too.
        num_steps: T. limit: images at most. seed: of the encoding.
        running: threads, memory, batch, early exit.
        cost_images: images that are run to the end too, to measure what stopping early costs.
        workers: how many. address: of their cluster.
        per_step: whether layers list their counts by chip step.
    """

    net: Path
    data: str
    data_dir: Path | None = None
    on: str = "cpu"
    record: Path | None = None
    membranes: bool = False
    num_steps: int | None = None
    limit: int | None = None
    seed: int = 0
    running: Running = Running()
    cost_images: int = COST_IMAGES
    workers: int | None = None
    address: str | None = None
    per_step: bool = False


def simulate(voice: Voice, request: Request) -> int:
    """Run a network over a data set: accuracy and counts."""
    _check(request)
    if request.record is not None:
        check_writable(request.record)
    graph = files.load(request.net)
    images = images_for(graph, request.data, request.data_dir, request.limit)
    with ExitStack() as stack:
        recorder = None
        if request.record is not None:
            steps = steps_of(graph, request.num_steps, images)
            potentials = request.membranes
            record_file.check_room(
                request.record, graph, len(images.values), steps, potentials=potentials
            )
            recorder = stack.enter_context(
                record_file.writing(request.record, potentials=potentials)
            )
        found = _run(voice, request, graph, images, recorder)
    assert found.counts is not None  # the simulator always counts
    result = _simulated(found, found.counts, images, request.per_step)
    if request.running.early_exit is not None:
        result["early_exit"] = _cost(voice, request, graph, images, found)
    _tell(voice, request.on, result)
    voice.result(result)
    return DONE


def engine(on: str | None, device: str) -> str:
    """What runs: ``--on``, else what ``--device`` says, else the CPU.

    Raises:
        DeployError: they contradict each other.
    """
    if on == "cuda" and device == "cpu":
        raise DeployError("--on cuda: contradicts --device cpu; give one of them")
    return on or ("cuda" if device == "cuda" else "cpu")


def running(
    threads: int | None, memory_gb: float | None, batch: int | None, margin: float | None
) -> Running:
    """How to run, by the options as they were given.

    Raises:
        DeployError: no memory at all.
    """
    if memory_gb is not None and not memory_gb > 0:
        raise DeployError(f"--memory: {memory_gb} GB hold nothing; give more than 0")
    return Running(
        threads=threads,
        memory_budget=MEMORY_BUDGET if memory_gb is None else int(memory_gb * 1e9),
        batch=batch,
        early_exit=None if margin is None else EarlyExit(margin),
    )


def _check(request: Request) -> None:
    """Refuse options that do not go together.

    Raises:
        DeployError: names two of them.
    """
    early, spread = request.running.early_exit is not None, request.workers or request.address
    if request.membranes and request.record is None:
        raise DeployError("--membranes: there is no file to write them to; give --record FILE.npz")
    if request.record is not None and early:
        raise DeployError("--record: holds whole runs; leave out --early-exit")
    if request.record is not None and spread:
        raise DeployError("--record: is written by one process; leave out --workers and --address")
    if request.on == "cuda" and spread:
        raise DeployError("--on cuda: is for one process; leave out --workers and --address")
    if request.on == "lava":
        if spread or request.membranes or request.running != Running():
            raise DeployError(
                "--on lava: Lava takes neither --early-exit, --membranes, --workers, --address, "
                "--threads, --memory nor --batch; leave them out"
            )


def _run(
    voice: Voice, request: Request, graph: FixedGraph, images: Images, recorder: Recorder | None
) -> Evaluation:
    if request.on == "lava":
        messages = messages_of(graph, images, seed=request.seed, num_steps=request.num_steps)
        recording = runner.run(graph, messages).recording
        if recorder is not None:
            recorder(recording)
        counts = count_events(graph, recording.nodes, messages)
        return evaluation_of(graph, recording, images, counts)
    with voice.progress(len(images.values), "images") as progress:
        return evaluate_graph(
            graph,
            images,
            seed=request.seed,
            num_steps=request.num_steps,
            running=replace(request.running, device=request.on, potentials=request.membranes),
            recorder=recorder,
            progress=progress,
            workers=request.workers,
            address=request.address,
        )


def _cost(
    voice: Voice, request: Request, graph: FixedGraph, images: Images, early: Evaluation
) -> dict[str, Any]:
    """What stopping early costs: the first of the same images, run to the end."""
    few = images.first(request.cost_images)
    whole = replace(request, running=replace(request.running, early_exit=None))
    full = _run(voice, whole, graph, few, None)
    count = len(full.predictions)
    answers = early.predictions[:count]
    assert request.running.early_exit is not None  # asked for
    return {
        "margin": request.running.early_exit.margin,
        "mean_steps": float(early.steps.mean()),
        "accuracy": _share(few.correct(answers), count),
        "full_accuracy": _share(few.correct(full.predictions), count),
        "agreement": float(np.mean(answers == full.predictions)),
        "cost_images": count,
        "steps_histogram": np.bincount(early.steps, minlength=int(full.steps[0]) + 1)[1:].tolist(),
    }


def _simulated(
    found: Evaluation, counts: EventCounts, images: Images, per_step: bool
) -> dict[str, Any]:
    rates = counts.per_inference()
    correct = images.correct(found.predictions)
    by_step = found.correct_by_step
    return {
        "images": counts.images,
        "accuracy": _share(correct, counts.images),
        "correct": correct,
        "num_steps": counts.num_steps,
        "chip_steps": counts.chip_steps,
        "accuracy_by_step": None if by_step is None else (by_step / counts.images).tolist(),
        "spikes": rates["spikes"],
        "synops": dict(rates["synops"]),
        "neuron_updates": rates["neuron_updates"],
        "layers": [
            {**row, **({"per_step": _per_step(layer, counts.images)} if per_step else {})}
            for row, layer in zip(rates["layers"], counts.layers, strict=True)
        ],
    }


def _per_step(layer: LayerCounts, images: int) -> dict[str, list[float]]:
    """One layer's events per inference, a number for each chip step."""
    arrays = {
        "spikes": layer.spikes,
        "synops_effective": layer.effective,
        "neuron_updates": layer.neuron_updates,
        "messages_in": layer.messages_in,
    }
    return {name: (values / images).tolist() for name, values in arrays.items()}


def _share(correct: int | None, images: int) -> float | None:
    return None if correct is None else correct / images


def _tell(voice: Voice, on: str, result: Mapping[str, Any]) -> None:
    if result["correct"] is not None:
        voice.say(
            f"{result['correct']} of {result['images']} right ({result['accuracy']:.2%}), on {on}"
        )
    voice.say(
        f"per inference: {result['spikes']:.0f} spikes, {result['synops']['effective']:.0f} "
        f"synaptic operations, {result['chip_steps']} chip steps"
    )
    if "early_exit" in result:
        cost = result["early_exit"]
        kept = f"the same class as all {result['num_steps']} for {cost['agreement']:.2%}"
        voice.say(
            f"early exit: {cost['mean_steps']:.1f} steps on average, {kept} of "
            f"{cost['cost_images']} images"
        )
