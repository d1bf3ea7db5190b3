"""What a named energy model is, and what it gives: joules, by component and layer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal, Protocol

from spikeship.hw_models.chips.spec import Constant, Level
from spikeship.hw_models.energy_models.break_even import BreakEven, break_even, scaled, spike_rate
from spikeship.hw_models.energy_models.incoming import Layer, layers
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.graph import FixedGraph

PICO = 1e-12


@dataclass(frozen=True)
class LayerEnergy:
    """One node's joules per inference, by component; ``ann_energy_j`` is the ANN's same layer."""

    name: str
    components: Mapping[str, float]
    ann_energy_j: float | None = None

    @property
    def energy_j(self) -> float:
        """Sum of the components."""
        return sum(self.components.values())

    def to_json(self) -> dict[str, Any]:
        """Return the row as JSON values."""
        return {
            "name": self.name,
            "energy_j": self.energy_j,
            "components": dict(self.components),
            "ann_energy_j": self.ann_energy_j,
        }


@dataclass(frozen=True, eq=False)
class ModelEnergy:
    """What a published model says of a network, per inference; an estimate, nothing measured.

    Attributes:
        model: the model's name.
        source: who published it.
        counts: what it counts, in a line.
        leaves_out: what it does not.
        energy_j: joules.
        low, high: the same with every constant at the low and the high end of its published spread;
            None where the source gives none.
        components: joules by kind of event.
        layers: one row a node.
        ann_energy_j: joules of the ANN that the model sets beside it; None where it has none.
        ann_low, ann_high: the same at the constants' ends; None likewise, or without a spread.
        spike_rate: spikes of a neuron (or of a spiking input's place) in a step, as counted.
        break_even: where ``energy_j`` would be ``ann_energy_j``, were there more or fewer spikes.
        constants: coefficients by name, each with its source.
    """

    kind: ClassVar[Literal["estimated"]] = "estimated"

    model: str
    source: str
    counts: str
    leaves_out: tuple[str, ...]
    energy_j: float
    low: float | None
    high: float | None
    components: Mapping[str, float]
    layers: tuple[LayerEnergy, ...]
    ann_energy_j: float | None
    ann_low: float | None
    ann_high: float | None
    spike_rate: float
    break_even: BreakEven
    constants: Mapping[str, Constant]

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "model": self.model,
            "kind": self.kind,
            "source": self.source,
            "counts": self.counts,
            "leaves_out": list(self.leaves_out),
            "energy_j": self.energy_j,
            "low": self.low,
            "high": self.high,
            "components": dict(self.components),
            "ann_energy_j": self.ann_energy_j,
            "ann_low": self.ann_low,
            "ann_high": self.ann_high,
            "spike_rate": self.spike_rate,
            "break_even_rate": self.break_even.rate,
            "break_even_factor": self.break_even.factor,
            "break_even_why": self.break_even.why,
            "layers": [layer.to_json() for layer in self.layers],
            "constants": {
                name: {
                    "value": constant.value,
                    "low": constant.low,
                    "high": constant.high,
                    "unit": constant.unit,
                    "source": constant.source,
                    "kind": constant.kind,
                }
                for name, constant in self.constants.items()
            },
        }


class EnergyModel(Protocol):
    """A published way to turn counts into joules."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        ...

    @property
    def source(self) -> str:
        """Who published it."""
        ...

    @property
    def counts(self) -> str:
        """What it counts, in a line."""
        ...

    @property
    def leaves_out(self) -> tuple[str, ...]:
        """What it does not count."""
        ...

    def energy(self, graph: FixedGraph, counts: EventCounts) -> ModelEnergy:
        """Joules of one inference.

        Args:
            graph: the network that was counted.
            counts: its events.

        Raises:
            CountError: the counts are of another graph.
        """
        ...


def picojoules(value: float, source: str, low: float = 0.0, high: float = 0.0) -> Constant:
    """A published energy of one event; without a spread where none is given."""
    return Constant(
        value * PICO, (low or value) * PICO, (high or value) * PICO, "J", source, "stated"
    )


def priced(
    constants: Mapping[str, Constant],
    components: Callable[[Layer, Mapping[str, float]], Mapping[str, float]],
) -> Callable[[Sequence[Layer], Level], Sequence[LayerEnergy]]:
    """Rows for ``assembled`` of a model that prices each layer's events and sets no ANN beside it.

    Args:
        constants: joules by name.
        components: joules of a layer's parts, at prices by the constants' names.
    """

    def at(found: Sequence[Layer], level: Level) -> Sequence[LayerEnergy]:
        price = {name: constant.at(level) for name, constant in constants.items()}
        return [LayerEnergy(layer.name, components(layer, price)) for layer in found]

    return at


def assembled(
    model: EnergyModel,
    graph: FixedGraph,
    counts: EventCounts,
    rows_at: Callable[[Sequence[Layer], Level], Sequence[LayerEnergy]],
    constants: Mapping[str, Constant],
    *,
    ranged: bool | None = None,
) -> ModelEnergy:
    """Put a model's answer together from its layers at the nominal, low and high constants.

    Args:
        model: whose answer it is.
        graph: the network that was counted.
        counts: what was counted.
        rows_at: the rows of some counts with every constant at one end of its spread.
        constants: its coefficients.
        ranged: whether there is a spread; by default, whether a constant has one.

    Raises:
        CountError: the counts are of another graph.
    """
    found = layers(graph, counts)
    rows = tuple(rows_at(found, "value"))
    spread = any(constant.low < constant.high for constant in constants.values())
    spread = spread if ranged is None else ranged
    bottom, top = (rows_at(found, "low"), rows_at(found, "high")) if spread else (None, None)
    components: dict[str, float] = {}
    for row in rows:
        for name, joules in row.components.items():
            components[name] = components.get(name, 0.0) + joules
    silent = layers(graph, scaled(graph, counts, Fraction(0)))
    rate = spike_rate(graph, counts)
    return ModelEnergy(
        model=model.name,
        source=model.source,
        counts=model.counts,
        leaves_out=model.leaves_out,
        energy_j=_joules(rows),
        low=None if bottom is None else _joules(bottom),
        high=None if top is None else _joules(top),
        components=components,
        layers=rows,
        ann_energy_j=_ann(rows),
        ann_low=None if bottom is None else _ann(bottom),
        ann_high=None if top is None else _ann(top),
        spike_rate=rate,
        break_even=break_even(_joules(rows_at(silent, "value")), _joules(rows), _ann(rows), rate),
        constants=constants,
    )


def _joules(rows: Sequence[LayerEnergy]) -> float:
    return sum(row.energy_j for row in rows)


def _ann(rows: Sequence[LayerEnergy]) -> float | None:
    """Joules of the whole ANN; None where the model has none."""
    anns = [row.ann_energy_j for row in rows if row.ann_energy_j is not None]
    return sum(anns) if anns else None
