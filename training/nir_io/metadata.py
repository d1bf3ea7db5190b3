"""What NIR does not say about a spiking network, as one JSON string in the graph's metadata.

NIR's nodes leave the time step, the reset, the input's encoding and the readout open, and its
files hold no nulls; one string holds it all and survives every reader that keeps metadata.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from spikeship.hw_models.errors import InputError, SpikeshipError
from spikeship.hw_models.json_text import parse
from spikeship.training.quantization.integer_grid import GridError, IntegerGrid
from spikeship.training.snn.encoding import InputCoding
from spikeship.training.snn.neurons import Reset
from spikeship.training.snn.spiking_network import Timing
from spikeship.training.statistics import check_statistics

KEY = "spikeship"
VERSION = 1

Decay = Literal["euler", "exact"]


class MetadataError(SpikeshipError, ValueError):
    """Metadata that cannot be used, in one line: the entry, what is wrong, what to do."""


@dataclass(frozen=True)
class NetworkMetadata:
    """How a NIR graph is to be fed, stepped and read out (the sum of its last layer over T).

    Attributes:
        coding: how an input becomes messages.
        num_steps: T.
        reset: what a spike does to V.
        dt: length of a step in the graph's unit of time.
        decay: how tau gives the leak: ``euler`` 1 - dt / tau, ``exact`` exp(-dt / tau).
        v0: V before the first step of the neurons named, in units of V; others start at 0. One
            number, or nested lists that broadcast to the population's shape.
        dropout: chance to drop an element in fine-tuning, by the layer that it follows.
        ranges: smallest and largest weighted input W·s seen, by neuron; the readout's by the
            last layer's name. With a ``grid``, the neurons' in weight units.
        data: JSON object, the data set's ``name``, ``mean`` and ``std``.
        provenance: JSON object, how the network came to be.
        grid: the integers that a network fine-tuned for them has, which ``quantize`` then gives.
        timing: ``pipelined``, or ``staged``: populations wait for their whole input.
        relays: max pools of a staged network, each a convolution of twos and neurons that hand on
            the largest of its spikes.
    """

    coding: InputCoding
    num_steps: int
    reset: Reset
    dt: float = 1.0
    decay: Decay = "euler"
    v0: Mapping[str, Any] = field(default_factory=dict)
    dropout: Mapping[str, float] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    grid: IntegerGrid | None = None
    timing: Timing = "pipelined"
    relays: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require(self.num_steps >= 1, "num_steps", self.num_steps, "at least 1")
        _require(self.reset in ("subtract", "zero"), "reset", self.reset, "subtract or zero")
        _require(math.isfinite(self.dt) and self.dt > 0, "dt", self.dt, "positive")
        timings = ("pipelined", "staged")
        _require(self.timing in timings, "timing", self.timing, "pipelined or staged")
        _require(
            self.timing == "staged" or not self.relays, "relays", list(self.relays), "only staged"
        )
        _require(self.decay in ("euler", "exact"), "decay", self.decay, "euler or exact")
        try:
            check_statistics(self.data)
        except InputError as error:
            raise MetadataError(f"metadata: {error}; write the graph again") from error
        for name, p in self.dropout.items():
            _require(0 <= p < 1, f"dropout of {name!r}", p, "a chance, 0 <= p < 1")
        for name, start in self.v0.items():
            _require(_are_numbers(start), f"v0 of {name!r}", start, "numbers in even lists")
        for name, (low, high) in self.ranges.items():
            _require(low <= high, f"range of {name!r}", [low, high], "smallest, then largest")

    def to_json(self) -> str:
        """Write as one line of JSON.

        Raises:
            MetadataError: ``data`` or ``provenance`` hold what JSON cannot say.
        """
        entries: dict[str, Any] = {
            "version": VERSION,
            "dt": self.dt,
            "reset": self.reset,
            "decay": self.decay,
            "encoding": self.coding.encoding,
            "num_steps": self.num_steps,
            "readout": "sum",
            "input": {
                "scale": self.coding.scale,
                "max_message": self.coding.max_message,
                "signed": self.coding.signed,
            },
            "v0": dict(self.v0),
            "dropout": dict(self.dropout),
            "ranges": {name: list(bounds) for name, bounds in self.ranges.items()},
            "data": dict(self.data),
            "provenance": dict(self.provenance),
        }
        if self.grid is not None:
            entries["grid"] = self.grid.to_dict()
        if self.timing == "staged":
            entries |= {"timing": self.timing, "relays": list(self.relays)}
        try:
            return json.dumps(entries, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise MetadataError(
                f"metadata: JSON cannot hold it ({error}); give plain finite values"
            ) from error

    @classmethod
    def from_json(cls, text: str) -> "NetworkMetadata":
        """Read what :meth:`to_json` wrote; entries it does not know are passed over.

        Raises:
            MetadataError: no JSON, another version, or an entry that is missing or wrong.
        """
        try:
            entries = parse(text)
        except InputError as error:
            raise MetadataError(f"metadata: {error}; write the graph again with to_nir") from error
        _require(isinstance(entries, dict), "content", type(entries).__name__, "a JSON object")
        version = entries.get("version")
        _require(version == VERSION, "version", version, f"{VERSION}, the one this release reads")
        _require(entries.get("readout") == "sum", "readout", entries.get("readout"), "sum")
        given = _entry(entries, "input", dict)
        try:
            coding = InputCoding(
                _entry(entries, "encoding", str),
                _entry(given, "scale", float),
                _entry(given, "max_message", int),
                _entry(given, "signed", bool),
            )
        except ValueError as error:
            raise MetadataError(f"metadata: {error}") from error
        dropout = _entry(entries, "dropout", dict)
        try:
            grid = IntegerGrid.from_dict(entries["grid"]) if "grid" in entries else None
        except GridError as error:
            raise MetadataError(f"metadata: {error}; write the graph again") from error
        ranges = {}
        for name, bounds in _entry(entries, "ranges", dict).items():
            two = isinstance(bounds, list) and len(bounds) == 2
            _require(two, f"range of {name!r}", bounds, "two numbers")
            low, high = (_entry({"range": bound}, "range", float) for bound in bounds)
            ranges[name] = low, high
        relays = entries.get("relays", [])
        named = isinstance(relays, list) and all(isinstance(name, str) for name in relays)
        _require(named, "relays", relays, "names in a list")
        return cls(
            coding=coding,
            num_steps=_entry(entries, "num_steps", int),
            reset=_entry(entries, "reset", str),
            dt=_entry(entries, "dt", float),
            decay=_entry(entries, "decay", str),
            v0=_entry(entries, "v0", dict),
            dropout={name: _entry(dropout, name, float) for name in dropout},
            ranges=ranges,
            data=_entry(entries, "data", dict),
            provenance=_entry(entries, "provenance", dict),
            grid=grid,
            timing=entries.get("timing", "pipelined"),
            relays=tuple(relays),
        )


def _require(holds: bool, entry: str, value: Any, wanted: str) -> None:
    if not holds:
        raise MetadataError(f"metadata: {entry} is {value!r}, not {wanted}; write the graph again")


def _are_numbers(values: Any) -> bool:
    try:
        array = np.array(values)
    except ValueError:  # lists of different lengths
        return False
    return array.dtype.kind in "if" and bool(np.all(np.isfinite(array)))


def _entry(entries: Mapping[str, Any], key: str, kind: type) -> Any:
    """Entry ``key``, checked to be of a kind (JSON's 1 is a float too, its true is no number)."""
    value = entries.get(key)
    accepted = (int, float) if kind is float else kind
    holds = isinstance(value, accepted) and (kind is bool or not isinstance(value, bool))
    _require(holds, key, value, _KINDS[kind])
    return float(entries[key]) if kind is float else value


_KINDS: dict[type, str] = {
    dict: "an object",
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
}
