"""The slow interpreter: one integer step per node, in the chip's own order. It DEFINES semantics.

Every other engine must give the same spikes. It walks chip steps as Lava does: at each step a
node takes what its synapses deliver, then sends; a synapse delivers ``delay`` steps later. Written
to be read, with no shortcut that could hide a mistake.
"""

from collections import deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    Neuron,
    Readout,
    Shape,
    pooled_shape,
)
from spikeship.hw_models.recording import Recording

Array = NDArray[np.int64]


class StateOverflowError(ValueError):
    """The input of a node left the 24 bits of the current; the chip's result is undefined."""


def run(graph: FixedGraph, messages: NDArray[Any]) -> Recording:
    """Run images through a graph, chip step by chip step.

    Args:
        graph: the network.
        messages: integers (images, T, *input shape); T is theirs.

    Returns:
        The activity of every node in all T + D steps, and the rails met.

    Raises:
        ValueError: messages of another shape or beyond the input's width.
        StateOverflowError: a sum left 24 bits.
    """
    messages = check_messages(graph, messages)
    images, total = len(messages), graph.chip_steps(messages.shape[1])
    t_steps = messages.shape[1]
    states = {node.name: _start(node, images) for node in graph.nodes}
    lines: dict[int, deque[Array]] = {}
    for i, synapse in enumerate(graph.synapses):
        silence = np.zeros((images, *graph.node(synapse.target).shape), np.int64)
        lines[i] = deque([silence] * synapse.delay)
    record = {node.name: np.zeros((images, total, *node.shape), np.int64) for node in graph.nodes}
    rails = {node.name: [0, 0] for node in graph.nodes if isinstance(node, Neuron)}

    for step in range(total):
        sent = {graph.input.name: messages[:, step] if step < t_steps else 0 * messages[:, 0]}
        arrived = [lines[i].popleft() for i in range(len(graph.synapses))]
        for node in graph.nodes:
            activation = np.zeros((images, *node.shape), np.int64)
            for i, synapse in enumerate(graph.synapses):
                if synapse.target == node.name:
                    activation += arrived[i]
            depth = graph.depths[node.name]
            is_open = not graph.gated or depth <= step < depth + t_steps
            if isinstance(node, Readout):
                if is_open:
                    states[node.name]["v"] += activation + node.bias
                    _require_32_bits(node, states[node.name]["v"])
                record[node.name][:, step] = states[node.name]["v"]
                continue
            spikes = np.zeros((images, *node.shape), np.int64)
            if is_open:
                spikes = _neuron_step(node, states[node.name], activation, rails[node.name], step)
            record[node.name][:, step] = sent[node.name] = spikes
        for i, synapse in enumerate(graph.synapses):
            target = graph.node(synapse.target).shape
            # silence adds up to nothing, and most steps of a deep network are silent
            silent = not sent[synapse.source].any()
            result = np.zeros((images, *target), np.int64)
            lines[i].append(result if silent else apply(synapse, sent[synapse.source], target))
    return Recording(
        num_steps=t_steps,
        input=messages,
        nodes=record,
        rails={name: (low, high) for name, (low, high) in rails.items()},
    )


def check_messages(graph: FixedGraph, messages: NDArray[Any]) -> Array:
    """Return messages as int64 after checking them against the graph's input.

    Raises:
        ValueError: not integers, another shape, or beyond the input's width or sign.
    """
    given = np.asarray(messages)
    where = f"input {graph.input.name!r}"
    if given.dtype.kind not in "iub":
        raise ValueError(f"{where}: messages must be integers, got {given.dtype}; encode them")
    if given.ndim != 2 + len(graph.input.shape) or given.shape[2:] != graph.input.shape:
        raise ValueError(
            f"{where}: messages have shape {given.shape}, expected (images, steps, "
            f"{', '.join(map(str, graph.input.shape))})"
        )
    if given.shape[1] == 0:
        raise ValueError(f"{where}: messages hold no time steps; give at least one")
    result = given.astype(np.int64)
    if result.size and int(np.abs(result).max()) > graph.input.max_message:
        raise ValueError(
            f"{where}: a message of magnitude {int(np.abs(result).max())} exceeds the input's "
            f"max_message {graph.input.max_message}"
        )
    if result.size and not graph.input.signed and int(result.min()) < 0:
        raise ValueError(f"{where}: a negative message at an unsigned input")
    return result


