"""Estimate: what a network would cost on a chip, from its events, placement and the constants.

Every core's work in every step (``cost/core_work.py``) gives the time of each step
(``cost/step_time.py``) and the energy of each component (``cost/core_energy.py``). Chip and host
stand apart.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.chips.spec import ChipSpec, Level
from spikeship.hw_models.cost.assumptions import assumptions
from spikeship.hw_models.cost.busiest_link import BusiestLink, busiest_link
from spikeship.hw_models.cost.core_energy import COMPONENTS, Component, core_energy
from spikeship.hw_models.cost.core_work import CoreWork, core_work
from spikeship.hw_models.cost.host_share import HostShare, host_share
from spikeship.hw_models.cost.layer_rows import injected_synops, layer_rows
from spikeship.hw_models.cost.step_time import Bottleneck, StepTimes, bottleneck, step_times
from spikeship.hw_models.events.counts import CountError, EventCounts, Rates
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.placement import Placement, PlacementError
from spikeship.hw_models.placer.one_more_core import NOTHING, OneMore, one_more_core
from spikeship.hw_models.placer.place import place


@dataclass(frozen=True)
class Spread:
    """A figure and the ends that the constants' published ranges give it."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class EnergyRange:
    """Joules per inference: chip core events, static power, and the bounds of their sum.

    Attributes:
        dynamic: of all components.
        static: of the chips in use, over the latency.
        low, high: bound ``dynamic + static``.
        components: what makes up dynamic.
        static_range: static at both ends.
        static_of_cores: the part of static that falls to the cores in use, were it spread evenly
            over the chips' cores.
    """

    dynamic: float
    static: float
    low: float
    high: float
    components: dict[Component, Spread]
    static_range: Spread
    static_of_cores: float


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a network would cost on a chip, per inference; nothing in it was measured.

    Attributes:
        chip: name of the chip.
        inferences: images that were counted.
        num_steps: T.
        chip_steps: T + D, or what the windows of a staged network take.
        rates: counts per inference, the network's and each layer's.
        cycles_per_step: serial slots of the busiest core, mean over the chip steps.
        latency_s: of the chip, from the first input step to the readout.
        latency_range: its ends.
        throughput_per_s: inferences the chip's cores finish in a second, one following another.
        energy: joules of the chip.
        host: what lies beside the cores.
        placement: cores, chips, and what does not fit.
        work: events of every core and step.
        times: of every step.
        bottleneck: what decides the time.
        link: the busiest, where links decide steps, else None.
        one_more: what one more core would buy where it buys most, among the layers that decide
            steps; None where it was not asked for, or none of them can be cut.
        layers: JSON rows, one a node.
        assumptions: what the numbers rest on.
    """

    kind: ClassVar[str] = "estimated"

    chip: str
    num_steps: int
    chip_steps: int
    inferences: int
    rates: Rates
    cycles_per_step: float
    latency_s: float
    latency_range: Spread
    throughput_per_s: float
    energy: EnergyRange
    host: HostShare
    placement: Placement
    work: CoreWork
    times: StepTimes
    bottleneck: Bottleneck
    link: BusiestLink | None
    one_more: OneMore | None
    layers: tuple[dict[str, Any], ...]
    assumptions: tuple[str, ...]

    def __repr__(self) -> str:
        energy = self.energy.dynamic + self.energy.static
        return (
            f"<Estimate for {self.chip}: {energy:.3g} J ({self.energy.low:.3g} to "
            f"{self.energy.high:.3g}), {self.latency_s:.3g} s, {self.placement.cores} cores"
            f"{'' if self.placement.fits else ', does not fit'}>"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the object of the command line's ``estimate --json``."""
        return {
            "chip": self.chip,
            "num_steps": self.num_steps,
            "chip_steps": self.chip_steps,
            "inferences": self.inferences,
            "synops": dict(self.rates["synops"]),
            "synops_injected": self.injected,
            "spikes": self.rates["spikes"],
            "neuron_updates": self.rates["neuron_updates"],
            "messages": self._messages(),
            "cycles_per_step": self.cycles_per_step,
            "latency_s": self.latency_s,
            "latency_range_s": [self.latency_range.low, self.latency_range.high],
            "throughput_per_s": self.throughput_per_s,
            "bottleneck": self._bottleneck(),
            "energy_j": self._energy(),
            "host": self.host.to_json(),
            "cores": self.placement.cores,
            "chips": self.placement.chips,
            "fits": self.placement.fits,
            "layers": [dict(row) for row in self.layers],
            "assumptions": list(self.assumptions),
        }

    @property
    def injected(self) -> dict[str, float]:
        """Those of ``synops`` that the host does, effective and connected."""
        return injected_synops(self.layers)

    def _energy(self) -> dict[str, Any]:
        energy = self.energy
        return {
            "dynamic": energy.dynamic,
            "static": energy.static,
            "low": energy.low,
            "high": energy.high,
            "components": {name: one.value for name, one in energy.components.items()},
            "component_ranges": {
                name: [one.low, one.high] for name, one in energy.components.items()
            },
            "static_range": [energy.static_range.low, energy.static_range.high],
            "static_of_cores": energy.static_of_cores,
        }

    def _messages(self) -> dict[str, float]:
        work = self.work
        return {
            "sent": float(work.messages_out.sum()),
            "hops": float(work.hops_x.sum() + work.hops_y.sum()),
            "between_chips": float(work.between_chips.sum()),
        }

    def _bottleneck(self) -> dict[str, Any]:
        found, more = self.bottleneck, self.one_more
        return {
            "limit": found.limit,
            "share": found.share,
            "steps": dict(found.steps),
            "layer": found.core.layer,
            "core": found.index,
            "layer_steps": dict(found.layer_steps),
            "link": None if self.link is None else self.link.to_json(),
            **(NOTHING if more is None else more.to_json()),
        }


