"""The fast simulator: the reference's spikes, for many images, on all cores or another device.

Images are cut into chunks that fit the memory budget; threads run a chunk each through the engine
(``engine/``).
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.events.counts import LocalCounts, local_steps, on_the_chip
from spikeship.hw_models.graph import FixedGraph, Neuron
from spikeship.hw_models.reference.interpreter import check_messages
from spikeship.hw_models.simulator.cpu.block import Buffers, advance
from spikeship.hw_models.simulator.cpu.engine import Engine
from spikeship.hw_models.simulator.cpu.populations import Met
from spikeship.hw_models.simulator.cpu.recorder import Recorder
from spikeship.hw_models.simulator.cpu.threads import Threads
from spikeship.hw_models.simulator.early_exit import EarlyExit
from spikeship.hw_models.simulator.simulation import MEMORY_BUDGET, Simulation, merged
from spikeship.hw_models.simulator.torch_device.engine import DeviceEngine

ROWS = 1024  # images times steps of a chunk at least, so that large layers are worth their reading

Inputs = NDArray[Any] | Iterable[NDArray[Any]]


def simulate(
    graph: FixedGraph,
    inputs: Inputs,
    *,
    record: bool = False,
    potentials: bool = False,
    memory_budget: int = MEMORY_BUDGET,
    threads: int | None = None,
    device: str = "cpu",
    strict: bool = True,
    early_exit: EarlyExit | None = None,
    progress: Callable[[int], None] | None = None,
) -> Simulation:
    """Run images through a graph.

    Args:
        graph: any network.
        inputs: integers (images, T, *input shape), or several such batches of one T.
        record: keep every node's activity (spikes as bits).
        potentials: keep potentials and currents as well, 4 bytes each a neuron and step.
        memory_budget: bytes that the layers in work may take. What is kept comes on top.
        threads: how many; all cores by default.
        device: ``cpu``, or one of torch's, such as ``cuda``.
        strict: whether a sum or a current beyond 24 bits is an error; else it wraps as it does on
            Lava, and is counted in the result's ``wraps``.
        early_exit: let images stop when they are decided.
        progress: called with the number of images done since the last call.

    Raises:
        ValueError: messages that do not fit, or options that do not go together.
        StateOverflowError: a sum or a state left its width.
    """
    simulator = Simulator(
        graph, memory_budget=memory_budget, threads=threads, device=device, strict=strict
    )
    runs = simulator.runs(inputs, record=record, potentials=potentials, early_exit=early_exit)
    parts = []
    for part in runs:
        parts.append(part)
        if progress is not None:
            progress(len(part.scores))
    if not parts:
        raise ValueError("simulate: no images to run; give at least one")
    return merged(parts)


class Simulator:
    """A graph made ready once, for many calls; see simulate for the options."""

    def __init__(
        self,
        graph: FixedGraph,
        *,
        memory_budget: int = MEMORY_BUDGET,
        threads: int | None = None,
        device: str = "cpu",
        strict: bool = True,
    ) -> None:
        if device != "cpu" and not strict:
            raise ValueError(f"simulate: currents wrap on the cpu only, not on {device!r}")
        self.graph = graph
        self.memory_budget = memory_budget
        self.device = device
        self.threads = Threads(threads)
        self.engine = (
            Engine(graph, strict=strict) if device == "cpu" else DeviceEngine(graph, device)
        )
        self._own = threading.local()  # each thread's buffers, used again chunk after chunk

    def runs(
        self,
        inputs: Inputs,
        *,
        record: bool = False,
        potentials: bool = False,
        early_exit: EarlyExit | None = None,
    ) -> Iterator[Simulation]:
        """Run images and give the results part by part, in order."""
        record = record or potentials
        if early_exit is not None and record:
            raise ValueError(
                "simulate: early exit stops images at different steps, which a recording cannot "
                "show; do one or the other"
            )
        batches = [inputs] if isinstance(inputs, np.ndarray) else inputs
        if isinstance(self.engine, DeviceEngine):
            if early_exit is not None:
                raise ValueError(f"simulate: early exit runs on the cpu, not on {self.device!r}")
            for batch in batches:
                yield from self.engine.runs(
                    batch,
                    record=record,
                    potentials=potentials,
                    memory_budget=self.memory_budget,
                )
            return
        under_way: deque[Future[Simulation]] = deque()
        with self.threads.pool() as pool:
            for chunk, alone in self._chunks(self.engine, batches):
                longest = max(1, self._affordable(self.engine) // len(chunk))
                work = (self.engine, chunk, longest, record, potentials, early_exit)
                while under_way and (alone or len(under_way) > self.threads.count):
                    yield under_way.popleft().result()
                if alone:
                    yield self._run(*work)
                else:
                    under_way.append(pool.submit(self._run, *work))
            while under_way:
                yield under_way.popleft().result()

    def _chunks(
        self, engine: Engine, batches: Iterable[NDArray[Any]]
    ) -> Iterator[tuple[NDArray[Any], bool]]:
        """Cut batches into chunks; a batch of one chunk is run alone, with all threads inside."""
        for batch in batches:
            batch = np.asarray(batch)
            if batch.ndim < 2:
                raise ValueError(
                    f"simulate: messages have shape {batch.shape}; give (images, steps, ...)"
                )
            if len(batch) == 0:
                continue
            steps = max(1, local_steps(self.graph, batch.shape[1]))
            share = -(-len(batch) // self.threads.count)
            size = max(1, min(self._affordable(engine) // steps, -(-ROWS // steps), share))
            for begin in range(0, len(batch), size):
                yield batch[begin : begin + size], size >= len(batch)

    def _run(self, *work: Any) -> Simulation:
        if not hasattr(self._own, "buffers"):
            self._own.buffers = Buffers()
        return _run(*work, buffers=self._own.buffers)

    def _affordable(self, engine: Engine) -> int:
        """Images times steps that one thread's share of the budget holds."""
        return self.memory_budget // self.threads.count // engine.bytes_per_step


