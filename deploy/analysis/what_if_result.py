"""What a what-if gives: its points, where energy breaks even, and both as one JSON object."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from scipy.optimize import brentq

from spikeship.deploy.analysis.references import Reference

RELATIVE = 1e-9  # how far a returned rate may lie from the crossing


@dataclass(frozen=True)
class Crossing:
    """Where an energy meets a level.

    Attributes:
        factor: what all rates are multiplied by there; None where they do not meet.
        why: why they do not; empty where they do.
    """

    factor: float | None
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return both as a JSON object."""
        return {"factor": self.factor, "why": self.why or None}


def crossing(energy_j: Callable[[float], float], level_j: float, most: float) -> Crossing:
    """Find the factor at which an energy that grows with it equals a level.

    Args:
        energy_j: joules by factor, growing.
        level_j: joules to meet.
        most: largest factor to look at: some layer then sends once a neuron and step on average.
    """
    if energy_j(0.0) >= level_j:
        return Crossing(None, "the chip takes more even without a spike")
    if energy_j(most) < level_j:
        return Crossing(
            None,
            "the chip takes less even at the largest factor, where a layer sends once a neuron and "
            "step on average",
        )
    found = brentq(
        lambda factor: energy_j(factor) - level_j, 0.0, most, xtol=RELATIVE * most, rtol=RELATIVE
    )
    return Crossing(float(found))


Axis = Literal["steps", "weight_bits", "rate"]


@dataclass(frozen=True)
class Point:
    """One estimate.

    Attributes:
        axis: what was varied.
        at: its value.
        chip: the chip's name.
        source: ``simulated`` (run as it is), ``quantized anew`` (and run), ``cut for placement``
            or ``scaled`` (another run's counts).
        accuracy: share of right answers where the network was run, else None.
        found: the estimate's JSON object.
        reasons: what does not fit.
        synapse_bits: synaptic memory on all cores.
    """

    axis: Axis
    at: float
    chip: str
    source: str
    accuracy: float | None
    found: Mapping[str, Any]
    reasons: tuple[str, ...]
    synapse_bits: int

    def to_json(self) -> dict[str, Any]:
        """Return the point, its energy as low, value and high."""
        energy = self.found["energy_j"]
        return {
            "axis": self.axis,
            "at": self.at,
            "chip": self.chip,
            "source": self.source,
            "accuracy": self.accuracy,
            "energy_j": {
                "low": energy["low"],
                "value": energy["dynamic"] + energy["static"],
                "high": energy["high"],
                "dynamic": energy["dynamic"],
                "static": energy["static"],
            },
            "latency_s": self.found["latency_s"],
            "latency_range_s": list(self.found["latency_range_s"]),
            "throughput_per_s": self.found["throughput_per_s"],
            "host": dict(self.found["host"]),
            "cores": self.found["cores"],
            "chips": self.found["chips"],
            "synapse_bits": self.synapse_bits,
            "fits": self.found["fits"],
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class BreakEven:
    """Where a chip's energy meets a reference's, as factors on the counted firing rate.

    Attributes:
        chip: its name.
        against: the reference's.
        value: from the figures used.
        low: from the chip's high end and the reference's low one.
        high: the other way round.
        spikes_per_step: mean messages of a spiking neuron in a step, at factor 1; None where
            nothing can spike.
        most: the factor at which the busiest layer sends once a neuron and step on its average;
            None where a factor scales nothing.
        beyond: for low, value and high the share of neurons that would have to send more than once
            a step there; None where they do not meet or neurons were not told apart.
    """

    chip: str
    against: str
    low: Crossing
    value: Crossing
    high: Crossing
    spikes_per_step: float | None
    most: float | None
    beyond: tuple[float | None, float | None, float | None]

    def to_json(self) -> dict[str, Any]:
        """Return factors, and rates as messages a neuron and step."""

        def told(found: Crossing, beyond: float | None) -> dict[str, Any]:
            rate = None
            if found.factor is not None and self.spikes_per_step is not None:
                rate = found.factor * self.spikes_per_step
            return {**found.to_json(), "spikes_per_step": rate, "share_beyond_once": beyond}

        ends = (self.low, self.value, self.high)
        low, value, high = (told(*end) for end in zip(ends, self.beyond, strict=True))
        return {
            "chip": self.chip,
            "against": self.against,
            "low": low,
            "value": value,
            "high": high,
            "counted_spikes_per_step": self.spikes_per_step,
            "largest_factor": self.most,
        }


@dataclass(frozen=True)
class WhatIf:
    """All points of one network.

    Attributes:
        network: what was varied: num_steps, weight_bits, images, data.
        chips: names, in the order asked for.
        points: estimates.
        references: what the chips' energies are held against.
        break_even: for each chip and reference.
        left_out: values that were asked for and cannot be, each with the reason.
        assumptions: what the numbers rest on, beside each estimate's own.
    """

    network: Mapping[str, Any]
    chips: tuple[str, ...]
    points: tuple[Point, ...]
    references: tuple[Reference, ...]
    break_even: tuple[BreakEven, ...]
    left_out: tuple[str, ...]
    assumptions: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<WhatIf: {len(self.points)} estimates for {', '.join(self.chips)}>"

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of the command line's ``what-if``."""
        return {
            "kind": "estimated",
            "network": dict(self.network),
            "chips": list(self.chips),
            "points": [point.to_json() for point in self.points],
            "references": [reference.to_json() for reference in self.references],
            "break_even": [found.to_json() for found in self.break_even],
            "left_out": list(self.left_out),
            "assumptions": list(self.assumptions),
        }
