"""Loihi 1's table of event energies: the one that most papers multiply their spikes by."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from spikeship.hw_models.chips.spec import Constant
from spikeship.hw_models.energy_models.incoming import Layer
from spikeship.hw_models.energy_models.model import (
    ModelEnergy,
    assembled,
    picojoules,
    priced,
)
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.graph import FixedGraph

_TABLE = "Davies et al., IEEE Micro 38(1), 2018, Table 2 (14 nm, 0.75 V, pre-silicon)"

CONSTANTS: Mapping[str, Constant] = MappingProxyType(
    {
        "synaptic operation": picojoules(23.6, f"{_TABLE}: at least 23.6 pJ"),
        "neuron update": picojoules(
            81.0, f"{_TABLE}: 81 pJ for an active neuron; low: 52 pJ, inactive", low=52.0
        ),
        "spike": picojoules(1.7, f"{_TABLE}: a spike within its tile"),
    }
)


@dataclass(frozen=True)
class Davies:
    """Connected operations, neuron updates and spikes times Loihi 1's published energies."""

    name: str = "davies"
    source: str = _TABLE
    counts: str = (
        "connected synaptic operations, an update of every neuron in every step as if it were "
        "active (low: inactive), and a spike within one tile for every layer that reads it"
    )
    leaves_out: tuple[str, ...] = (
        "hops between tiles and the barrier",
        "a synaptic operation's published energy is a minimum, so high bounds nothing above it",
        "the second compartment of a soft reset",
        "static power, the embedded x86 cores and the host",
    )

    def energy(self, graph: FixedGraph, counts: EventCounts) -> ModelEnergy:
        """Joules of one inference; raises CountError for counts of another graph."""
        return assembled(self, graph, counts, priced(CONSTANTS, _components), CONSTANTS)


def _components(layer: Layer, price: Mapping[str, float]) -> dict[str, float]:
    return {
        "synapse": layer.rates["synops_connected"] * price["synaptic operation"],
        "neuron": layer.rates["neuron_updates"] * price["neuron update"],
        "spike": layer.rates["spikes"] * layer.readers * price["spike"],
    }
