"""What is refused while a foreign network is read, and what both readers check and name alike."""

import re
from collections.abc import Iterable, Sequence

from torch import nn

from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.names import LONGEST
from spikeship.training.ann.network import Add

# what is put behind a name still fits
_LONGEST = LONGEST - 40


class UnsupportedLayerError(SpikeshipError, ValueError):
    """Parts of a network that have no place in a Network: all of them, by name, in one line."""


class RefusalError(SpikeshipError):
    """Why one node cannot become a layer, and the fix; collected into UnsupportedLayerError."""


def check_input(module: nn.Module, shapes: Sequence[tuple[int, ...]]) -> None:
    """Check that a layer can read results of these shapes, batch axis first.

    Raises:
        RefusalError: it cannot, or would give them another meaning than a Network does.
    """
    if isinstance(module, nn.Linear) and any(len(shape) != 2 for shape in shapes):
        raise RefusalError(f"reads shape {shapes[0][1:]}; put a Flatten before it")
    if isinstance(module, (nn.Conv2d, nn.AvgPool2d)) and any(len(shape) != 4 for shape in shapes):
        raise RefusalError(f"reads shape {shapes[0][1:]}; give it (channel, height, width)")
    if isinstance(module, Add) and len(set(shapes)) > 1:
        raise RefusalError(f"sums shapes {shapes[0][1:]} and {shapes[1][1:]}; make them alike")


class Names:
    """Names that are taken, and free ones like those that somebody would like.

    Args:
        taken: what is taken from the start.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._numbers: dict[str, int] = {}

    def free(self, name: str) -> str:
        """Return a name, with a number behind it where it is taken, and take it."""
        found = name
        number = self._numbers.get(name, 1)
        while found in self._taken:
            found = f"{name}_{number}"
            number += 1
        self._numbers[name] = number
        self._taken.add(found)
        return found


def plain_name(name: str, otherwise: str) -> str:
    """Make a name of dots and printable letters from another program's.

    Args:
        name: as it was; slashes become dots.
        otherwise: what is taken where nothing is left of it.
    """
    parts = re.split(r"[./\\]+", "".join(letter for letter in name if letter.isprintable()))
    return ".".join(filter(None, parts))[:_LONGEST].rstrip(".") or otherwise
