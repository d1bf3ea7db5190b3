"""The slow interpreter: one integer step per node, in the chip's own order. It DEFINES semantics.

Every other engine must give the same spikes. It walks chip steps as Lava does: at each step a
node takes what its synapses deliver, then sends; a synapse delivers ``delay`` steps later. Written
to be read, with no shortcut that could hide a mistake.
"""

from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.errors import InputError
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import (
    AnySynapse,
    Array,
    Conv,
    FixedGraph,
    Neuron,
    Readout,
    Shape,
    parts,
)
from spikeship.hw_models.reference.nodes import Population, start
from spikeship.hw_models.reference.sums import StateOverflowError, apply, require_24_bits

__all__ = ["StateOverflowError", "apply", "check_messages", "run"]


def run(graph: FixedGraph, messages: NDArray[Any], *, strict: bool = True) -> Recording:
    """Run images through a graph, chip step by chip step.

    Args:
        graph: the network.
        messages: integers (images, T, *input shape); T is theirs. Direct input to a staged graph
            has one step.
        strict: whether a sum or a current beyond 24 bits is an error, and in a staged graph a
            potential at its rail; else they wrap and clip as on Lava, and are counted.

    Returns:
        The activity, potentials and currents of every node in all T + D steps, and the rails met.

    Raises:
        ValueError: messages of another shape or beyond the input's width.
        StateOverflowError: a sum or a state left its bits.
    """
    messages = check_messages(graph, messages)
    images, given = messages.shape[:2]
    t_steps = graph.steps_of(given)
    total = graph.chip_steps(t_steps)
    populations = {
        node.name: start(node, images, strict=strict, window=graph.windows.get(node.name))
        for node in graph.nodes
    }
    lines = [
        _line(part, images, graph.node(part.target).shape)
        for synapse in graph.synapses
        for part in parts(synapse)
    ]
    record, potentials, currents = _rows(graph, images, total)
    silence = np.zeros_like(messages[:, 0])

    for step in range(total):
        message = messages[:, step] if step < given else silence
        _send(lines, {graph.input.name: message})  # first: what takes no time arrives at once
        arrived = {
            name: _arrivals(lines, population, step) for name, population in populations.items()
        }
        sent = {}
        for node in graph.nodes:
            population, depth = populations[node.name], graph.depths[node.name]
            if not graph.gated or depth <= step < depth + t_steps:
                sent[node.name] = population.step(arrived[node.name], step)
                record[node.name][:, step] = sent[node.name]
            elif isinstance(node, Readout):
                record[node.name][:, step] = population.potential
            potentials[node.name][:, step] = population.potential
            if isinstance(node, Neuron):
                currents[node.name][:, step] = population.state["u"]
        _send(lines, {node.name: sent.get(node.name, 0) for node in graph.nodes})
    return Recording(
        num_steps=t_steps,
        input=messages,
        nodes=record,
        rails={
            name: population.rails
            for name, population in populations.items()
            if isinstance(population.node, Neuron)
        },
        potentials=potentials,
        currents=currents,
        wraps={
            name: population.wraps
            for name, population in populations.items()
            if not strict and isinstance(population.node, Neuron)
        },
    )


@dataclass
class _Line:
    """A synapse of one delay, what is under way on it, and the silence it carries otherwise."""

    synapse: AnySynapse
    under_way: deque[Array]
    silence: Array


def _line(synapse: AnySynapse, images: int, target: Shape) -> _Line:
    silence = np.zeros((images, *target), np.int64)
    return _Line(synapse, deque([silence] * synapse.delay), silence)


def _send(lines: list[_Line], sent: dict[str, Any]) -> None:
    """Put on the lines what these nodes sent (0: nothing)."""
    for line in lines:
        if line.synapse.source not in sent:
            continue
        message = sent[line.synapse.source]
        # silence adds up to nothing, and most steps of a deep network are silent
        line.under_way.append(
            apply(line.synapse, message, line.silence.shape[1:])
            if np.any(message)
            else line.silence
        )


def _arrivals(lines: list[_Line], population: Population, step: int) -> Array:
    """Add up what reaches a node in this step."""
    arrived: list[Array] = []
    for line in lines:
        if line.synapse.target == population.node.name:
            delivered = line.under_way.popleft()
            if population.strict or not isinstance(population.node, Neuron):
                require_24_bits(f"synapse {line.synapse.name!r}: its sum", delivered, step)
            elif isinstance(line.synapse, Conv) and line.synapse.delay == 1:
                wrapped = fixed.wrap_sum(delivered)
                population.wraps += int(np.count_nonzero(wrapped != delivered))
                delivered = wrapped
            arrived.append(delivered)
    total: Array = np.sum(arrived, axis=0)
    return total


def _rows(graph: FixedGraph, images: int, steps: int) -> tuple[dict[str, NDArray[Any]], ...]:
    """Room for activity, potentials and currents, (images, steps, *shape) by node name."""
    shapes = {node.name: (images, steps, *node.shape) for node in graph.nodes}
    neurons = [node.name for node in graph.nodes if isinstance(node, Neuron)]
    return (
        {name: np.zeros(shape, np.int64) for name, shape in shapes.items()},
        {name: np.zeros(shape, np.int32) for name, shape in shapes.items()},
        {name: np.zeros(shapes[name], np.int32) for name in neurons},
    )


def check_messages(graph: FixedGraph, messages: NDArray[Any]) -> Array:
    """Return messages as int64 after checking them against the graph's input.

    Raises:
        ValueError: not integers, another shape, or beyond the input's width or sign.
    """
    given = np.asarray(messages)
    where = f"input {graph.input.name!r}"
    if given.dtype.kind not in "iub":
        raise InputError(f"{where}: messages must be integers, got {given.dtype}; encode them")
    if given.ndim != 2 + len(graph.input.shape) or given.shape[2:] != graph.input.shape:
        raise InputError(
            f"{where}: messages have shape {given.shape}, expected (images, steps, "
            f"{', '.join(map(str, graph.input.shape))})"
        )
    if given.shape[1] == 0:
        raise InputError(f"{where}: messages hold no time steps; give at least one")
    result = given.astype(np.int64)
    if result.size and int(np.abs(result).max()) > graph.input.max_message:
        raise InputError(
            f"{where}: a message of magnitude {int(np.abs(result).max())} exceeds the input's "
            f"max_message {graph.input.max_message}"
        )
    if result.size and not graph.input.signed and int(result.min()) < 0:
        raise InputError(f"{where}: a negative message at an unsigned input")
    return result
