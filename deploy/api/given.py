"""What a caller may give for a network, and how it becomes what is worked on."""

from pathlib import Path
from typing import Literal, TypeAlias

import nir
from torch import nn

from spikeship.deploy.api.sources import Data, File, load_ann, set_of, trace
from spikeship.deploy.importers import IMPORTERS
from spikeship.deploy.io import network_file
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import Images, of_set_for
from spikeship.deploy.options.quantize import QuantizeOptions
from spikeship.deploy.pipeline.finetune import Tuned
from spikeship.deploy.pipeline.imported import imported
from spikeship.deploy.pipeline.train import Trained
from spikeship.hw_models.graph import FixedGraph
from spikeship.training.choices import MaxPool
from spikeship.training.data.load import DataSet
from spikeship.training.nir_io.from_nir import from_nir, load_nir
from spikeship.training.snn.spiking_network import SpikingNetwork

Classifier: TypeAlias = File | Ann | Trained | nn.Module
Spiking: TypeAlias = File | SpikingNetwork | Tuned | nir.NIRGraph
Integers: TypeAlias = File | FixedGraph


def classifier_of(ann: Classifier, dataset: DataSet, max_pool: MaxPool) -> Ann:
    """Take a classifier, trace a module, or read a file."""
    match ann:
        case Ann():
            return ann
        case Trained():
            return ann.ann
        case nn.Module():
            return trace(ann, dataset, max_pool=max_pool)
    return load_ann(ann, input_shape=dataset.input_shape, max_pool=max_pool)


def spiking_of(snn: Spiking) -> SpikingNetwork:
    """Take a spiking network, or read it from a graph or a file."""
    match snn:
        case SpikingNetwork():
            return snn
        case Tuned():
            return snn.snn
        case nir.NIRGraph():
            return from_nir(snn)
    return load_nir(Path(snn))


def integers_of(net: Integers) -> FixedGraph:
    """Take a quantized network, or read it from a file of ours or of another framework."""
    if isinstance(net, FixedGraph):
        return net
    path = Path(net)
    if path.suffix in IMPORTERS:
        return imported(path, QuantizeOptions())
    return network_file.load(path)


def images_of(
    graph: FixedGraph,
    data: Data,
    limit: int | None = None,
    split: Literal["train", "test"] = "test",
) -> Images:
    """Images of a data set as a quantized network takes them."""
    dataset = set_of(data, messages=graph.input.encoding == "spikes")
    return of_set_for(graph, dataset, limit, split=split)
