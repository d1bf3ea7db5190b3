"""Energy, latency and cycles: event counts times a chip's published constants. An estimate.

Per chip step, a core's time is the sum of its events' times, a step takes as long as its busiest
core and then the barrier, and a sample takes T + D steps::

    t_core = synops*t_synop + compartments*t_update + spikes*t_out + sent*t_send + received*t_recv
    latency = sum over steps of (max over cores of t_core + t_barrier)
    energy  = sum of events * their energies  +  static power * chips * latency
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.chips.spec import ChipSpec, EventCosts, Level
from spikeship.hw_models.counts import CountError, EventCounts, LayerCounts, LayerRates, Rates
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement import LayerPlacement, Placement, place

Steps = NDArray[np.float64]  # one number a chip step


@dataclass(frozen=True)
class EnergyRange:
    """Joules per inference: chip core events, static power, and the bounds of their sum."""

    dynamic: float
    static: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a network would cost on a chip, per inference; nothing in it was measured.

    Attributes:
        chip: name of the chip. inferences: images that were counted.
        num_steps: T. chip_steps: T + D.
        rates: counts per inference, the network's and each layer's.
        cycles_per_step: serial slots of the busiest core, mean over the chip steps.
        latency_s: from the first input step to the readout.
        energy: joules.
        placement: cores, chips, and what does not fit.
        layers: JSON rows, one a node.
        assumptions: what the numbers rest on.
    """

    kind: ClassVar[Literal["estimated"]] = "estimated"

    chip: str
    num_steps: int
    chip_steps: int
    inferences: int
    rates: Rates
    cycles_per_step: float
    latency_s: float
    energy: EnergyRange
    placement: Placement
    layers: tuple[dict[str, Any], ...]
    assumptions: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the object of the command line's ``estimate --json``."""
        return {
            "chip": self.chip,
            "num_steps": self.num_steps,
            "chip_steps": self.chip_steps,
            "inferences": self.inferences,
            "synops": dict(self.rates["synops"]),
            "spikes": self.rates["spikes"],
            "neuron_updates": self.rates["neuron_updates"],
            "cycles_per_step": self.cycles_per_step,
            "latency_s": self.latency_s,
            "energy_j": {
                "dynamic": self.energy.dynamic,
                "static": self.energy.static,
                "low": self.energy.low,
                "high": self.energy.high,
            },
            "cores": self.placement.cores,
            "fits": self.placement.fits,
            "layers": [dict(row) for row in self.layers],
            "assumptions": list(self.assumptions),
        }


@dataclass(frozen=True, eq=False)
class _Work:
    """A layer's mean events per image and chip step, and how they spread over its cores."""

    cores: int
    tiles: int
    effective: Steps
    connected: Steps
    compartments: Steps
    spikes: Steps
    sent: Steps
    received: Steps

    def slots(self) -> Steps:
        """Serial slots of one core: operations, compartments computed, spikes."""
        return (self.connected + self.compartments + self.spikes) / self.cores

    def events(self, level: Level) -> tuple[Steps, ...]:
        """Events in the order of ``_prices``; a low estimate skips zero weights."""
        synops = self.effective if level == "low" else self.connected
        # a tile's messages reach each of its channel groups
        received = self.received * (self.cores / self.tiles)
        return synops, self.compartments, self.spikes, self.sent, received

    def cost(self, costs: EventCosts, level: Level) -> Steps:
        """Joules or seconds of all cores together."""
        total = np.zeros_like(self.spikes)
        for price, events in zip(_prices(costs, level), self.events(level), strict=True):
            total += price * events
        return total


def _prices(costs: EventCosts, level: Level) -> tuple[float, ...]:
    kinds = (costs.synop, costs.neuron_update, costs.spike_out, costs.message_out, costs.message_in)
    return tuple(constant.at(level) for constant in kinds)


