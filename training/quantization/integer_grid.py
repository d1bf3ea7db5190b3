"""The integers' own units: scales and exponents that a quantizer chose and training keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.graph import FixedGraph


class GridError(SpikeshipError, ValueError):
    """Scales and exponents that do not belong to a network, in one line."""


@dataclass(frozen=True, eq=False)
class IntegerGrid:
    """What turns a network's real numbers into integers.

    Attributes:
        chip: name of the ChipSpec they were chosen for.
        weight_bits: width of the weights.
        scales: real = integer * scale, by neuron (and readout, under the last layer's name), one
            value a channel.
        exponents: power of two on a synapse's sum, by weighted layer (``source->neuron`` for an
            identity skip).
    """

    chip: str
    weight_bits: int
    scales: Mapping[str, NDArray[np.float64]]
    exponents: Mapping[str, int]

    @staticmethod
    def of(graph: FixedGraph) -> "IntegerGrid":
        """Take a quantized network's.

        Raises:
            GridError: two synapses of one name.
        """
        names = [synapse.name for synapse in graph.synapses]
        for name in names:
            if names.count(name) > 1:
                raise GridError(
                    f"synapse {name!r}: appears twice, its exponent is ambiguous; merge the skips"
                )
        bits = {synapse.num_weight_bits for synapse in graph.synapses}
        if len(bits) > 1:
            raise GridError(f"graph: its synapses differ in width ({sorted(bits)} bits)")
        scales = {}
        for node in graph.nodes:
            channels = np.asarray(node.scale, dtype=np.float64).reshape(-1)
            scales[node.name] = np.array(np.broadcast_to(channels, node.shape[:1]))
        return IntegerGrid(
            chip=str(graph.metadata.get("chip", "loihi2")),
            weight_bits=bits.pop(),
            scales=scales,
            exponents={synapse.name: synapse.weight_exp for synapse in graph.synapses},
        )

    def scale(self, name: str, channels: int) -> NDArray[np.float64]:
        """Scales of a population, one a channel.

        Raises:
            GridError: there are none, or not so many.
        """
        found = self.scales.get(name)
        if found is None or len(found) != channels:
            count = "none" if found is None else len(found)
            raise GridError(
                f"layer {name!r}: has {channels} channels and the integers {count} of its scales; "
                "take the network they were made from"
            )
        return found

    def exponent(self, name: str) -> int:
        """Exponent of a synapse.

        Raises:
            GridError: there is none of this name.
        """
        if name not in self.exponents:
            raise GridError(
                f"synapse {name!r}: the integers have none of this name; take the network they "
                "were made from"
            )
        return self.exponents[name]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values; floats come back as they were."""
        return {
            "chip": self.chip,
            "weight_bits": self.weight_bits,
            "scales": {name: values.tolist() for name, values in self.scales.items()},
            "exponents": dict(self.exponents),
        }

    @staticmethod
    def from_dict(entries: Any) -> "IntegerGrid":
        """Read what :meth:`to_dict` gave.

        Raises:
            GridError: anything else.
        """
        try:
            grid = IntegerGrid(
                chip=str(entries["chip"]),
                weight_bits=int(entries["weight_bits"]),
                scales={
                    name: np.array(values, dtype=np.float64).reshape(-1)
                    for name, values in entries["scales"].items()
                },
                exponents={name: int(value) for name, value in entries["exponents"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise GridError(f"grid is damaged ({type(error).__name__}: {error})") from error
        positive = all(np.all(np.isfinite(s)) and np.all(s > 0) for s in grid.scales.values())
        if not positive or not 1 <= grid.weight_bits <= 8:
            raise GridError("grid is damaged (scales must be positive, weight_bits 1..8)")
        return grid
