"""Chips, one file each."""

from spikeship.hw_models.chips.loihi1 import LOIHI1
from spikeship.hw_models.chips.loihi2 import LOIHI2
from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.errors import InputError

# a new chip is a file here and a row
CHIPS: dict[str, ChipSpec] = {chip.name: chip for chip in (LOIHI1, LOIHI2)}


def get(name: str) -> ChipSpec:
    """Return the chip of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in CHIPS:
        raise InputError(f"chip {name!r} is unknown; choose one of {', '.join(CHIPS)}")
    return CHIPS[name]
