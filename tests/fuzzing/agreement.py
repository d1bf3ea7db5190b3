"""One graph, every way of running it: does the simulator do what the reference does?"""

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from fuzzing.slow_counts import slow_counts
from spikeship.deploy.io.network_file import load, save
from spikeship.hw_models.events.recording import Recording, first_difference
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.lava import runner
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.reference.interpreter import StateOverflowError
from spikeship.hw_models.simulator.cpu import block
from spikeship.hw_models.simulator.simulator import Simulation, simulate
from spikeship.hw_models.simulator.stream import Stream
from spikeship.hw_models.simulator.sums.sum_choice import Backend, Choice
from spikeship.hw_models.simulator.torch_device import engine as device_engine

Array = NDArray[np.int64]
Simulated = Callable[..., Simulation]
SMALL = 600  # bytes of sums
SOME = 3  # of the other ways to call the simulator that one graph goes through


def with_simulator(graph: FixedGraph, messages: Array) -> str | None:
    """Say where the simulator first differs from the reference; None where it never does.

    Where the reference overflows, the simulator must; then both run on as the chip would.
    """
    try:
        return next(_differences(graph, messages), None)
    except Exception as error:  # an engine that raises differs from a reference that does not
        return f"raises {type(error).__name__}: {error}"


def with_lava(graph: FixedGraph, messages: Array) -> str | None:
    """Say where real Lava first differs from the reference, which lets currents wrap as Lava."""
    expected = reference.run(graph, messages, strict=False)
    try:
        found = runner.run(graph, messages).recording
    except runner.LavaError as error:
        return f"Lava fails: {error}"
    difference = first_difference(graph, expected, found)
    return None if difference is None else f"Lava: {difference}"


def summing_by(backend: Backend) -> AbstractContextManager[object]:
    """Let sums take this way wherever it is exact: which one is fastest depends on the clock."""

    def choose(_: Choice, guesses: dict[Backend, float]) -> Backend:
        return backend if backend in guesses else next(iter(guesses))

    return patch.object(Choice, "fastest", choose)


def _differences(graph: FixedGraph, messages: Array) -> Iterator[str]:
    """Every difference, the plain run's first."""
    expected = _reference(graph, messages, strict=True)
    strict = isinstance(expected, Recording)
    if not strict:
        yield from _overflows(graph, messages, expected, strict=True)
        expected = _reference(graph, messages, strict=False)
    if isinstance(expected, StateOverflowError):
        yield from _overflows(graph, messages, expected, strict=False)
        return
    simulated = partial(simulate, strict=strict)
    with summing_by("int8"):
        found = simulated(graph, messages, record=True, potentials=True)
    yield from _wholly_same(graph, expected, found)
    for backend, name, way in _some_ways(messages):
        with summing_by(backend):
            found = way(simulated, graph, messages)
        for difference in _same(graph, expected, found):
            yield f"{name}, sums by {backend}: {difference}"
    if strict:
        with summing_by("events"):
            yield from _streamed(graph, messages, expected)
        tensors = device_engine.run(graph, messages, "cpu", record=True, potentials=True)
        for difference in _wholly_same(graph, expected, tensors):
            yield f"tensors: {difference}"
    natural = simulate(graph, messages, strict=False, record=True, memory_budget=1)
    for difference in _same(graph, expected, natural):
        yield f"not strict, sums by the clock: {difference}"


def _reference(
    graph: FixedGraph, messages: Array, *, strict: bool
) -> Recording | StateOverflowError:
    try:
        return reference.run(graph, messages, strict=strict)
    except StateOverflowError as error:
        return error


def _wholly_same(graph: FixedGraph, expected: Recording, found: Simulation) -> Iterator[str]:
    """States and counts too."""
    yield from _same(graph, expected, found)
    assert found.recording is not None
    for key in ("potentials", "currents"):
        for name, values in getattr(expected, key).items():
            yield from _equal(f"{key} of {name!r}", values, getattr(found.recording, key)[name])
    counted = slow_counts(graph, expected)
    for layer in found.counts.layers:
        for key, values in counted[layer.name].items():
            yield from _equal(f"{key} of {layer.name!r}", values, np.array(getattr(layer, key)))
    messages = expected.input
    events = np.count_nonzero(messages.reshape(*messages.shape[:2], -1), axis=(0, 2))
    yield from _equal("input_spikes", events, found.counts.input_spikes)
    if found.counts.images != len(messages):
        yield f"counts: {found.counts.images} images, expected {len(messages)}"


def _in_batches(simulated: Simulated, graph: FixedGraph, messages: Array) -> Simulation:
    half = len(messages) // 2 + 1
    batches = (part for part in (messages[:half], messages[half:]) if len(part))
    return simulated(graph, batches, record=True)


def _saved(simulated: Simulated, graph: FixedGraph, messages: Array) -> Simulation:
    with tempfile.TemporaryDirectory() as folder:
        save(graph, Path(folder) / "graph.safetensors")
        again = load(Path(folder) / "graph.safetensors")
    return simulated(again, messages, record=True)


def _in_small_blocks(simulated: Simulated, graph: FixedGraph, messages: Array) -> Simulation:
    """Layers cut into blocks of some images or some steps, as only large ones are otherwise."""
    with patch.multiple(block, BLOCK_BYTES=SMALL, DENSE_BYTES=SMALL):
        return simulated(graph, messages, record=True)


def _with(**options: Any) -> Callable[[Simulated, FixedGraph, Array], Simulation]:
    return lambda simulated, graph, messages: simulated(graph, messages, **options)