def _run(
    engine: Engine,
    given: NDArray[Any],
    longest: int,
    record: bool,
    potentials: bool,
    early_exit: EarlyExit | None,
    *,
    buffers: Buffers,
) -> Simulation:
    """Run one chunk of images from their first step to their last."""
    graph = engine.graph
    checked = check_messages(graph, given)
    images, num_steps = checked.shape[:2]
    total = local_steps(graph, num_steps)
    drained = np.zeros((images, total - num_steps, *graph.input.shape), checked.dtype)
    messages = engine.messages(np.concatenate([checked, drained], axis=1))
    state = engine.start(images, num_steps)
    keeper = Recorder(states=potentials) if record else None
    counts = LocalCounts.nothing(graph, total)
    met = {node.name: Met() for node in graph.nodes if isinstance(node, Neuron)}
    classes = engine.populations[graph.output.name].neurons
    by_step = np.zeros((images, total, classes), np.int32)
    ran = np.full(images, total, np.int64)
    left = np.arange(images)
    step = 0
    while step < total and len(left):
        size = min(longest, total - step, early_exit.every if early_exit else total)
        now = messages if messages.shape[1] == 1 else messages[:, step : step + size]
        if keeper is not None:
            keeper.begin = step
        block = advance(engine, state, now, size, keeper=keeper, buffers=buffers)
        counts.add(block.counts, step)
        met = {name: each.plus(block.met[name]) for name, each in met.items()}
        by_step[left, step : step + size] = block.scores_by_step
        step += size
        if early_exit is not None and step < total:
            done = early_exit.decided(graph, block.scores_by_step[:, -1], step)
            if done.any():
                ran[left[done]] = step
                by_step[left[done], step:] = block.scores_by_step[done, -1:]
                state.keep(~done)
                left, messages = left[~done], messages[~done]
    rails = {name: (each.lower, each.upper) for name, each in met.items()}
    return Simulation(
        scores=by_step[:, -1].astype(np.int64),
        scores_by_step=by_step,
        counts=on_the_chip(graph, num_steps, images, counts),
        rails=rails,
        recording=None if keeper is None else keeper.recording(graph, given, rails),
        steps=ran,
        wraps={} if engine.strict else {name: each.wraps for name, each in met.items()},
    )
