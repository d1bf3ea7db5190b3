"""Named energy models: what papers and packages would say of the same counts.

None of them is calibrated here; each reproduces a published way to count and price, so that a
column of a paper can be had and set beside the chip's own: ``estimate`` maps a network to cores.
"""

from spikeship.hw_models.energy_models.davies import Davies
from spikeship.hw_models.energy_models.horowitz import FORMATS, Horowitz
from spikeship.hw_models.energy_models.keras_spiking import DEVICES, KerasSpiking
from spikeship.hw_models.energy_models.lemaire import Lemaire
from spikeship.hw_models.energy_models.model import EnergyModel, LayerEnergy, ModelEnergy
from spikeship.hw_models.energy_models.sanafe import SanaFe
from spikeship.hw_models.energy_models.yan import Yan, break_even_rate
from spikeship.hw_models.errors import InputError
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.graph import FixedGraph

__all__ = [
    "MODELS",
    "EnergyModel",
    "LayerEnergy",
    "ModelEnergy",
    "all_models",
    "break_even_rate",
    "get",
]

_MODELS: tuple[EnergyModel, ...] = (
    Davies(),
    SanaFe(),
    *(KerasSpiking(device) for device in DEVICES),
    *(Horowitz(number_format) for number_format in FORMATS),
    Lemaire(),
    Yan(),
)
# a new model is a file here and a row
MODELS: dict[str, EnergyModel] = {model.name: model for model in _MODELS}


def get(name: str) -> EnergyModel:
    """Return the model of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in MODELS:
        raise InputError(f"energy model {name!r} is unknown; choose one of {', '.join(MODELS)}")
    return MODELS[name]


def all_models(graph: FixedGraph, counts: EventCounts) -> tuple[ModelEnergy, ...]:
    """What every model says of one network, in the registry's order.

    Raises:
        CountError: the counts are of another graph.
    """
    return tuple(model.energy(graph, counts) for model in MODELS.values())