def estimate(
    graph: FixedGraph,
    counts: EventCounts,
    chip: ChipSpec,
    *,
    traffic: Traffic | None = None,
    placement: Placement | None = None,
    sensitivity: bool = True,
) -> Estimate:
    """Estimate energy, latency and cycles of one inference on ``chip``.

    Args:
        graph: the network that was counted.
        counts: its events over a number of images.
        chip: the chip; it may be another than the one the network was quantized for.
        traffic: what every neuron sent in the same run; without it a layer's spikes are taken to
            be spread evenly over its neurons.
        placement: on this chip; made here by default.
        sensitivity: whether to find what one more core would buy, most of the time this takes.

    Raises:
        CountError: counts or traffic are of another graph.
        PlacementError: the placement is of another graph or chip.
    """
    _check(graph, counts, chip, placement)
    traffic = Traffic.even(graph, counts) if traffic is None else traffic
    placement = place(graph, chip, traffic=traffic) if placement is None else placement
    active = _active(graph, counts)
    work = core_work(graph, placement, chip, traffic, counts.num_steps, active=active)
    lean = work.reading(_effective(counts, work))
    at: dict[Level, CoreWork] = {"low": lean, "value": work, "high": work}
    times = {level: step_times(each, chip, level) for level, each in at.items()}
    energies = {level: core_energy(each, chip, level) for level, each in at.items()}
    rates, found = counts.per_inference(), bottleneck(work, times["value"])
    latency = Spread(*(times[level].total for level in ("value", "low", "high")))
    link = busiest_link(graph, placement, chip, traffic, work, times["value"])
    more = None
    if sensitivity:
        deciding = _deciding(work, times["value"], link)
        more = one_more_core(
            graph,
            placement,
            chip,
            traffic,
            counts.num_steps,
            deciding,
            work=work,
            times=times["value"],
            active=active,
        )
    return Estimate(
        chip=chip.name,
        num_steps=counts.num_steps,
        chip_steps=counts.chip_steps,
        inferences=counts.images,
        rates=rates,
        cycles_per_step=float(work.slots.max(axis=0).mean()),
        latency_s=latency.value,
        latency_range=latency,
        throughput_per_s=1 / step_times(work.pipelined(_period(graph, counts)), chip).total,
        energy=_energy(energies, chip, placement, latency),
        host=host_share(graph, chip, traffic, counts.num_steps),
        placement=placement,
        work=work,
        times=times["value"],
        bottleneck=found,
        link=link,
        one_more=more,
        layers=layer_rows(graph, chip, rates, placement, work, energies["value"]),
        assumptions=assumptions(graph, chip, placement, traffic, work.tiles),
    )


def _check(
    graph: FixedGraph, counts: EventCounts, chip: ChipSpec, placement: Placement | None
) -> None:
    names = [node.name for node in graph.nodes]
    if [layer.name for layer in counts.layers] != names:
        raise CountError(
            f"counts of layers {[layer.name for layer in counts.layers]} are not of this graph, "
            f"which has {names}; count the graph that is estimated"
        )
    if placement is not None and placement.chip != chip.name:
        raise PlacementError(
            f"the placement is for {placement.chip}, not for {chip.name}; place the network on "
            "the chip it is estimated for"
        )


def _active(graph: FixedGraph, counts: EventCounts) -> NDArray[np.float64]:
    """Share of the images that ran each local step; early exit makes it fall."""
    first = min(counts.layers, key=lambda layer: graph.depths[layer.name])
    begin = graph.depths[first.name] if graph.gated else 0
    return np.asarray(first.neuron_updates[begin:] / (counts.images * first.neurons))


def _deciding(work: CoreWork, times: StepTimes, link: BusiestLink | None) -> list[str]:
    """Layers with the busiest core of a step that no link decides, and those a link joins."""
    by_core = times.compute.max(axis=0) >= times.link
    names = [work.cores[core].layer for core in times.busiest[by_core]]
    return list(dict.fromkeys([*names, *(() if link is None else link.ends)]))


def _effective(counts: EventCounts, work: CoreWork) -> NDArray[np.float64]:
    """Share of a core's operations that meet a weight other than zero, as in its whole layer."""
    share = {
        layer.name: layer.effective / np.maximum(layer.connected, 1) for layer in counts.layers
    }
    return np.array([share[core.layer] for core in work.cores])


def _period(graph: FixedGraph, counts: EventCounts) -> int:
    """Chip steps from one image to the next.

    A gated node works for T steps and is reset at its own first one, so images may follow every
    T; a staged network takes the next one when no population would hold two; an ungated network is
    one whole that the next image waits for.
    """
    if graph.interval is not None:
        return graph.interval
    return counts.num_steps if graph.gated else counts.chip_steps


def _energy(
    energies: dict[Level, Any], chip: ChipSpec, placement: Placement, latency: Spread
) -> EnergyRange:
    parts = {
        name: Spread(*(float(energies[at][name].sum()) for at in ("value", "low", "high")))
        for name in COMPONENTS
    }
    power = chip.static_power
    static = Spread(
        *(
            watts * placement.chips * seconds
            for watts, seconds in (
                (power.value, latency.value),
                (power.low, latency.low),
                (power.high, latency.high),
            )
        )
    )
    dynamic = sum(one.value for one in parts.values())
    held = placement.chips * chip.cores_per_chip.value
    return EnergyRange(
        dynamic=dynamic,
        static=static.value,
        low=sum(one.low for one in parts.values()) + static.low,
        high=sum(one.high for one in parts.values()) + static.high,
        components=parts,
        static_range=static,
        static_of_cores=static.value * placement.cores / held,
    )
