"""A network over a data set as ``simulate`` runs it: accuracy, counts, recordings, early exit."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io import record_file
from spikeship.deploy.io.inputs import Images, messages_of, steps_of
from spikeship.deploy.options.simulate import SimulateOptions
from spikeship.deploy.run.evaluate import (
    Evaluation,
    Recorder,
    Running,
    evaluate_graph,
    evaluation_of,
)
from spikeship.hw_models.events.counts import EventCounts, LayerCounts, count_events
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.lava import runner
from spikeship.hw_models.simulator.early_exit import EarlyExit
from spikeship.hw_models.simulator.simulation import MEMORY_BUDGET

Progress = Callable[[int], None]


@dataclass(frozen=True, eq=False)
class Simulation:
    """What a simulation gave.

    Attributes:
        on: ``cpu``, ``cuda`` or ``lava``.
        evaluation: predictions, scores, steps and counts.
        result: the JSON object of the verb.
    """

    on: str
    evaluation: Evaluation
    result: dict[str, Any]

    @property
    def accuracy(self) -> float | None:
        """Share of right answers, 0..1; None without labels."""
        found: float | None = self.result["accuracy"]
        return found

    def __repr__(self) -> str:
        known = "no labels" if self.accuracy is None else f"{self.accuracy:.2%} right"
        result = self.result
        return (
            f"<Simulation of {result['images']} images on {self.on}: {known}, T = "
            f"{result['num_steps']}, {result['synops']['effective']:.0f} synaptic operations>"
        )


def simulate(
    graph: FixedGraph,
    images: Images,
    options: SimulateOptions,
    *,
    seed: int = 0,
    device: str = "auto",
    progress: Progress | None = None,
) -> Simulation:
    """Run a network over images, and record it where the options ask for it.

    Args:
        graph: the network.
        images: what to run.
        options: how.
        seed: of the encoding.
        device: what ``--device`` says, for options that leave ``on`` open.
        progress: is given the number of images done since its last call.

    Raises:
        DeployError: options that contradict each other.
    """
    on, running = check(options, device)
    run = _Run(graph, options, seed, on, running, progress)
    with ExitStack() as stack:
        recorder = None
        if options.record is not None:
            steps = steps_of(graph, options.num_steps, images)
            potentials = options.membranes
            record_file.check_room(
                options.record, graph, len(images.values), steps, potentials=potentials
            )
            recorder = stack.enter_context(
                record_file.writing(options.record, potentials=potentials)
            )
        found = run.over(images, recorder)
    assert found.counts is not None  # the simulator always counts
    result = _simulated(found, found.counts, images, options.per_step)
    if run.running.early_exit is not None:
        result["early_exit"] = run.cost(images, found, run.running.early_exit.margin)
    return Simulation(run.on, found, result)


@dataclass(frozen=True, eq=False)
class _Run:
    """One way to run a network."""

    graph: FixedGraph
    options: SimulateOptions
    seed: int
    on: str
    running: Running
    progress: Progress | None

    def over(self, images: Images, recorder: Recorder | None) -> Evaluation:
        """Run it over images."""
        graph, options = self.graph, self.options
        if self.on == "lava":
            messages = messages_of(graph, images, seed=self.seed, num_steps=options.num_steps)
            recording = runner.run(graph, messages).recording
            if recorder is not None:
                recorder(recording)
            counts = count_events(graph, recording.nodes, messages)
            return evaluation_of(graph, recording, images, counts)
        return evaluate_graph(
            graph,
            images,
            seed=self.seed,
            num_steps=options.num_steps,
            running=replace(self.running, device=self.on, potentials=options.membranes),
            recorder=recorder,
            progress=self.progress,
            workers=options.workers,
            address=options.address,
        )

    def cost(self, images: Images, early: Evaluation, margin: float) -> dict[str, Any]:
        """What stopping early costs: the first of the same images, run to the end."""
        few = images.first(self.options.cost_images)
        whole = replace(self, running=replace(self.running, early_exit=None), progress=None)
        full = whole.over(few, None)
        count = len(full.predictions)
        answers = early.predictions[:count]
        histogram = np.bincount(early.steps, minlength=int(full.steps[0]) + 1)[1:]
        return {
            "margin": margin,
            "mean_steps": float(early.steps.mean()),
            "accuracy": _share(few.correct(answers), count),
            "full_accuracy": _share(few.correct(full.predictions), count),
            "agreement": float(np.mean(answers == full.predictions)),
            "cost_images": count,
            "steps_histogram": histogram.tolist(),
        }


def _engine(on: str | None, device: str) -> str:
    """What runs: ``--on``, else what ``--device`` says, else the CPU.

    Raises:
        DeployError: they contradict each other.
    """
    if on == "cuda" and device == "cpu":
        raise DeployError("--on cuda: contradicts --device cpu; give one of them")
    return on or ("cuda" if device == "cuda" else "cpu")


def _running(options: SimulateOptions) -> Running:
    """How to run.

    Raises:
        DeployError: no memory at all.
    """
    memory, margin = options.memory, options.early_exit
    if memory is not None and not memory > 0:
        raise DeployError(f"--memory: {memory} GB hold nothing; give more than 0")
    return Running(
        threads=options.threads,
        memory_budget=MEMORY_BUDGET if memory is None else int(memory * 1e9),
        batch=options.batch,
        early_exit=None if margin is None else EarlyExit(margin),
    )


def check(options: SimulateOptions, device: str) -> tuple[str, Running]:
    """Say what runs a network and how, and refuse options that do not go together.

    Args:
        options: as they were given.
        device: what ``--device`` says.

    Raises:
        DeployError: names two of them.
    """
    on, running = _engine(options.on, device), _running(options)
    early, spread = running.early_exit is not None, options.workers or options.address
    if options.membranes and options.record is None:
        raise DeployError("--membranes: there is no file to write them to; give --record FILE.npz")
    if options.record is not None and early:
        raise DeployError("--record: holds whole runs; leave out --early-exit")
    if options.record is not None and spread:
        raise DeployError("--record: is written by one process; leave out --workers and --address")
    if on == "cuda" and spread:
        raise DeployError("--on cuda: is for one process; leave out --workers and --address")
    if on == "lava" and (spread or options.membranes or running != Running()):
        raise DeployError(
            "--on lava: Lava takes neither --early-exit, --membranes, --workers, --address, "
            "--threads, --memory nor --batch; leave them out"
        )
    return on, running


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