def estimate(graph: FixedGraph, counts: EventCounts, chip: ChipSpec) -> Estimate:
    """Estimate energy, latency and cycles of one inference on ``chip``.

    Args:
        graph: the network that was counted.
        counts: its events over a number of images.
        chip: the chip; it may be another than the one the network was quantized for.

    Raises:
        CountError: the counts are of another graph.
    """
    names = [node.name for node in graph.nodes]
    if [layer.name for layer in counts.layers] != names:
        raise CountError(
            f"counts of layers {[layer.name for layer in counts.layers]} are not of this graph, "
            f"which has {names}; count the graph that is estimated"
        )
    placement = place(graph, chip)
    placed = {layer.name: layer for layer in placement.layers}
    work = [_work(graph, layer, placed, counts.images) for layer in counts.layers]
    rates = counts.per_inference()
    rows = tuple(_row(rate, one, chip) for rate, one in zip(rates["layers"], work, strict=True))
    latency = _latency(work, placement, chip, "value")
    energy = EnergyRange(
        dynamic=sum(row["energy_j"] for row in rows),
        static=chip.static_power.value * placement.chips * latency,
        low=_energy(work, placement, chip, "low"),
        high=_energy(work, placement, chip, "high"),
    )
    return Estimate(
        chip=chip.name,
        num_steps=counts.num_steps,
        chip_steps=counts.chip_steps,
        inferences=counts.images,
        rates=rates,
        cycles_per_step=float(np.max([one.slots() for one in work], axis=0).mean()),
        latency_s=latency,
        energy=energy,
        placement=placement,
        layers=rows,
        assumptions=_assumptions(chip, placement),
    )


def _work(
    graph: FixedGraph, layer: LayerCounts, placed: dict[str, LayerPlacement], images: int
) -> _Work:
    place_here = placed[layer.name]
    readers = {synapse.target for synapse in graph.synapses if synapse.source == layer.name}
    spikes = layer.spikes / images
    return _Work(
        cores=place_here.cores,
        tiles=place_here.tiles,
        effective=layer.effective / images,
        connected=layer.connected / images,
        compartments=layer.neuron_updates * place_here.compartments / images,
        spikes=spikes,
        sent=spikes * sum(placed[name].channel_groups for name in readers),
        received=layer.messages_in / images,
    )


def _row(rate: LayerRates, work: _Work, chip: ChipSpec) -> dict[str, Any]:
    return {
        "name": rate["name"],
        "neurons": rate["neurons"],
        "cores": work.cores,
        "spikes": rate["spikes"],
        "synops_effective": rate["synops_effective"],
        "synops_connected": rate["synops_connected"],
        "synops_dense": rate["synops_dense"],
        "neuron_updates": rate["neuron_updates"],
        "cycles_per_step": float(work.slots().mean()),
        "cycles_per_step_max": float(work.slots().max()),
        "energy_j": float(work.cost(chip.energy, "value").sum()),
    }


def _latency(work: list[_Work], placement: Placement, chip: ChipSpec, level: Level) -> float:
    busiest = np.max([one.cost(chip.time, level) / one.cores for one in work], axis=0)
    barrier = chip.barrier(placement.cores).at(level)
    return float(busiest.sum() + barrier * len(busiest))


def _energy(work: list[_Work], placement: Placement, chip: ChipSpec, level: Level) -> float:
    """Dynamic plus static joules at one end of the constants' ranges."""
    dynamic = sum(float(one.cost(chip.energy, level).sum()) for one in work)
    static = chip.static_power.at(level) * placement.chips
    return dynamic + static * _latency(work, placement, chip, level)


def _assumptions(chip: ChipSpec, placement: Placement) -> tuple[str, ...]:
    lines = [
        f"estimated: counted events times published constants of {chip.name}; nothing was measured "
        "on a chip",
        *chip.notes,
        "energy and time use connected synaptic operations: a stored zero weight is read like any "
        "other; the low bound uses effective ones, as if storage skipped zeros",
        "low and high take every constant at the low and the high end of its published range, for "
        "energy and for the time that static power runs",
        "counts are means over the images; a layer's operations, updates and spikes spread evenly "
        "over its cores, so a real busiest core is slower",
        "a spike is sent once to every channel group that reads it, and a core receives its tile's "
        "share of the messages; halos between tiles and routing are left out",
        "one sample at a time: latency and static energy cover all chip steps, T + D",
        "cycles are serial slots of the busiest core: connected operations + compartments computed "
        "+ spikes",
        "neuron cores only: host, embedded x86, input and output traffic cost nothing here",
        "spikes are the neurons' own; input messages are counted in the operations they cause",
    ]
    if any(layer.compartments > 1 for layer in placement.layers):
        lines.append(
            f"soft reset takes {chip.soft_reset_compartments.value} compartments a neuron, each "
            f"updated every step ({chip.soft_reset_compartments.source})"
        )
    lines += placement.assumptions
    return (*lines, *placement.reasons)
