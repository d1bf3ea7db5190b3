"""What a simulation gives, and how the parts of one are put together."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.events.activity import Joined
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.events.recording import Recording

MEMORY_BUDGET = 2 * 2**30  # bytes that the layers in work may take, where nobody says


@dataclass(frozen=True, eq=False)
class Simulation:
    """What a simulation gives.

    Attributes:
        scores: readout per image and class after all steps, int64, in units of the readout's
            scale; spike counts where the last node is a neuron.
        scores_by_step: the same after each step of the output's own, (images, steps, classes),
            int32; of a staged network the one step in which it is read.
        counts: spikes, synaptic operations and updates, per layer and chip step.
        rails: neuron-steps at the lower and the upper rail, by node name.
        recording: every node's activity, where it was asked for.
        steps: how many local steps each image ran, int64 (images,).
        wraps: by node name how many sums and currents left 24 bits, of a run that lets them.
    """

    scores: NDArray[np.int64]
    scores_by_step: NDArray[np.int32]
    counts: EventCounts
    rails: dict[str, tuple[int, int]]
    recording: Recording | None
    steps: NDArray[np.int64]
    wraps: dict[str, int] = field(default_factory=dict)

    @property
    def predictions(self) -> NDArray[np.int64]:
        """Class per image (the first of equals, as argmax has it)."""
        return np.asarray(self.scores.argmax(axis=1), dtype=np.int64)


def merged(parts: Sequence[Simulation]) -> Simulation:
    """Put together simulations of one network over different images, in order.

    Raises:
        CountError: they differ in steps.
    """
    if len(parts) == 1:
        return parts[0]
    counts = parts[0].counts
    for part in parts[1:]:
        counts = counts + part.counts
    rails = {
        name: (
            sum(part.rails[name][0] for part in parts),
            sum(part.rails[name][1] for part in parts),
        )
        for name in parts[0].rails
    }
    recordings = [part.recording for part in parts if part.recording is not None]
    return Simulation(
        scores=np.concatenate([part.scores for part in parts]),
        scores_by_step=np.concatenate([part.scores_by_step for part in parts]),
        counts=counts,
        rails=rails,
        recording=_joined(recordings, rails) if recordings else None,
        steps=np.concatenate([part.steps for part in parts]),
        wraps={name: sum(part.wraps[name] for part in parts) for name in parts[0].wraps},
    )


def _joined(parts: list[Recording], rails: dict[str, tuple[int, int]]) -> Recording:
    return Recording(
        num_steps=parts[0].num_steps,
        input=np.concatenate([part.input for part in parts]),
        nodes=Joined([part.nodes for part in parts]),
        rails=rails,
        potentials=Joined([part.potentials for part in parts]),
        currents=Joined([part.currents for part in parts]),
    )
