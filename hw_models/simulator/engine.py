"""What runs images through a graph: the interface that the CPU's engine and a device's share."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from spikeship.hw_models.simulator.early_exit import EarlyExit
from spikeship.hw_models.simulator.simulation import MEMORY_BUDGET, Simulation


@dataclass(frozen=True)
class RunOptions:
    """What is kept of a run, and how much room it may take.

    Attributes:
        record: keep every node's activity.
        potentials: keep potentials and currents as well.
        memory_budget: bytes that the layers in work may take.
        early_exit: let images stop when they are decided.
    """

    record: bool = False
    potentials: bool = False
    memory_budget: int = MEMORY_BUDGET
    early_exit: EarlyExit | None = None


class Engine(Protocol):
    """A graph made ready once, for many batches."""

    def check(self, options: RunOptions) -> None:
        """Refuse options that the engine does not have.

        Raises:
            ValueError: names one.
        """

    def runs(self, batches: Iterable[NDArray[Any]], options: RunOptions) -> Iterator[Simulation]:
        """Run batches of images and give the results part by part, in order.

        Args:
            batches: integers (images, T, *input shape), each of the same T.
            options: what is kept.

        Raises:
            ValueError: messages that do not fit.
            StateOverflowError: a sum or a state left its width.
        """