# other calls that must give the same, each with other sums
_WAYS: tuple[tuple[Backend, str, Callable[[Simulated, FixedGraph, Array], Simulation]], ...] = (
    ("float32", "no recording", _with()),
    ("float64", "one byte of memory", _with(record=True, memory_budget=1)),
    ("events", "one thread", _with(record=True, threads=1)),
    ("float32", "two threads", _with(record=True, threads=2, memory_budget=1)),
    ("int8", "batches", _in_batches),
    ("events", "saved and loaded", _saved),
    ("int8", "small blocks", _in_small_blocks),
)


def _some_ways(messages: Array) -> list[Any]:
    """A few of them, the messages decide which, so that a case replays as it was found."""
    rng = np.random.default_rng([len(messages), int(np.abs(messages).sum())])
    return [_WAYS[place] for place in rng.permutation(len(_WAYS))[:SOME]]


def _same(graph: FixedGraph, expected: Recording, found: Simulation) -> Iterator[str]:
    if found.recording is not None:
        difference = first_difference(graph, expected, found.recording)
        if difference is not None:
            yield str(difference)
    by_step = expected.scores_by_step(graph)
    yield from _equal("scores_by_step", by_step, found.scores_by_step)
    yield from _equal("scores", by_step[:, -1], found.scores)
    yield from _equal("steps", np.full(len(by_step), by_step.shape[1]), found.steps)
    for key in ("rails", "wraps"):
        ours, theirs = dict(getattr(expected, key)), dict(getattr(found, key))
        # a strict reference counts no wraps; where a run that is not strict meets none, it is 0
        if ours != theirs and (ours or any(theirs.values())):
            yield f"{key}: expected {ours}, found {theirs}"


def _streamed(graph: FixedGraph, messages: Array, expected: Recording) -> Iterator[str]:
    """Feed the same messages in pieces; the cuts depend on the messages, so they replay."""
    rng = np.random.default_rng(int(np.abs(messages).sum()))
    if not graph.gated:  # a stream runs chip steps then, and what is under way arrives later
        silence = np.zeros((len(messages), graph.drain, *graph.input.shape), np.int64)
        messages = np.concatenate([messages, silence], axis=1)
    cuts = np.sort(rng.integers(0, messages.shape[1] + 1, 3))
    stream = Stream(graph, images=len(messages))
    for again in ("", " after a reset"):
        pieces = [part for part in np.split(messages, cuts, axis=1) if part.shape[1]]
        by_step = np.concatenate([stream.feed(part) for part in pieces], axis=1)
        yield from _equal(f"streamed scores{again}", expected.scores_by_step(graph), by_step)
        stream.reset()


def _overflows(
    graph: FixedGraph, messages: Array, expected: StateOverflowError, *, strict: bool
) -> Iterator[str]:
    """Every engine must overflow too, in a node that does so by the reference."""
    runs: list[Callable[[], object]] = [
        partial(simulate, graph, messages, strict=strict, **options)
        for options in ({}, {"record": True}, {"memory_budget": 1, "threads": 2})
    ]
    if strict:
        runs.append(partial(device_engine.run, graph, messages, "cpu"))
    for run in runs:
        try:
            run()
        except StateOverflowError as error:
            if not _may_be_first(graph, messages, expected, error, strict=strict):
                yield f"overflow: expected {expected}, found {error}"
        except Exception as error:
            yield f"raises {type(error).__name__}: {error}; expected {expected}"
        else:
            yield f"does not raise {expected}"


def _may_be_first(
    graph: FixedGraph,
    messages: Array,
    expected: StateOverflowError,
    found: StateOverflowError,
    *,
    strict: bool,
) -> bool:
    """Whether the node found overflows; where several do, layers and steps find another first."""
    node = _overflowing(graph, found)
    if node == _overflowing(graph, expected):
        return True
    part = _up_to(graph, node)
    missing = 0 if graph.gated else max(0, graph.drain - part.drain)
    silence = np.zeros((len(messages), missing, *graph.input.shape), np.int64)
    heard = np.concatenate([messages, silence], axis=1)
    return isinstance(_reference(part, heard, strict=strict), StateOverflowError)


def _overflowing(graph: FixedGraph, error: StateOverflowError) -> str:
    """The node an error names, or the target of the synapse it names."""
    kind, name = re.findall(r"(node|readout|synapse) '([^']*)'", str(error))[0]
    if kind != "synapse":
        return str(name)
    return next(synapse.target for synapse in graph.synapses if synapse.name == name)


def _up_to(graph: FixedGraph, name: str) -> FixedGraph:
    """The part of a graph that a node hears of, itself included."""
    kept = {name}
    for _ in graph.nodes:
        kept |= {synapse.source for synapse in graph.synapses if synapse.target in kept}
    return FixedGraph(
        graph.input,
        tuple(node for node in graph.nodes if node.name in kept),
        tuple(synapse for synapse in graph.synapses if synapse.target in kept),
        gated=graph.gated,
    )


def _equal(name: str, expected: Array, found: NDArray[np.generic]) -> Iterator[str]:
    if expected.shape != found.shape:
        yield f"{name}: shape {found.shape}, expected {expected.shape}"
    elif not np.array_equal(expected, found):
        at = tuple(int(n) for n in np.argwhere(np.asarray(expected != found))[0])
        yield f"{name} at {at}: expected {expected[at]}, found {found[at]}"
