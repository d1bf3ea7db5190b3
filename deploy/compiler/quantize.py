"""Float populations to Loihi's integers: weights, thresholds, biases, and the proof they fit.

For a population with scale s (real = integer * s): weights are rounded to what ``weight_bits``
hold, ``vth = floor(theta / s)``, ``bias = round(64 b / s)``, ``v0`` as the bias. The scale is the
smallest that its weights allow (finest rounding), raised where threshold, bias or input would
leave their widths. Scales are per output channel by default: neurons do not notice, since weights,
threshold, bias and potential times any constant give the same spikes.

A network fine-tuned for its integers brings its scales and exponents, and gets those integers.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.compiler.normalize import Branch, FloatNetwork, Population, normalize
from spikeship.deploy.errors import DeployError
from spikeship.hw_models import chips, fixed
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    GraphError,
    Input,
    Neuron,
    Node,
    Readout,
    Sparse,
)
from spikeship.hw_models.graph.weight_grid import BIAS_LIMIT, SNAP, UNITS, WeightGrid
from spikeship.hw_models.graph.windows import RELAY_WEIGHT
from spikeship.training.quantization.integer_grid import GridError, IntegerGrid

Floats = NDArray[np.float64]
Granularity = Literal["channel", "layer"]
EXP_MAX = 7
# how much wider fine-tuning in integers may make a layer's input than calibration saw it
TRAINING_ROOM = 2.0
# how far, in weight units, weights fine-tuned for a grid may lie from it
OFF_GRID = 0.01


def training_room(weight_bits: int) -> float:
    """Headroom before fine-tuning in integers of so many bits.

    It costs the layers that need it a bit of precision. Below 6 bits none is left: at 2 bits and
    T = 4 a VGG5 for the digits ended at 94.2 % without room and at 69.8 % with it. Should sums
    outgrow the chip then, ``quantize`` says so.
    """
    return TRAINING_ROOM if weight_bits >= 6 else 1.0


def quantize(
    graph: nir.NIRGraph,
    *,
    chip: str = "loihi2",
    weight_bits: int | None = None,
    granularity: Granularity = "channel",
    ranges: Mapping[str, tuple[float, float]] | None = None,
    headroom: float = 1.0,
) -> FixedGraph:
    """Turn a spiking network into the chip's integers.

    Args:
        graph: a NIR graph with our metadata.
        chip: name of a ChipSpec, for its weight width.
        weight_bits: 1..8, mixed signs cost one of them; by default 8, or what the network was
            fine-tuned for.
        granularity: one scale per output ``channel`` or per ``layer``; a network fine-tuned for
            its integers keeps its own.
        ranges: observed (low, high) of each population's weighted input, in its unit, bias left
            out; the metadata's own where None.
        headroom: at least 1; unless their proof does, scales leave ranges so much room to grow.
            ``training_room``'s before fine-tuning in these integers, which keeps the scales.

    Returns:
        The graph; ``metadata["notes"]`` holds a line for every layer whose sums are not proved or
        whose leak is lost, and for a network fine-tuned for another chip.

    Raises:
        DeployError: a layer that does not fit, by name, with the reason and the fix.
    """
    network = normalize(graph)
    metadata = network.metadata
    grid = metadata.grid
    if weight_bits is None:
        weight_bits = fixed.WEIGHT_BITS if grid is None else grid.weight_bits
    limit = chips.get(chip).weight_bits.value
    if not 1 <= weight_bits <= min(limit, fixed.WEIGHT_BITS):
        raise DeployError(f"weight_bits: {weight_bits} is not what {chip} holds; give 1..8")
    if grid is not None and grid.weight_bits != weight_bits:
        raise DeployError(
            f"weight_bits: the network was fine-tuned for {grid.weight_bits}-bit weights, not "
            f"{weight_bits}; quantize with {grid.weight_bits}, or fine-tune it for {weight_bits}"
        )
    if not 1.0 <= headroom < np.inf:
        raise DeployError(f"headroom: {headroom:g} is no room to grow; give 1 or more")
    observed = dict(metadata.ranges if ranges is None else ranges)
    try:
        made = _integers(network, chip, weight_bits, granularity, observed)
        grown = {} if grid is not None else _grown(made, observed, headroom)
        if grown:
            made = _integers(network, chip, weight_bits, granularity, observed | grown)
        return _with_overflow(made, observed, grid)
    except (GridError, GraphError) as error:
        raise DeployError(str(error)) from error


def _integers(
    network: FloatNetwork,
    chip: str,
    weight_bits: int,
    granularity: Granularity,
    observed: Mapping[str, tuple[float, float]],
) -> FixedGraph:
    """Choose scales that hold these ranges, and round to them."""
    metadata = network.metadata
    layers = [
        _Layer(population, network, weight_bits, granularity, observed.get(population.name))
        for population in network.populations
    ]
    notes = [note for layer in layers for note in layer.notes()]
    if metadata.grid is not None and metadata.grid.chip != chip:
        notes.append(
            f"fine-tuned for the integers of {metadata.grid.chip}; {chip} is given the same"
        )
    source = Input(
        name="input",
        shape=network.input_shape,
        encoding=metadata.coding.encoding,
        max_message=metadata.coding.max_message,
        signed=metadata.coding.signed,
        scale=metadata.coding.scale,
    )
    return FixedGraph(
        input=source,
        nodes=tuple(layer.node() for layer in layers),
        synapses=tuple(synapse for layer in layers for synapse in layer.synapses()),
        num_steps=metadata.num_steps,
        timing=metadata.timing,
        metadata={
            "chip": chip,
            "weight_bits": weight_bits,
            "data": dict(metadata.data),
            "provenance": dict(metadata.provenance),
            "notes": notes,
        },
    )


def _grown(
    graph: FixedGraph, observed: Mapping[str, tuple[float, float]], headroom: float
) -> dict[str, tuple[float, float]]:
    """Ranges ``headroom`` times as wide, of layers with that room neither proved nor in scale."""
    grown = {}
    for node in graph.nodes:
        if isinstance(node, Readout) or node.name not in observed:
            continue
        low, high = (headroom * end for end in observed[node.name])
        is_proved = headroom * _reach(graph, node.name) <= fixed.INPUT_LIMIT
        if not is_proved and max(-low, high) > fixed.OBSERVED_LIMIT * node.scale.min():
            grown[node.name] = low, high
    return grown


def _with_overflow(
    graph: FixedGraph, observed: Mapping[str, tuple[float, float]], grid: IntegerGrid | None
) -> FixedGraph:
    """Say of every neuron layer how sure it is that its input stays within 24 bits."""
    nodes: list[Node] = []
    notes = list(graph.metadata["notes"])
    for node in graph.nodes:
        if not isinstance(node, Neuron):
            nodes.append(node)
            continue
        bound = _reach(graph, node.name)
        if bound <= fixed.INPUT_LIMIT:
            nodes.append(replace(node, overflow="proved"))
        elif node.name in observed:
            largest = max(map(abs, observed[node.name]))
            units = int(np.ceil(largest / (node.scale.min() if grid is None else 1.0)))
            if units > fixed.OBSERVED_LIMIT:  # only where fine-tuning has kept its scales
                raise DeployError(
                    f"layer {node.name!r}: its input reaches {units} weight units on the data, "
                    f"beyond the {fixed.OBSERVED_LIMIT} that leave other data room in 24 bits; "
                    "fine-tune again from the network before, at a lower learning rate"
                )
            nodes.append(replace(node, overflow="observed"))
            notes.append(
                f"layer {node.name!r}: weights could add up to {bound} weight units (limit "
                f"{fixed.INPUT_LIMIT}); observed on calibration data at most {units}"
            )
        else:
            nodes.append(node)
            notes.append(
                f"layer {node.name!r}: weights could add up to {bound} weight units (limit "
                f"{fixed.INPUT_LIMIT}) and no data was observed; give --data to check"
            )
    metadata = {**graph.metadata, "notes": notes}
    return replace(graph, nodes=tuple(nodes), metadata=metadata)


def _reach(graph: FixedGraph, name: str) -> int:
    """What weights alone let a neuron's input reach; in a staged graph its potential too."""
    bound = graph.input_bound(name)
    return max(bound, graph.state_bound(name)) if graph.timing == "staged" else bound


