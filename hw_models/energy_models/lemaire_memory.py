"""What Lemaire et al. take an operation and an access to SRAM to cost (45 nm, 32 bits)."""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from spikeship.hw_models.chips.spec import Constant, Level
from spikeship.hw_models.energy_models.model import PICO, picojoules

PAPER = "Lemaire et al., ICONIP 2022, arXiv 2210.13107"
_HOROWITZ = f"{PAPER}, after Horowitz, ISSCC 2014 (45 nm, 32-bit integers)"
WORD_BYTES = 4
# published accesses: (bytes of the memory, pJ an access)
_POINTS = ((8 * 1024, 10.0), (32 * 1024, 20.0), (1024 * 1024, 100.0))
_SIZES, _PRICES = zip(*_POINTS, strict=True)
_SLOPE, _BASE = (float(x) for x in np.polyfit(np.array(_SIZES), np.array(_PRICES), 1))

CONSTANTS: Mapping[str, Constant] = MappingProxyType(
    {
        "addition": picojoules(0.1, _HOROWITZ),
        "multiplication": picojoules(3.1, _HOROWITZ),
        **{
            f"access to {size // 1024} KiB": picojoules(pj, f"{_HOROWITZ}: SRAM")
            for size, pj in _POINTS
        },
    }
)


def sram_j(words: float, level: Level = "value") -> float:
    """Joules of one access to an SRAM of so many 32-bit words.

    Three sizes are published. The value is the least-squares line through them, as in the
    authors' own tool (qualia-plugin-snn); the paper's words also allow straight pieces from nothing
    through the three points. Low and high are the lesser and the greater of the two.
    """
    size = words * WORD_BYTES
    line = _SLOPE * size + _BASE
    pieces = _pieces(size)
    picked = {"value": line, "low": min(line, pieces), "high": max(line, pieces)}[level]
    return picked * PICO


def _pieces(size: float) -> float:
    """Straight lines through the points; the last one goes on."""
    corners = ((0, 0.0), *_POINTS)
    for (x0, y0), (x1, y1) in zip(corners, corners[1:], strict=False):
        if size <= x1 or x1 == corners[-1][0]:
            return y0 + (y1 - y0) * (size - x0) / (x1 - x0)
    raise AssertionError("the last piece takes every size")
