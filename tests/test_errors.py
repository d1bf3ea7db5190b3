"""Every error that Spikeship raises on purpose has one base."""

import importlib
import pkgutil

import spikeship.deploy
import spikeship.hw_models
import spikeship.training
from spikeship.hw_models.errors import SpikeshipError

# modules that import Lava itself run in a process of their own
ON_LAVA = {"network", "processes", "sigma_delta", "standalone", "worker"}


def test_every_error_is_a_spikeship_error() -> None:
    found = {}
    for floor in (spikeship.hw_models, spikeship.training, spikeship.deploy):
        for module in pkgutil.walk_packages(floor.__path__, f"{floor.__name__}."):
            if ".lava." in module.name and module.name.rpartition(".")[2] in ON_LAVA:
                continue
            for name, value in vars(importlib.import_module(module.name)).items():
                own = isinstance(value, type) and value.__module__.startswith("spikeship.")
                if own and issubclass(value, Exception):
                    found[f"{value.__module__}.{name}"] = value
    assert len({value.__name__ for value in found.values()}) >= 32
    strange = [name for name, value in found.items() if not issubclass(value, SpikeshipError)]
    assert strange == []
