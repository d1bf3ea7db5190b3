"""Horowitz's 45 nm arithmetic: a MAC for the ANN, an addition for a spike. Most papers' column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from spikeship.hw_models.chips.spec import Constant, Level
from spikeship.hw_models.energy_models.incoming import Layer
from spikeship.hw_models.energy_models.model import (
    LayerEnergy,
    ModelEnergy,
    assembled,
    picojoules,
)
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.graph import FixedGraph

_ISSCC = "Horowitz, ISSCC 2014 (45 nm, 0.9 V)"

FORMATS: Mapping[str, Mapping[str, Constant]] = MappingProxyType(
    {
        "fp32": {
            "MAC": picojoules(4.6, f"{_ISSCC}: multiplication 3.7 and addition 0.9 pJ"),
            "AC": picojoules(0.9, f"{_ISSCC}: addition"),
        },
        "fp16": {
            "MAC": picojoules(1.5, f"{_ISSCC}: multiplication 1.1 and addition 0.4 pJ"),
            "AC": picojoules(0.4, f"{_ISSCC}: addition"),
        },
        "int8": {
            "MAC": picojoules(0.23, f"{_ISSCC}: multiplication 0.2 and addition 0.03 pJ"),
            "AC": picojoules(0.03, f"{_ISSCC}: addition"),
        },
    }
)


@dataclass(frozen=True)
class Horowitz:
    """Arithmetic alone: an accumulation for every operation, a MAC where messages are numbers."""

    format: str

    counts: str = (
        "connected synaptic operations as accumulations; those of a layer that reads direct input "
        "(or graded messages) as MACs, in every step; the ANN's MACs, none on padding"
    )
    leaves_out: tuple[str, ...] = (
        "memory, wires, control and static power: arithmetic is a small part of a chip's energy",
        "neuron updates, biases, leaks and resets",
        "a layer that spikes and direct input feed together counts as MACs in full",
    )

    @property
    def name(self) -> str:
        """``horowitz:`` and the number format."""
        return f"horowitz:{self.format}"

    @property
    def source(self) -> str:
        """The table."""
        return f"{_ISSCC}, {self.format.upper()}"

    def energy(self, graph: FixedGraph, counts: EventCounts) -> ModelEnergy:
        """Joules of one inference; raises CountError for counts of another graph."""
        constants = FORMATS[self.format]
        mac, ac = constants["MAC"].value, constants["AC"].value

        def at(found: Sequence[Layer], level: Level) -> Sequence[LayerEnergy]:
            return [_row(layer, mac, ac) for layer in found]

        return assembled(self, graph, counts, at, constants)


def _row(layer: Layer, mac: float, ac: float) -> LayerEnergy:
    synops = layer.rates["synops_connected"]
    multiplied = any(one.graded for one in layer.incoming)
    return LayerEnergy(
        layer.name,
        {"MAC": synops * mac if multiplied else 0.0, "AC": 0.0 if multiplied else synops * ac},
        ann_energy_j=layer.macs * mac,
    )