class _Layer:
    """One population on its way to integers."""

    def __init__(
        self,
        population: Population,
        network: FloatNetwork,
        bits: int,
        granularity: Granularity,
        observed: tuple[float, float] | None,
    ) -> None:
        self.population = population
        self.network = network
        self.bits = bits
        self.is_readout = population.v_threshold is None
        self.staged = network.metadata.timing == "staged"
        self.grids = {b.name: WeightGrid.of(b.weight, bits) for b in population.branches}
        self.per_channel = granularity == "channel" and not self.is_readout
        given = network.metadata.grid
        self.reach = dict(self.grids)  # what scales must keep weights within
        if population.relay:
            self.scale = np.ones(population.shape[0])
            return
        if given is not None:
            self.scale = given.scale(population.name, population.shape[0])
            return
        self.scale = self._scale(observed)
        while lost := [branch for branch in population.branches if self._loses_positive(branch)]:
            for branch in lost:
                self.reach[branch.name] = self.grids[branch.name].reaching_as_one_sign()
            self.scale = self._scale(observed)

    def _carries_exponent(self, branch: Branch) -> bool:
        return branch.kind != "conv" or branch.delay > 1

    def _scale(self, observed: tuple[float, float] | None) -> Floats:
        """One scale per channel (all equal where one is asked for), shape (channels,)."""
        population = self.population
        channels = population.shape[0]
        fixed_exponent = [b for b in population.branches if not self._carries_exponent(b)]
        leading = fixed_exponent or [b for b in population.branches if b.kind != "identity"]
        scale = np.zeros(channels)
        for branch in leading or population.branches:
            rows = self._rows(self.reach[branch.name].least_scale(branch.weight), channels)
            scale = np.maximum(scale, rows)
        for branch in population.branches:  # the exponent reaches only so far
            least = self.reach[branch.name].least_scale(branch.weight) / 2.0**EXP_MAX
            scale = np.maximum(scale, self._rows(least, channels))
        bias = self._per_channel_max(np.abs(population.bias))
        if population.v_threshold is None:
            scale = np.full(channels, scale.max())
        else:
            theta = self._per_channel_max(population.v_threshold)
            scale = np.maximum(scale, theta / fixed.VTH_LIMIT)
            if self.staged:
                # T thresholds, and the start with the whole bias
                steps = self.network.metadata.num_steps
                scale = np.maximum(scale, steps * theta / fixed.OBSERVED_LIMIT)
                scale = np.maximum(scale, (bias + theta) / fixed.OBSERVED_LIMIT)
            else:
                scale = np.maximum(scale, bias * UNITS / BIAS_LIMIT)
            if observed is not None:
                largest = max(map(abs, observed))
                scale = np.maximum(scale, largest / fixed.OBSERVED_LIMIT)
            if not self.per_channel:
                scale = np.full(channels, scale.max())
        if not (np.all(np.isfinite(scale)) and np.all(scale > 0)):
            raise DeployError(
                f"layer {population.name!r}: no scale fits its weights at {self.bits} bits; use "
                "more weight bits, or remove the layer if its weights are all zero"
            )
        return scale

    def _ends(self, branch: Branch) -> Floats:
        """Least and largest weight of each row in weight units, the exponent not applied."""
        rows = branch.weight.reshape(len(branch.weight), -1)
        ends: Floats = np.stack([rows.min(axis=1), rows.max(axis=1)], axis=1) / self.scale[:, None]
        return ends

    def _exponent(self, branch: Branch) -> int:
        given = self.network.metadata.grid
        if given is not None:
            return given.exponent(branch.name)
        if not self._carries_exponent(branch):
            return 0
        needed = self.reach[branch.name].least_scale(self._ends(branch)).max()
        return max(0, int(np.ceil(np.log2(max(needed, 1.0)) - 1e-12)))

    def _loses_positive(self, branch: Branch) -> bool:
        """Whether only negative weights remain in integers, and scales do not yet know."""
        grid = self.grids[branch.name]
        if not grid.mixed or self.reach[branch.name] is not grid:
            return False
        held = grid.round(self._ends(branch) / 2.0 ** self._exponent(branch))
        return bool(np.any(held < 0)) and not np.any(held > 0)

    @staticmethod
    def _rows(values: Floats, channels: int) -> Floats:
        """Values per weight row to values per channel (an identity's rows are channels too)."""
        return values if len(values) == channels else np.full(channels, values.max())

    def _per_channel_max(self, values: Floats) -> Floats:
        shape = self.population.shape
        table = np.broadcast_to(values, shape).reshape(shape[0], -1)
        return np.array(table.max(axis=1))

    def _shaped(self) -> Floats:
        return self.scale.reshape(-1, *[1] * (len(self.population.shape) - 1))

    def node(self) -> Node:
        """Return the population in integers."""
        population, scale = self.population, self._shaped()
        if population.v_threshold is None:
            bias = np.rint(population.bias / scale).astype(np.int64)
            return Readout(
                name=population.name,
                shape=population.shape,
                scale=float(self.scale[0]),
                **{"v0" if self.staged else "bias": bias},
            )
        if population.relay:
            return Neuron(
                name=population.name,
                shape=population.shape,
                vth=np.array(1),
                dv=np.array(fixed.DECAY_UNITY - 1),
                reset="zero",
                relay=True,
            )
        vth = np.floor(population.v_threshold / scale * SNAP).astype(np.int64)
        if vth.min() < 1:
            raise DeployError(
                f"layer {population.name!r}: its threshold is below one weight unit; its weights "
                "or its observed input are too large for the threshold, balance it anew"
            )
        bias = np.rint(population.bias * UNITS / scale).astype(np.int64)
        mant, exp = fixed.encode_bias(np.zeros_like(bias) if self.staged else bias)
        half = population.v0 == population.v_threshold / 2
        v0 = np.where(half, vth << 5, np.rint(population.v0 * UNITS / scale).astype(np.int64))
        if self.staged:
            v0 = v0 + bias
        return Neuron(
            name=population.name,
            shape=population.shape,
            vth=vth,
            du=fixed.DECAY_UNITY - 1,
            dv=self._decay(),
            bias_mant=mant,
            bias_exp=exp,
            v0=v0,
            reset=self.network.metadata.reset,
            scale=scale,
        )

    def _decay(self) -> NDArray[np.int64]:
        population = self.population
        dv: NDArray[np.int64] = np.rint((1.0 - population.leak) * fixed.DECAY_UNITY).astype(
            np.int64
        )
        if self.staged and np.any(dv):
            raise DeployError(
                f"layer {population.name!r}: leaks, and a population that waits must keep all; "
                "convert pipelined, or without a leak"
            )
        if dv.max() >= fixed.DECAY_UNITY:
            raise DeployError(
                f"layer {population.name!r}: a leak of {population.leak.min():g} keeps nothing, "
                f"and the chip at least 1/{fixed.DECAY_UNITY} a step; use a larger leak"
            )
        return dv

    def notes(self) -> list[str]:
        """Say where a leak is too weak to be one in integers."""
        population = self.population
        if population.relay:
            return []
        lost = (population.leak != 1.0) & (self._decay() == 0)
        if not np.any(lost):
            return []
        return [
            f"layer {population.name!r}: a leak of {population.leak[lost].min():.6g} is none in "
            f"steps of 1/{fixed.DECAY_UNITY}"
        ]

    def synapses(self) -> list[AnySynapse]:
        """Return the population's branches in integers."""
        return [self._synapse(branch) for branch in self.population.branches]

    def _synapse(self, branch: Branch) -> AnySynapse:
        if self.population.relay:
            return _taps(branch, self.population.name, self.bits)
        grid = self.grids[branch.name]
        column = self.scale.reshape(-1, *[1] * (branch.weight.ndim - 1))
        given = self.network.metadata.grid
        exponent = self._exponent(branch)
        in_units = branch.weight / column / 2.0**exponent
        held = grid.hold(in_units)
        if given is not None and np.abs(held - in_units).max(initial=0.0) > OFF_GRID:
            raise DeployError(
                f"layer {branch.name!r}: its weights are not those it was fine-tuned for; write "
                "the network again with to_nir"
            )
        weight = held.astype(np.int16)
        if np.any(branch.weight) and not np.any(weight):
            raise DeployError(
                f"layer {branch.name!r}: all its weights round to zero at {self.bits} bits beside "
                f"the other inputs of {self.population.name!r}; use more weight bits"
            )
        common: dict[str, Any] = {
            "name": branch.name,
            "source": branch.source,
            "target": self.population.name,
            "delay": branch.delay,
            "pool": branch.pool,
            "weight_exp": exponent,
            "num_weight_bits": self.bits,
        }
        if branch.kind == "conv":
            return Conv(
                **common,
                weight=weight,
                stride=branch.stride,
                padding=branch.padding,
                dilation=branch.dilation,
                groups=branch.groups,
            )
        if branch.kind == "dense":
            return Dense(**common, weight=weight)
        size = weight.size
        return Sparse(
            **common,
            data=weight.reshape(-1),
            indices=np.arange(size),
            indptr=np.arange(size + 1),
            columns=size,
        )


def _taps(branch: Branch, target: str, bits: int) -> Conv:
    """The windows of a max pool: a weight of two a tap, whatever the scales."""
    return Conv(
        name=branch.name,
        source=branch.source,
        target=target,
        delay=branch.delay,
        num_weight_bits=bits,
        weight=np.full(branch.weight.shape, RELAY_WEIGHT, np.int16),
        stride=branch.stride,
        padding=branch.padding,
        dilation=branch.dilation,
        groups=branch.groups,
    )
