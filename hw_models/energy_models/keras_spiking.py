"""keras-spiking's ModelEnergy: its own table of devices, and its own way to count.

Operations are not followed spike by spike: they are a layer's connections, taps on padding
included, times the mean rate of its input. On devices that do not spike every connection and
neuron is computed once, whatever fires.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from spikeship.hw_models.chips.spec import Constant, Level
from spikeship.hw_models.energy_models.incoming import Layer, connections
from spikeship.hw_models.energy_models.model import (
    LayerEnergy,
    ModelEnergy,
    assembled,
    picojoules,
)
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.graph import FixedGraph, Input, Readout

_PACKAGE = "keras-spiking, ModelEnergy.devices"
_DEGNAN = f"{_PACKAGE}, after Degnan et al., IEEE TVLSI 24(1), 2015"
_HOEPPNER = f"{_PACKAGE}, after Hoeppner et al., arXiv 1903.08941, 2019"
_DT = 1e-3  # seconds a step, keras-spiking's default


@dataclass(frozen=True)
class Device:
    """Energies of one of the package's devices, and whether it spikes."""

    synop: Constant
    neuron: Constant
    spiking: bool


DEVICES: Mapping[str, Device] = MappingProxyType(
    {
        "loihi": Device(
            picojoules(
                27.1,
                f"{_PACKAGE}: written as 23.6 + 3.5 pJ, after Davies et al., 2018, whose table "
                "gives 23.6 pJ and, as a time, 3.5 ns",
            ),
            picojoules(81.0, f"{_PACKAGE}, after Davies et al., 2018"),
            spiking=True,
        ),
        "spinnaker": Device(picojoules(13.3e3, _HOEPPNER), picojoules(26e3, _HOEPPNER), True),
        "spinnaker2": Device(picojoules(450, _HOEPPNER), picojoules(2.19e3, _HOEPPNER), True),
        "cpu": Device(
            picojoules(8.6e3, f"{_DEGNAN} (Intel i7-4960X)"), picojoules(8.6e3, _DEGNAN), False
        ),
        "gpu": Device(
            picojoules(300, f"{_DEGNAN} (GTX Titan Black)"), picojoules(300, _DEGNAN), False
        ),
        "arm": Device(picojoules(900, f"{_DEGNAN} (Cortex-A)"), picojoules(900, _DEGNAN), False),
    }
)
_SPIKING = (
    "a layer's connections (outputs x kernel, padding included) times the mean rate of its input "
    "times T, and neurons x T, no readout"
)
_STEADY = "every connection (outputs x kernel, padding included) and every neuron once, no readout"


@dataclass(frozen=True)
class KerasSpiking:
    """The package's estimate for one of its devices."""

    device: str

    @property
    def name(self) -> str:
        """``keras-spiking:`` and the device."""
        return f"keras-spiking:{self.device}"

    @property
    def source(self) -> str:
        """The package."""
        return f"{_PACKAGE}[{self.device!r}]"

    @property
    def counts(self) -> str:
        """What it counts, in a line."""
        return _SPIKING if DEVICES[self.device].spiking else _STEADY

    @property
    def leaves_out(self) -> tuple[str, ...]:
        """What it does not count."""
        always = ("data in and out, overhead, static power",)
        if not DEVICES[self.device].spiking:
            return (*always, "spikes: it is the ANN's energy, in one step")
        return (
            *always,
            "where spikes arrive: a spike at a border costs as much as one in the middle",
            "signs that cancel within a pool window, which lower the mean rate the package sees",
        )

    def energy(self, graph: FixedGraph, counts: EventCounts) -> ModelEnergy:
        """Joules of one inference; raises CountError for counts of another graph."""
        device = DEVICES[self.device]
        constants = {"synaptic operation": device.synop, "neuron update": device.neuron}
        steps = counts.num_steps if device.spiking else 1

        def at(found: Sequence[Layer], level: Level) -> Sequence[LayerEnergy]:
            return [
                LayerEnergy(
                    layer.name,
                    {
                        "synapse": _synops(graph, layer, device) * device.synop.at(level),
                        "neuron": _updates(graph, layer, steps) * device.neuron.at(level),
                    },
                )
                for layer in found
            ]

        return assembled(self, graph, counts, at, constants)


def _synops(graph: FixedGraph, layer: Layer, device: Device) -> float:
    total = 0.0
    for one in layer.incoming:
        events = one.messages / one.sources * _events(graph, one.synapse.source)
        total += connections(graph, one.synapse) * (events if device.spiking else 1.0)
    return total


def _events(graph: FixedGraph, source: str) -> float:
    """Events that the package takes a message for: one, but a direct input's value is a rate.

    The values' mean size is not among the counts; their largest stands for it.
    """
    node = graph.node(source)
    if isinstance(node, Input) and node.encoding == "direct":
        return node.max_message * node.scale * _DT
    return 1.0


def _updates(graph: FixedGraph, layer: Layer, steps: int) -> int:
    readout = isinstance(graph.node(layer.name), Readout)
    return 0 if readout else layer.rates["neurons"] * steps
