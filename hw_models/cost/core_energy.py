"""Energy of a sample on the cores, by component: events times the chip's published energies."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from spikeship.hw_models.chips.spec import ChipSpec, Level
from spikeship.hw_models.cost.core_work import CoreWork
from spikeship.hw_models.cost.regions import Steps

Component = Literal["synapse", "neuron", "spike", "hops"]
COMPONENTS: tuple[Component, ...] = ("synapse", "neuron", "spike", "hops")


def core_energy(
    work: CoreWork, chip: ChipSpec, level: Level = "value"
) -> Mapping[Component, Steps]:
    """Joules of every core by component, (cores,), over all chip steps.

    ``synapse`` is the synaptic operations, ``neuron`` the updates, ``spike`` the firing, ``hops``
    sending, receiving and every hop between, booked with the core that sends.
    """
    cost = chip.energy
    parts: dict[Component, list[tuple[float, Steps]]] = {
        "synapse": [
            (cost.synop_conv.at(level), work.synops_conv),
            (cost.synop_dense.at(level), work.synops_dense),
            (cost.synop_sparse.at(level), work.synops_sparse),
        ],
        "neuron": [(cost.neuron_update.at(level), work.updates)],
        "spike": [(cost.spike_out.at(level), work.spikes)],
        "hops": [
            (cost.message_out.at(level), work.messages_out),
            (cost.message_in.at(level), work.messages_in),
            (cost.hop_x.at(level), work.hops_x),
            (cost.hop_y.at(level), work.hops_y),
        ],
    }
    return {
        name: np.sum([price * events.sum(axis=1) for price, events in each], axis=0)
        for name, each in parts.items()
    }
