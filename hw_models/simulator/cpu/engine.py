"""The engine for CPUs: images in chunks that fit the memory budget, a chunk a thread."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.errors import InputError
from spikeship.hw_models.events.arrivals import arrivals
from spikeship.hw_models.events.counts import LocalCounts, local_steps, on_the_chip
from spikeship.hw_models.graph import FixedGraph, Neuron
from spikeship.hw_models.reference.interpreter import check_messages
from spikeship.hw_models.simulator.cpu.block import Buffers, advance
from spikeship.hw_models.simulator.cpu.network import CpuNetwork, NetworkState
from spikeship.hw_models.simulator.cpu.populations import Met
from spikeship.hw_models.simulator.cpu.recorder import Recorder
from spikeship.hw_models.simulator.cpu.staged_pass import StagedPass, has_pass
from spikeship.hw_models.simulator.cpu.threads import Threads
from spikeship.hw_models.simulator.engine import RunOptions
from spikeship.hw_models.simulator.simulation import Simulation

ROWS = 1024  # images times steps of a chunk at least, so that large layers are worth their reading


class CpuEngine:
    """A graph made ready on this machine's cores; see ``engine.Engine``.

    Args:
        graph: any graph.
        strict: whether a sum or a current beyond 24 bits is an error; else it wraps.
        threads: how many; None for all cores.
    """

    def __init__(self, graph: FixedGraph, *, strict: bool, threads: int | None) -> None:
        self._network = CpuNetwork(graph, strict=strict)
        self._pass = StagedPass(graph) if strict and has_pass(graph) else None
        self._threads = Threads(threads)
        self._own = threading.local()  # each thread's buffers, used again chunk after chunk

    def check(self, options: RunOptions) -> None:
        """Refuse early exit of a staged graph; see ``engine.Engine.check``."""
        if options.early_exit is not None and self._network.graph.timing == "staged":
            raise InputError(
                "simulate: early exit looks at scores that grow from step to step, and a staged "
                "network's readout waits for all of its input; quantize it for a smaller T"
            )

    def runs(self, batches: Iterable[NDArray[Any]], options: RunOptions) -> Iterator[Simulation]:
        """Run batches of images; see ``engine.Engine.runs``."""
        under_way: deque[Future[Simulation]] = deque()
        room = self._affordable(options)
        with self._threads.pool() as pool:
            for chunk, alone in self._chunks(batches, room, options):
                longest = max(1, room // len(chunk))
                while under_way and (alone or len(under_way) > self._threads.count):
                    yield under_way.popleft().result()
                if alone:
                    yield self._run(chunk, longest, options)
                else:
                    under_way.append(pool.submit(self._run, chunk, longest, options))
            while under_way:
                yield under_way.popleft().result()

    def _passes(self, options: RunOptions) -> bool:
        """Whether one pass over counts gives all that is asked for."""
        return self._pass is not None and not options.record

    def _chunks(
        self, batches: Iterable[NDArray[Any]], room: int, options: RunOptions
    ) -> Iterator[tuple[NDArray[Any], bool]]:
        """Cut batches into chunks; a batch of one chunk is run alone, with all threads inside."""
        for batch in batches:
            batch = np.asarray(batch)
            if batch.ndim < 2:
                raise InputError(
                    f"simulate: messages have shape {batch.shape}; give (images, steps, ...)"
                )
            if len(batch) == 0:
                continue
            graph = self._network.graph
            steps = max(1, local_steps(graph, graph.steps_of(batch.shape[1])))
            if self._passes(options):
                steps = 1
            share = -(-len(batch) // self._threads.count)
            rows = -(-ROWS // steps)
            if self._pass is not None and self._passes(options):
                rows = self._pass.images_at_once
            size = max(1, min(room // steps, rows, share))
            for begin in range(0, len(batch), size):
                yield batch[begin : begin + size], size >= len(batch)

    def _run(self, chunk: NDArray[Any], longest: int, options: RunOptions) -> Simulation:
        if not hasattr(self._own, "buffers"):
            self._own.buffers = Buffers()
        if self._pass is not None and self._passes(options):
            found = _pass(self._pass, chunk)
            if found is not None:
                return found
        return _run(self._network, chunk, longest, options, self._own.buffers)

    def _affordable(self, options: RunOptions) -> int:
        """Images times steps that one thread's share of the budget holds."""
        share = options.memory_budget // self._threads.count
        if self._pass is not None and self._passes(options):
            return share // self._pass.bytes_per_image()
        return share // self._network.bytes_per_step


