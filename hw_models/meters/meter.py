"""What an energy counter is."""

from collections.abc import Mapping
from typing import Any, Protocol

from spikeship.hw_models.errors import SpikeshipError


class MeterError(SpikeshipError, ValueError):
    """A counter that cannot be read, or work it says nothing about; one line, with the fix."""


class EnergyMeter(Protocol):
    """A processor whose energy is counted."""

    @property
    def device(self) -> str:
        """Name of the processor."""
        ...

    @property
    def counter(self) -> str:
        """What counts, as a sentence names it."""
        ...

    def energy_j(self) -> float:
        """Joules drawn since some fixed moment, as of the counter's last renewal."""
        ...

    def synchronize(self) -> None:
        """Wait until the processor has done all it was given."""
        ...

    def state(self) -> Mapping[str, Any]:
        """What the figures depend on, now: clocks, limits, versions; a JSON object."""
        ...
