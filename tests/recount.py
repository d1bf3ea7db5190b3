"""Counts a placement again from its file and the graph, without any code of the placement.

``by_expanding`` goes through every synapse of a small graph as an explicit matrix; ``by_fields``
works on receptive fields, for large ones. Both return what each core, in the file's order, takes.
"""

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Delta,
    Dense,
    FixedGraph,
    Identity,
    Input,
    Neuron,
    Node,
    Readout,
    SigmaDelta,
    Sparse,
)
from spikeship.hw_models.lava.matrix import synapse_matrix

Ints = NDArray[np.int64]
HOST = -1  # where the input's messages come from
AXES = ("channels", "rows", "columns")


@dataclass
class Counted:
    """Per core of the file, in order."""

    compartments: Ints
    synapse_bits: Ints
    state_bits: Ints
    input_axons: Ints
    output_axons: Ints


def cores_of(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [core for layer in data["layers"] for core in layer["cores"]]


def by_expanding(graph: FixedGraph, data: dict[str, Any], chip: ChipSpec) -> Counted:
    owner = owners(graph, data)
    counted = _neurons(graph, data, chip)
    owner[graph.input.name] = np.full(int(np.prod(graph.input.shape)), HOST)
    for synapse in graph.synapses:
        if injected_by_host(graph, synapse, chip):
            continue
        copies = on_off(graph, synapse, chip)
        matrix = synapse_matrix(graph, of_ones(synapse)).tocoo()
        target = owner[synapse.target][matrix.row]
        stored = _words(data, synapse, matrix, target, len(counted.compartments))
        bits = word_bits(data, synapse, chip)
        counted.synapse_bits += copies * stored * bits
        for core, source in _axons(graph, data, synapse, matrix, target, owner):
            counted.input_axons[core] += copies
            if source != HOST:
                counted.output_axons[source] += copies
    return counted


def owners(graph: FixedGraph, data: dict[str, Any]) -> dict[str, Ints]:
    """Core of every neuron by node; each has exactly one."""
    found = {}
    index = 0
    assert [layer["name"] for layer in data["layers"]] == [node.name for node in graph.nodes]
    for layer, node in zip(data["layers"], graph.nodes, strict=True):
        grid = np.full(three(node.shape), HOST)
        for core in layer["cores"]:
            assert core["layer"] == node.name
            block = tuple(slice(*core[axis]) for axis in AXES)
            assert np.all(grid[block] == HOST), "two cores hold one neuron"
            assert all(core[axis][1] <= n for axis, n in zip(AXES, grid.shape, strict=True))
            grid[block] = index
            index += 1
        assert np.all(grid != HOST), "no core holds a neuron"
        found[node.name] = grid.ravel()
    return found


def three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    return (shape[0], int(np.prod(shape[1:-1])), shape[-1] if len(shape) > 1 else 1)


def injected_by_host(graph: FixedGraph, synapse: AnySynapse, chip: ChipSpec) -> bool:
    source = graph.node(synapse.source)
    graded = isinstance(source, Input) and source.max_message > 1
    return synapse.delay == 0 or (graded and chip.name == "loihi1")


def on_off(graph: FixedGraph, synapse: AnySynapse, chip: ChipSpec) -> int:
    source = graph.node(synapse.source)
    signed_spikes = isinstance(source, Input) and source.max_message == 1 and source.signed
    return 2 if signed_spikes and chip.name == "loihi1" else 1


def weight_width(synapse: AnySynapse) -> int:
    bits = synapse.num_weight_bits
    if isinstance(synapse, Conv) and bits == 9:
        # doubled, they go from -256 to 254
        return 8 if np.all((synapse.weight >= -128) & (synapse.weight <= 127)) else 9
    return bits


def word_bits(data: dict[str, Any], synapse: AnySynapse, chip: ChipSpec) -> int:
    bits = weight_width(synapse)
    listed = isinstance(synapse, Sparse | Identity)
    if listed or (isinstance(synapse, Conv) and data["rules"]["kernels"] == "unshared"):
        index = 0
        while 2**index < chip.compartments_per_core.value:
            index += 1
        return bits + index
    if isinstance(synapse, Dense) and synapse.delays is not None:
        some = np.unique(synapse.delays)
        return bits + (len(f"{some.max():b}") if len(some) > 1 else 0)
    return bits


def neuron_state(node: Node) -> int:
    """Bits that one neuron keeps between steps."""
    if isinstance(node, Readout):
        return 32
    if isinstance(node, Neuron):
        return 24 + 24 * (node.du != 4095) + 6 * (node.refractory > 0)
    assert isinstance(node, Delta | SigmaDelta)
    names = ["act", "residue"]
    names += ["error"] if node.cum_error else []
    names += ["sigma"] if isinstance(node, SigmaDelta) else []
    return 24 * len(names)


def _neurons(graph: FixedGraph, data: dict[str, Any], chip: ChipSpec) -> Counted:
    compartments, state = [], []
    for core in cores_of(data):
        node = graph.node(core["layer"])
        assert not isinstance(node, Input)
        held = int(np.prod([high - low for low, high in (core[axis] for axis in AXES)]))
        soft = isinstance(node, Neuron) and node.reset == "subtract" and chip.name == "loihi1"
        compartments.append(held * (1 + soft))
        state.append(held * neuron_state(node))
    nothing = [np.zeros(len(state), np.int64) for _ in range(3)]
    return Counted(np.array(compartments), nothing[0], np.array(state), *nothing[1:])


def of_ones(synapse: AnySynapse) -> AnySynapse:
    """The synapse with a 1 wherever it stores a weight, 0 or not."""
    if isinstance(synapse, Identity):
        return synapse
    field = "data" if isinstance(synapse, Sparse) else "weight"
    made = copy(synapse)
    object.__setattr__(made, field, np.ones_like(getattr(synapse, field)))
    return made


def _words(
    data: dict[str, Any], synapse: AnySynapse, matrix: Any, target: Ints, cores: int
) -> Ints:
    """Stored synapses of every core."""
    if isinstance(synapse, Conv) and data["rules"]["kernels"] == "shared":
        words = np.zeros(cores, np.int64)
        for i, core in enumerate(cores_of(data)):
            if core["layer"] == synapse.target:
                kernels = synapse.weight[core["channels"][0] : core["channels"][1]]
                words[i] = kernels.size
        return words
    found = np.bincount(target, weights=matrix.data, minlength=cores)
    assert np.all(found % synapse.pool**2 == 0)
    return np.asarray(found // synapse.pool**2, dtype=np.int64)


def _axons(
    graph: FixedGraph,
    data: dict[str, Any],
    synapse: AnySynapse,
    matrix: Any,
    target: Ints,
    owner: dict[str, Ints],
) -> Iterator[tuple[int, int]]:
    """(core it ends at, core it starts at) of every axon."""
    source = owner[synapse.source][matrix.col]
    shared = data["rules"]["axons"] == "population"
    if shared and isinstance(synapse, Dense):
        what = np.zeros_like(matrix.col)
    elif shared and isinstance(synapse, Conv):
        _, rows, columns = graph.node(synapse.source).shape
        what = matrix.col % (rows * columns)
    else:
        what = matrix.col
    for core, start, _ in set(zip(target.tolist(), source.tolist(), what.tolist(), strict=True)):
        yield core, start


def by_fields(graph: FixedGraph, data: dict[str, Any], chip: ChipSpec) -> Counted:
    """For chains and branches of convolutions, dense synapses and one-to-one ones."""
    counted = _neurons(graph, data, chip)
    cores = cores_of(data)
    at = {node.name: [i for i, c in enumerate(cores) if c["layer"] == node.name]
          for node in graph.nodes}  # fmt: skip
    whole = {axis: [0, n] for axis, n in zip(AXES, three(graph.input.shape), strict=True)}
    for synapse in graph.synapses:
        if injected_by_host(graph, synapse, chip):
            continue
        copies, bits = on_off(graph, synapse, chip), word_bits(data, synapse, chip)
        sources = [cores[i] for i in at[synapse.source]] if synapse.source in at else [whole]
        low, high = (np.array([[c[axis][i] for axis in AXES] for c in sources]) for i in (0, 1))
        for i in at[synapse.target]:
            read = _read(graph, synapse, cores[i])
            axons = _shares(data, synapse, read, low, high)
            counted.synapse_bits[i] += copies * bits * _stored(graph, data, synapse, cores[i])
            counted.input_axons[i] += copies * axons.sum()
            if synapse.source in at:
                counted.output_axons[at[synapse.source]] += copies * axons
    return counted


def _stored(
    graph: FixedGraph, data: dict[str, Any], synapse: AnySynapse, core: dict[str, Any]
) -> int:
    held = [core[axis][1] - core[axis][0] for axis in AXES]
    if isinstance(synapse, Conv):
        if data["rules"]["kernels"] == "shared":
            return held[0] * int(np.prod(synapse.weight.shape[1:]))
        sides = three(graph.node(synapse.source).shape)[1:]
        met = [int(_taps(synapse, i, core, sides[i])[1].sum()) for i in range(2)]
        return held[0] * synapse.weight.shape[1] * met[0] * met[1]
    return int(np.prod(held)) * (synapse.weight.shape[1] if isinstance(synapse, Dense) else 1)


def _taps(synapse: Conv, side: int, core: dict[str, Any], size: int) -> tuple[Ints, Ints]:
    """Where each row (side 0) or column reads, (positions, taps), and whether that exists."""
    taps = np.arange(synapse.weight.shape[2 + side]) * synapse.dilation[side]
    first = np.array(range(*core[AXES[1 + side]])) * synapse.stride[side] - synapse.padding[side]
    met = first[:, None] + taps
    return met, (met >= 0) & (met < size // synapse.pool)


def _read(graph: FixedGraph, synapse: AnySynapse, core: dict[str, Any]) -> list[Ints]:
    """Source channels, rows and columns that a core reads, before the pool."""
    shape = three(graph.node(synapse.source).shape)
    if isinstance(synapse, Dense):
        return [np.arange(n) for n in shape]
    ranges = [range(*core[axis]) for axis in AXES]
    if not isinstance(synapse, Conv):
        assert isinstance(synapse, Identity) or np.array_equal(
            synapse.indices, np.arange(synapse.columns)
        )
        return [np.array(ranges[0]), *(_windows(synapse, np.array(r)) for r in ranges[1:])]
    assert synapse.groups == 1
    read = [np.arange(shape[0])]
    for side in range(2):
        met, there = _taps(synapse, side, core, shape[1 + side])
        read.append(_windows(synapse, np.unique(met[there])))
    return read


def _windows(synapse: AnySynapse, pooled: Ints) -> Ints:
    return np.asarray((pooled[:, None] * synapse.pool + np.arange(synapse.pool)).ravel())


def _shares(
    data: dict[str, Any], synapse: AnySynapse, read: list[Ints], low: Ints, high: Ints
) -> Ints:
    """Axons from every source core into a core that reads these."""
    inside = [
        np.searchsorted(some, high[:, a]) - np.searchsorted(some, low[:, a])
        for a, some in enumerate(read)
    ]
    neurons = inside[0] * inside[1] * inside[2]
    if data["rules"]["axons"] == "population" and isinstance(synapse, Dense):
        return np.minimum(neurons, 1)
    if data["rules"]["axons"] == "population" and isinstance(synapse, Conv):
        return np.minimum(inside[0], 1) * inside[1] * inside[2]
    return neurons
