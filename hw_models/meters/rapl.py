"""RAPL: the energy counters of a CPU's packages, as Linux shows them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikeship.hw_models.meters.meter import MeterError

POWERCAP = Path("/sys/class/powercap")


@dataclass
class _Package:
    """One package's counter: its last value, and the microjoules counted since the first."""

    name: str
    path: Path
    range_uj: int
    last_uj: int
    counted_uj: int = 0

    def advance(self) -> None:
        now = _whole_number(self.path)
        step = now - self.last_uj
        self.counted_uj += step if step >= 0 else step + self.range_uj
        self.last_uj = now


class RaplMeter:
    """All packages of this machine's CPU together; cores and caches, not the memory modules.

    A counter starts again from 0 past its range. That is seen as long as it is read once a turn;
    a turn takes minutes at full load.

    Args:
        device: name of the CPU.
        powercap: folder of the counters.

    Raises:
        MeterError: there is no package counter, or this user cannot read it.
    """

    counter = "RAPL's package counters"

    def __init__(self, device: str, powercap: Path = POWERCAP) -> None:
        self.device = device
        self._packages = [
            _Package(
                name,
                folder / "energy_uj",
                _whole_number(folder / "max_energy_range_uj"),
                _whole_number(folder / "energy_uj"),
            )
            for folder in sorted(powercap.glob("intel-rapl:*"))
            if (name := _text(folder / "name")).startswith("package-")
        ]
        if not self._packages:
            raise MeterError(
                f"RAPL: no package counter under {powercap}; it takes a CPU and a Linux kernel "
                "that have them, and no virtual machine between"
            )

    def energy_j(self) -> float:
        """Joules drawn since this object was made."""
        for package in self._packages:
            package.advance()
        return sum(package.counted_uj for package in self._packages) / 1e6

    def synchronize(self) -> None:
        """Do nothing: a CPU's work is done when its call returns."""

    def state(self) -> dict[str, Any]:
        """The packages that are counted."""
        return {"packages": [package.name for package in self._packages]}


def _whole_number(path: Path) -> int:
    text = _text(path)
    if not text.isdecimal():
        raise MeterError(f"RAPL: {path} holds {text[:40]!r}, no count; measure on another machine")
    return int(text)


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise MeterError(
            f"RAPL: {path} cannot be read ({error.strerror}); as root: "
            f"chmod a+r {path.parent.parent}/intel-rapl:*/energy_uj"
        ) from error
