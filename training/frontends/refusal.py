"""What is refused while a foreign network is read, and what both readers check and name alike."""

import itertools
from collections.abc import Iterable, Sequence

from torch import nn

from spikeship.hw_models.errors import SpikeshipError
from spikeship.training.ann.network import Add


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


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def free_name(name: str, taken: Iterable[str]) -> str:
    """Return ``name``, with a number behind it where it is in ``taken``."""
    candidates = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))
    return next(candidate for candidate in candidates if candidate not in taken)
