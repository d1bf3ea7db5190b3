"""SANA-FE's Loihi 1: event energies fitted to a Nahuku board."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from spikeship.hw_models.chips.spec import STORED_AS, Constant, SynapseKind
from spikeship.hw_models.energy_models.incoming import Layer
from spikeship.hw_models.energy_models.model import (
    ModelEnergy,
    assembled,
    picojoules,
    priced,
)
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.graph import FixedGraph

_FIT = "SANA-FE arch/loihi.yaml, fitted to a Nahuku board"

CONSTANTS: Mapping[str, Constant] = MappingProxyType(
    {
        "convolution synapse": picojoules(24.0, _FIT),
        "dense synapse": picojoules(35.5, _FIT),
        "sparse synapse": picojoules(33.6, _FIT),
        "neuron": picojoules(
            72.8, f"{_FIT}: access 51.2 and update 21.6 pJ; low: access alone", low=51.2
        ),
        "spike out": picojoules(69.3, _FIT),
        "message out": picojoules(111.0, _FIT),
    }
)


_SYNAPSE: Mapping[SynapseKind, str] = MappingProxyType(
    {"conv": "convolution synapse", "dense": "dense synapse", "sparse": "sparse synapse"}
)


@dataclass(frozen=True)
class SanaFe:
    """Events times the energies that SANA-FE's authors fitted to silicon."""

    name: str = "sanafe"
    source: str = _FIT
    counts: str = (
        "connected synaptic operations by kind of synapse, an access and an update of every "
        "neuron in every step, spikes, and one message for every layer that reads a spike"
    )
    leaves_out: tuple[str, ...] = (
        "hops (3.0 and 4.2 pJ each), and further messages where a layer lies on several cores",
        "operations of a node that several synapse objects feed are shared out among them by "
        "messages and mean fan-out",
        "the second compartment of a soft reset",
        "static power, the embedded x86 cores and the host",
    )

    def energy(self, graph: FixedGraph, counts: EventCounts) -> ModelEnergy:
        """Joules of one inference; raises CountError for counts of another graph."""
        return assembled(self, graph, counts, priced(CONSTANTS, _components), CONSTANTS)


def _components(layer: Layer, price: Mapping[str, float]) -> dict[str, float]:
    return {
        "synapse": sum(
            one.connected * price[_SYNAPSE[STORED_AS[type(one.synapse)]]] for one in layer.incoming
        ),
        "neuron": layer.rates["neuron_updates"] * price["neuron"],
        "spike": layer.rates["spikes"] * price["spike out"],
        "message": layer.rates["spikes"] * layer.readers * price["message out"],
    }
