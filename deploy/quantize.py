"""Float populations to Loihi's integers: weights, thresholds, biases, and the proof they fit.

For a population with scale s (real = integer * s): weights are rounded to what ``weight_bits``
hold, ``vth = floor(theta / s)``, ``bias = round(64 b / s)`` and ``v0`` likewise. The scale is the
smallest that its weights allow (finest rounding), raised where threshold, bias or input would
leave their widths. Scales are per output channel by default: neurons do not notice, since weights,
threshold, bias and potential times any constant give the same spikes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.check import DeployError
from spikeship.deploy.normalize import Branch, FloatNetwork, Population, normalize
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

Floats = NDArray[np.float64]
Granularity = Literal["channel", "layer"]
BIAS_LIMIT = fixed.BIAS_MANT_MAX << fixed.BIAS_EXP_MAX
UNITS = 2**fixed.STATE_SHIFT
EXP_MAX = 7
SNAP = 1e-12


def quantize(
    graph: nir.NIRGraph,
    *,
    chip: str = "loihi2",
    weight_bits: int = 8,
    granularity: Granularity = "channel",
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> FixedGraph:
    """Turn a spiking network into the chip's integers.

    Args:
        graph: a NIR graph with our metadata.
        chip: name of a ChipSpec, for its weight width.
        weight_bits: 1..8; mixed signs cost one of them.
        granularity: one scale per output ``channel`` or per ``layer``.
        ranges: observed (low, high) of each population's weighted input, real units, bias left
            out; the metadata's own where None.

    Returns:
        The graph; ``metadata["notes"]`` holds a line for every layer whose sums are not proved.

    Raises:
        DeployError: a layer that does not fit, by name, with the reason and the fix.
    """
    limit = chips.get(chip).weight_bits.value
    if not 1 <= weight_bits <= min(limit, 8):
        raise DeployError(f"weight_bits: {weight_bits} is not what {chip} holds; give 1..8")
    network = normalize(graph)
    metadata = network.metadata
    observed = dict(metadata.ranges if ranges is None else ranges)
    layers = [
        _Layer(population, network, weight_bits, granularity, observed.get(population.name))
        for population in network.populations
    ]
    source = Input(
        name="input",
        shape=network.input_shape,
        encoding=metadata.coding.encoding,
        max_message=metadata.coding.max_message,
        signed=metadata.coding.signed,
        scale=metadata.coding.scale,
    )
    try:
        made = FixedGraph(
            input=source,
            nodes=tuple(layer.node() for layer in layers),
            synapses=tuple(synapse for layer in layers for synapse in layer.synapses()),
            num_steps=metadata.num_steps,
            metadata={
                "chip": chip,
                "weight_bits": weight_bits,
                "data": dict(metadata.data),
                "provenance": dict(metadata.provenance),
            },
        )
        return _with_overflow(made, observed)
    except GraphError as error:
        raise DeployError(str(error)) from error


def _with_overflow(graph: FixedGraph, observed: Mapping[str, tuple[float, float]]) -> FixedGraph:
    """Say of every neuron layer how sure it is that its input stays within 24 bits."""
    nodes: list[Node] = []
    notes = []
    for node in graph.nodes:
        if isinstance(node, Readout):
            nodes.append(node)
            continue
        bound = graph.input_bound(node.name)
        if bound <= fixed.INPUT_LIMIT:
            nodes.append(replace(node, overflow="proved"))
        elif node.name in observed:
            largest = max(map(abs, observed[node.name]))
            units = int(np.ceil(largest / node.scale.min()))
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


@dataclass(frozen=True)
class _Grid:
    """The weights a synapse may hold: multiples of ``step`` from ``low`` to ``high``."""

    step: int
    low: int
    high: int

    @staticmethod
    def of(weight: Floats, bits: int) -> "_Grid":
        mixed = bool(np.any(weight > 0) and np.any(weight < 0))
        step = 1 << (fixed.WEIGHT_BITS - bits + mixed)
        low, high = fixed.weight_range(mixed)
        top = high // step * step
        return _Grid(step, low if mixed else -top, top)

    def least_scale(self, weight: Floats) -> Floats:
        """Smallest scale per row that keeps the weights on the grid."""
        rows = weight.reshape(len(weight), -1)
        zero = np.zeros(len(rows))
        if self.high == 0:  # one bit with a sign leaves nothing for positive weights
            return np.full(len(rows), np.inf)
        positive = rows.max(axis=1, initial=0.0) / self.high
        negative = -rows.min(axis=1, initial=0.0) / -self.low if self.low else zero
        least: Floats = np.maximum(positive, negative)
        return least

    def round(self, weight: Floats) -> NDArray[np.int16]:
        """Nearest grid points (ties to even)."""
        held = np.clip(
            np.rint(weight / self.step).astype(np.int64) * self.step, self.low, self.high
        )
        if not np.any(held > 0):
            # no positive weight is left: one sign then, which reaches only to -255
            held = np.maximum(held, -(255 // self.step) * self.step)
        return held.astype(np.int16)


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
        self.grids = {b.name: _Grid.of(b.weight, bits) for b in population.branches}
        self.per_channel = granularity == "channel" and not self.is_readout
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
            rows = self._rows(self.grids[branch.name].least_scale(branch.weight), channels)
            scale = np.maximum(scale, rows)
        for branch in population.branches:  # the exponent reaches only so far
            least = self.grids[branch.name].least_scale(branch.weight) / 2.0**EXP_MAX
            scale = np.maximum(scale, self._rows(least, channels))
        bias = self._per_channel_max(np.abs(population.bias))
        if population.v_threshold is None:
            scale = np.full(channels, scale.max())
        else:
            theta = self._per_channel_max(population.v_threshold)
            scale = np.maximum(scale, theta / fixed.VTH_LIMIT)
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
                bias=bias,
                scale=float(self.scale[0]),
            )
        # a threshold that is a whole number of weight units must not lose one to the division
        vth = np.floor(population.v_threshold / scale * (1 + SNAP)).astype(np.int64)
        if vth.min() < 1:
            raise DeployError(
                f"layer {population.name!r}: its threshold is below one weight unit; its weights "
                "or its observed input are too large for the threshold, balance it anew"
            )
        mant, exp = fixed.encode_bias(np.rint(population.bias * UNITS / scale).astype(np.int64))
        half = population.v0 == population.v_threshold / 2
        v0 = np.where(half, vth << 5, np.rint(population.v0 * UNITS / scale).astype(np.int64))
        return Neuron(
            name=population.name,
            shape=population.shape,
            vth=vth,
            du=fixed.DECAY_UNITY - 1,
            dv=int(np.rint((1.0 - population.leak) * fixed.DECAY_UNITY)),
            bias_mant=mant,
            bias_exp=exp,
            v0=v0,
            reset=self.network.metadata.reset,
            scale=scale,
        )

    def synapses(self) -> list[AnySynapse]:
        """Return the population's branches in integers."""
        return [self._synapse(branch) for branch in self.population.branches]

    def _synapse(self, branch: Branch) -> AnySynapse:
        grid = self.grids[branch.name]
        column = self.scale.reshape(-1, *[1] * (branch.weight.ndim - 1))
        in_units = branch.weight / column
        exponent = 0
        if self._carries_exponent(branch):
            needed = max(in_units.max() / grid.high, -in_units.min() / max(-grid.low, 1))
            exponent = max(0, int(np.ceil(np.log2(max(needed, 1.0)) - 1e-12)))
        weight = grid.round(in_units / 2.0**exponent)
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
