"""FixedGraph to a plan of Lava Processes, its arrays turned to Lava's axes once, here.

torch orders (channel, y, x), Lava (x, y, channel), and Lava's Conv is a true convolution. Nothing
here imports Lava; ``network.py`` makes the Processes from the plan.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from spikeship.hw_models.atomic import replacing
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Delta,
    Dense,
    FixedGraph,
    Identity,
    Neuron,
    Node,
    Readout,
    Shape,
    SigmaDelta,
    Sparse,
    pooled_shape,
)
from spikeship.hw_models.lava.axes import lava_shape, to_lava
from spikeship.hw_models.lava.matrix import synapse_matrix

Plan = dict[str, Any]
Array = NDArray[np.int64]
DELAY_DENSE_CELLS = 2**24  # Lava's DelayDense writes out x in x (delays + 1) weights every step


def build(graph: FixedGraph) -> Plan:
    """Return the plan of a graph (see ``network.py`` for its form), arrays in Lava's axes."""
    return {
        "num_steps": graph.num_steps,
        "drain": graph.drain,
        "gated": graph.gated,
        "staged_steps": _staged_steps(graph),
        "input": {
            "name": graph.input.name,
            "shape": list(lava_shape(graph.input.shape)),
            "torch_shape": list(graph.input.shape),
            "max_message": graph.input.max_message,
            "signed": graph.input.signed,
        },
        "nodes": [_node(graph, node) for node in graph.nodes],
        "synapses": [
            {
                "name": synapse.name,
                "source": synapse.source,
                "target": synapse.target,
                "stages": _stages(graph, synapse),
            }
            for synapse in graph.synapses
        ],
    }


def write_plan(plan: Plan, path: Path) -> None:
    """Write a plan as one ``.npz`` (to a temporary name first, then renamed)."""
    arrays: dict[str, Any] = {}

    def without(value: Any, key: str) -> Any:
        if isinstance(value, np.ndarray):
            arrays[key] = value
            return {"array": key}
        if isinstance(value, dict):
            return {name: without(item, f"{key}.{name}") for name, item in value.items()}
        if isinstance(value, list):
            return [without(item, f"{key}.{i}") for i, item in enumerate(value)]
        return value

    text = json.dumps(without(plan, "p"))
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, plan=np.array(text), allow_pickle=False, **arrays)


def _order(shape: Shape) -> Array:
    """For every flat position in Lava's order, the flat position in torch's."""
    return to_lava(np.arange(int(np.prod(shape))).reshape(shape), shape)


def _per_neuron(values: NDArray[Any], shape: Shape) -> NDArray[np.int32]:
    turned = np.broadcast_to(values, shape).transpose()
    return np.ascontiguousarray(turned, dtype=np.int32)


_KIND_OF: dict[type[Node], str] = {
    Neuron: "neuron",
    Delta: "delta",
    SigmaDelta: "sigma_delta",
    Readout: "readout",
}
# what each kind's Process takes: a value for every neuron, and plain values
_ARRAYS_OF = {
    "neuron": ("vth", "dv", "bias_mant", "bias_exp", "v0"),
    "delta": ("vth",),
    "sigma_delta": ("vth", "bias"),
    "readout": ("bias", "v0"),
}
_PLAIN_OF = {
    "neuron": ("du", "reset", "refractory"),
    "delta": ("spike_exp", "state_exp", "cum_error"),
    "sigma_delta": ("activation", "spike_exp", "state_exp", "cum_error"),
    "readout": (),
}


def _node(graph: FixedGraph, node: Node) -> Plan:
    kind = _KIND_OF[type(node)]
    arrays = {key: _per_neuron(getattr(node, key), node.shape) for key in _ARRAYS_OF[kind]}
    return {
        "kind": kind,
        "name": node.name,
        "shape": list(lava_shape(node.shape)),
        "torch_shape": list(node.shape),
        "depth": graph.depths[node.name],
        "fires": _fires(graph, node),
        "record": "uint8" if isinstance(node, Neuron) else "int32",
        "fields": arrays | {key: getattr(node, key) for key in _PLAIN_OF[kind]},
    }


def _staged_steps(graph: FixedGraph) -> list[int]:
    """Steps of a staged sample that the input sends, and all; none of a pipelined one."""
    if graph.timing != "staged" or graph.num_steps is None:
        return []
    return [graph.input_steps(graph.num_steps), graph.chip_steps(graph.num_steps)]


def _fires(graph: FixedGraph, node: Node) -> list[int]:
    """First and last step in which a staged node may fire; none of a pipelined one."""
    window = graph.windows.get(node.name)
    return [] if window is None else [window.fire_from, window.last]