def apply(synapse: AnySynapse, messages: Array, target: Shape) -> Array:
    """Weighted sums that messages (images, *source shape) cause at the target, exponent applied."""
    pooled = _pool(messages, synapse.pool, synapse.name)
    images = len(messages)
    if isinstance(synapse, Conv):
        total = _convolve(synapse, pooled)
    elif isinstance(synapse, Dense):
        total = pooled.reshape(images, -1) @ synapse.weight.T.astype(np.int64)
    else:
        flat = pooled.reshape(images, -1)
        rows = np.repeat(np.arange(synapse.rows), np.diff(synapse.indptr))
        total = np.zeros((images, synapse.rows), np.int64)
        for image in range(images):
            np.add.at(total[image], rows, flat[image, synapse.indices] * synapse.data)
    return fixed.shift(total, synapse.weight_exp).reshape(images, *target)


def _require_32_bits(node: Readout, potential: Array) -> None:
    worst = int(np.abs(potential).max(initial=0))
    if worst > fixed.READOUT_RAIL:
        raise StateOverflowError(
            f"readout {node.name!r}: reaches {worst}, beyond 32 bits; use fewer steps or a "
            "larger scale"
        )


def _start(node: Neuron | Readout, images: int) -> dict[str, Array]:
    shape = (images, *node.shape)
    if isinstance(node, Readout):
        return {"v": np.zeros(shape, np.int64)}
    return {"u": np.zeros(shape, np.int64), "v": np.broadcast_to(node.v0, shape).copy()}


def _neuron_step(
    node: Neuron, state: dict[str, Array], activation: Array, rails: list[int], step: int
) -> Array:
    """Advance one population by one step; returns its spikes and updates its state in place."""
    current = fixed.decay(state["u"], node.du + 1) + (activation << fixed.STATE_SHIFT)
    if np.any(np.abs(current) > fixed.STATE_RAIL):
        worst = int(np.abs(current).max())
        raise StateOverflowError(
            f"node {node.name!r}: its input reaches {worst >> fixed.STATE_SHIFT} weight units in "
            f"chip step {step + 1}, beyond the {fixed.INPUT_LIMIT} that 24 bits hold; quantize "
            "with a larger scale"
        )
    state["u"] = current
    free = fixed.decay(state["v"], node.dv) + current + node.bias
    v = fixed.saturate(free)
    rails[0] += int(np.count_nonzero(free < v))
    rails[1] += int(np.count_nonzero(free > v))
    threshold = np.broadcast_to(node.vth << fixed.STATE_SHIFT, v.shape)
    spikes = v > threshold
    after = v - threshold if node.reset == "subtract" else np.zeros_like(v)
    state["v"] = np.where(spikes, after, v)
    return spikes.astype(np.int64)


def _pool(messages: Array, side: int, name: str) -> Array:
    if side == 1:
        return messages
    c, h, w = pooled_shape(messages.shape[1:], side, name)
    pooled: Array = messages.reshape(len(messages), c, h, side, w, side).sum(axis=(3, 5))
    return pooled


def _convolve(synapse: Conv, messages: Array) -> Array:
    images = len(messages)
    out, height, width = synapse.output_shape(messages.shape[1:])
    _, per_group, kernel_h, kernel_w = synapse.weight.shape
    (stride_y, stride_x), (dil_y, dil_x) = synapse.stride, synapse.dilation
    (pad_y, pad_x), groups = synapse.padding, synapse.groups
    padded = np.pad(messages, ((0, 0), (0, 0), (pad_y, pad_y), (pad_x, pad_x)))
    padded = padded.reshape(images, groups, per_group, *padded.shape[2:])
    weight = synapse.weight.astype(np.int64)
    weight = weight.reshape(groups, out // groups, per_group, kernel_h, kernel_w)
    total = np.zeros((images, groups, out // groups, height, width), np.int64)
    for ky in range(kernel_h):
        for kx in range(kernel_w):
            taps = padded[
                ...,
                ky * dil_y : ky * dil_y + (height - 1) * stride_y + 1 : stride_y,
                kx * dil_x : kx * dil_x + (width - 1) * stride_x + 1 : stride_x,
            ]
            total += np.einsum("ngihw,goi->ngohw", taps, weight[..., ky, kx])
    return total.reshape(images, out, height, width)
