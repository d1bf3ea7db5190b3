"""Reading and writing networks of every stage."""

from pathlib import Path

from spikeship.deploy.api.given import Integers, integers_of, spiking_of
from spikeship.deploy.api.sources import File
from spikeship.deploy.errors import DeployError
from spikeship.deploy.export import export_to
from spikeship.deploy.importers import IMPORTERS
from spikeship.deploy.io import classifier, network_file
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.pipeline.finetune import Tuned
from spikeship.deploy.pipeline.train import Trained
from spikeship.hw_models.graph import FixedGraph
from spikeship.training.nir_io.to_nir import to_nir, write_nir
from spikeship.training.snn.spiking_network import SpikingNetwork


def load(path: File) -> Ann | SpikingNetwork | FixedGraph:
    """Read a network of any stage: a classifier, a spiking network or integers.

    Args:
        path: ``.safetensors``, ``.onnx``, ``.nir`` or ``.net``.

    Raises:
        SpikeshipError: it cannot be read.
    """
    path = Path(path)
    if path.suffix == ".nir":
        return spiking_of(path)
    if path.suffix in IMPORTERS:
        return integers_of(path)
    if path.suffix == ".safetensors" and network_file.holds_one(path):
        return network_file.load(path)
    return classifier.load(path)


def save(network: Trained | SpikingNetwork | Tuned | FixedGraph, path: File) -> Path:
    """Write a network that was made here.

    Args:
        network: of any stage.
        path: ``.nir`` for a spiking network, else ``.safetensors``.

    Raises:
        SpikeshipError: something that has no file of its own.
    """
    path = Path(path)
    match network:
        case Trained():
            network.save(path)
        case Tuned() | SpikingNetwork():
            write_nir(path, to_nir(spiking_of(network)))
        case FixedGraph():
            network_file.save(network, path)
        case _:
            raise DeployError(
                f"save: a {type(network).__name__} has no file of its own; save what it became"
            )
    return path


def export(net: Integers, path: File, to: str = "lava") -> Path:
    """Write a quantized network for others.

    Args:
        net: the network or its file.
        path: file or folder to write.
        to: a row of ``deploy.export.EXPORTERS``.

    Raises:
        SpikeshipError: there is no such row, or the place cannot be written.
    """
    return export_to(to, integers_of(net), Path(path)).path