def _pass(staged: StagedPass, given: NDArray[Any]) -> Simulation | None:
    """Run one chunk of images in a single pass, if that tells all."""
    graph, images = staged.graph, len(given)
    passed = staged.run(check_messages(graph, given))
    if passed is None:
        return None
    return Simulation(
        scores=passed.scores,
        scores_by_step=passed.scores[:, None].astype(np.int32),
        counts=on_the_chip(graph, staged.steps, images, passed.counts),
        rails={node.name: (0, 0) for node in graph.nodes if isinstance(node, Neuron)},
        recording=None,
        steps=np.full(images, staged.total, np.int64),
    )


def _run(
    network: CpuNetwork,
    given: NDArray[Any],
    longest: int,
    options: RunOptions,
    buffers: Buffers,
) -> Simulation:
    """Run one chunk of images from their first step to their last."""
    graph = network.graph
    checked = check_messages(graph, given)
    images, sending = checked.shape[:2]
    num_steps = graph.steps_of(sending)
    total = local_steps(graph, num_steps)
    drained = np.zeros((images, total - sending, *graph.input.shape), checked.dtype)
    messages = network.messages(np.concatenate([checked, drained], axis=1))
    state = network.start(images, num_steps)
    keeper = Recorder(states=options.potentials) if options.record else None
    early_exit = options.early_exit
    counts = LocalCounts.nothing(graph, total)
    met = {node.name: Met() for node in graph.nodes if isinstance(node, Neuron)}
    classes = network.populations[graph.output.name].neurons
    by_step = np.zeros((images, total, classes), np.int32)
    ran = np.full(images, total, np.int64)
    left = np.arange(images)
    step = 0
    while step < total and len(left):
        size = min(longest, total - step, early_exit.every if early_exit else total)
        now = messages if messages.shape[1] == 1 else messages[:, step : step + size]
        if keeper is not None:
            keeper.begin = step
        block = advance(network, state, now, size, keeper=keeper, buffers=buffers)
        counts.add(block.counts, step)
        met = {name: each.plus(block.met[name]) for name, each in met.items()}
        by_step[left, step : step + size] = block.scores_by_step
        step += size
        if early_exit is not None and step < total:
            done = early_exit.decided(graph, block.scores_by_step[:, -1], step)
            if done.any():
                ran[left[done]] = step
                _drop_late(network, state, done, counts)
                by_step[left[done], step:] = block.scores_by_step[done, -1:]
                state.keep(~done)
                left, messages = left[~done], messages[~done]
    rails = {name: (each.lower, each.upper) for name, each in met.items()}
    return Simulation(
        scores=by_step[:, -1].astype(np.int64),
        scores_by_step=by_step if graph.timing == "pipelined" else by_step[:, -1:],
        counts=on_the_chip(graph, num_steps, images, counts),
        rails=rails,
        recording=None if keeper is None else keeper.recording(graph, given, rails),
        steps=ran,
        wraps={} if network.strict else {name: each.wraps for name, each in met.items()},
    )


def _drop_late(
    network: CpuNetwork, state: NetworkState, done: NDArray[np.bool_], counts: LocalCounts
) -> None:
    """Take back, in place, events of messages still under way to images that stop now.

    A gated graph has none: there counts are in local steps, in which all layers answer at once.
    """
    if network.graph.gated:
        return
    known = zip(arrivals(network.graph), network.tallies, counts.arrived, strict=True)
    for arrival, tally, arrived in known:
        steps = min(arrival.delay, state.step)
        if steps:
            late = state.late[tally.source][done, -steps:]
            arrived[:, state.step - steps : state.step] -= tally(late)