def _stages(graph: FixedGraph, synapse: AnySynapse) -> list[Plan]:
    """Return the Lava Processes that make up one synapse, in order; each costs one step."""
    source = graph.node(synapse.source).shape
    bits = _message_bits(graph, synapse)
    if isinstance(synapse, Identity) and synapse.delay == 0:
        return []
    if isinstance(synapse, Conv) and synapse.delay == 1:
        return [_conv(_expanded(synapse), source, bits)]
    if isinstance(synapse, Dense) and synapse.pool > 1:
        pooled = pooled_shape(source, synapse.pool, synapse.name)
        pool = _conv(_pooling(synapse, pooled[0]), source, bits)
        return [pool, _dense(graph, synapse, pooled, bits, lost=2)]
    if isinstance(synapse, Dense):
        return [_dense(graph, synapse, source, bits, lost=1)]
    if isinstance(synapse, Sparse | Conv | Identity):
        matrix = synapse_matrix(graph, synapse)
        return [_sparse(_permuted(matrix, graph, synapse, source), synapse, bits)]
    raise TypeError(f"synapse {synapse.name!r}: unknown kind {type(synapse).__name__}")


def _message_bits(graph: FixedGraph, synapse: AnySynapse) -> int:
    """Message width for Lava: 0 means 0/1 spikes, which would turn -1 and 2 into 1."""
    largest = graph.max_message(synapse)
    if largest == 1 and not graph.signed(synapse):
        return 0
    return largest.bit_length() + graph.signed(synapse)


def _expanded(synapse: Conv) -> Conv:
    """Write the pool into the kernel: every tap repeated, strides and padding multiplied."""
    k = synapse.pool
    if k == 1:
        return synapse
    out, per_group, height, width = synapse.weight.shape
    dy, dx = synapse.dilation
    kernel = np.zeros((out, per_group, (height - 1) * dy + 1, (width - 1) * dx + 1), np.int64)
    kernel[:, :, ::dy, ::dx] = synapse.weight
    return Conv(
        name=synapse.name,
        source=synapse.source,
        target=synapse.target,
        num_weight_bits=synapse.num_weight_bits,
        weight=kernel.repeat(k, axis=2).repeat(k, axis=3),
        stride=(k * synapse.stride[0], k * synapse.stride[1]),
        padding=(k * synapse.padding[0], k * synapse.padding[1]),
        groups=synapse.groups,
    )


def _pooling(synapse: Dense, channels: int) -> Conv:
    k = synapse.pool
    return Conv(
        name=synapse.name,
        source=synapse.source,
        target=synapse.target,
        weight=np.ones((channels, 1, k, k), np.int64),
        stride=(k, k),
        groups=channels,
    )


def _conv(synapse: Conv, source: Shape, bits: int) -> Plan:
    flipped = synapse.weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1)
    return {
        "kind": "conv",
        "weight": np.ascontiguousarray(flipped, dtype=np.int32),
        "input_shape": list(lava_shape(source)),
        "stride": list(reversed(synapse.stride)),
        "padding": list(reversed(synapse.padding)),
        "dilation": list(reversed(synapse.dilation)),
        "groups": synapse.groups,
        "num_message_bits": bits,
    }


def _dense(graph: FixedGraph, synapse: Dense, pooled: Shape, bits: int, *, lost: int) -> Plan:
    """A dense stage, or a sparse one where Lava's dense would be slow; ``lost``: steps it has."""
    rows, columns = _order(graph.node(synapse.target).shape), _order(pooled)
    given = np.zeros((1, 1), np.int64) if synapse.delays is None else synapse.delays
    delays = np.broadcast_to(given, synapse.weight.shape) + (synapse.delay - lost)
    cells = synapse.weight.size * (int(delays.max(initial=0)) + 1)
    if cells > DELAY_DENSE_CELLS and np.any(delays):
        matrix = csr_matrix(synapse.weight.astype(np.int64))
        matrix = _permuted(matrix, graph, synapse, pooled)
        stored = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
        return _sparse(matrix, synapse, bits, delays[rows[stored], columns[matrix.indices]])
    plan: Plan = {
        "kind": "dense",
        "weight": np.ascontiguousarray(synapse.weight[rows][:, columns], dtype=np.int32),
        "weight_exp": synapse.weight_exp,
        "num_weight_bits": synapse.num_weight_bits,
        "num_message_bits": bits,
    }
    if np.any(delays):
        plan["delays"] = np.ascontiguousarray(delays[rows][:, columns], dtype=np.int64)
    return plan


def _permuted(matrix: Any, graph: FixedGraph, synapse: AnySynapse, source: Shape) -> Any:
    permuted = matrix[_order(graph.node(synapse.target).shape)][:, _order(source)]
    permuted.sort_indices()
    return permuted


def _sparse(matrix: Any, synapse: AnySynapse, bits: int, delays: Array | None = None) -> Plan:
    """A sparse stage; ``delays``: steps beyond its own of each stored weight, or the synapse's."""
    if delays is None:
        delays = np.full(len(matrix.data), synapse.delay - 1)
    plan: Plan = {
        "kind": "sparse",
        "data": matrix.data.astype(np.int32),
        "indices": matrix.indices.astype(np.int64),
        "indptr": matrix.indptr.astype(np.int64),
        "matrix_shape": list(matrix.shape),
        "weight_exp": synapse.weight_exp,
        "num_weight_bits": synapse.num_weight_bits,
        "num_message_bits": bits,
    }
    if np.any(delays):
        plan["delays"] = delays.astype(np.int64)
    return plan
