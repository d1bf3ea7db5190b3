"""Early exit: an image is done as soon as its readout has decided."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.errors import InputError
from spikeship.hw_models.graph import FixedGraph, Readout


@dataclass(frozen=True)
class EarlyExit:
    """When an image stops: its largest score leads the second by ``margin``.

    Attributes:
        margin: lead, in real units (readout times its scale), or spikes without a readout.
        every: look after every so many steps.
        least: let every image run at least so many steps.
    """

    margin: float
    every: int = 1
    least: int = 1

    def __post_init__(self) -> None:
        if not self.margin >= 0 or self.every < 1 or self.least < 1:
            raise InputError(
                f"early exit: margin {self.margin}, every {self.every}, least {self.least}; give a "
                "margin of at least 0 and steps of at least 1"
            )

    def decided(self, graph: FixedGraph, scores: NDArray[Any], step: int) -> NDArray[np.bool_]:
        """Which images may stop after ``step`` steps; scores (images, classes), integers."""
        if step < self.least or scores.shape[1] < 2:
            return np.zeros(len(scores), np.bool_)
        best = np.partition(scores, -2, axis=1)[:, -2:].astype(np.int64)
        scale = graph.output.scale if isinstance(graph.output, Readout) else 1.0
        return np.asarray((best[:, 1] - best[:, 0]) * scale >= self.margin)
