"""Making networks: train, convert, finetune, quantize."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from spikeship.deploy.api.given import Classifier, Spiking, classifier_of, spiking_of
from spikeship.deploy.api.sources import Data, File, set_of
from spikeship.deploy.importers import IMPORTERS
from spikeship.deploy.options.convert import ConvertOptions
from spikeship.deploy.options.declare import filled
from spikeship.deploy.options.finetune import FinetuneOptions
from spikeship.deploy.options.quantize import QuantizeOptions
from spikeship.deploy.options.train import TrainOptions
from spikeship.deploy.pipeline import convert as converting
from spikeship.deploy.pipeline import finetune as tuning
from spikeship.deploy.pipeline import quantize as quantizing
from spikeship.deploy.pipeline import train as training
from spikeship.deploy.pipeline.finetune import Tuned
from spikeship.deploy.pipeline.imported import imported
from spikeship.deploy.pipeline.train import Trained
from spikeship.hw_models.graph import FixedGraph
from spikeship.training.choices import Device
from spikeship.training.snn.spiking_network import SpikingNetwork


def train(
    arch: str | nn.Module,
    data: Data,
    *,
    seed: int = 0,
    device: Device = "auto",
    state: File | None = None,
    quiet: bool = True,
    **options: Any,
) -> Trained:
    """Train a classifier.

    Args:
        arch: such as ``resnet20-small``; or a module of your own, which is trained in place.
        data: with training images.
        seed: of everything random.
        device: where.
        quiet: no progress bar.
        state: file that an interrupted run goes on from.
        **options: of the verb ``train``, such as ``epochs=30``.

    Raises:
        SpikeshipError: an option, a set or a state that cannot be used.
    """
    given = filled(TrainOptions, "train", options, without=("test",))
    dataset = set_of(data, validation=given.validation, seed=seed)
    path = None if state is None else Path(state)
    return training.train(arch, dataset, given, seed=seed, device=device, state=path, quiet=quiet)


def convert(
    ann: Classifier,
    data: Data,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    device: Device = "auto",
    **options: Any,
) -> SpikingNetwork:
    """Turn a classifier into a spiking network.

    Its ``provenance["conversion"]`` says what both get right on training images put aside, and
    what each layer's spikes do not say of its activations.

    Args:
        ann: the classifier, its module, or its file.
        data: what it was trained on.
        mean: of each channel, where the classifier was normalised otherwise than the set.
        std: standard deviation, in the same form.
        seed: of the encoding.
        device: where.
        **options: of the verb ``convert``, such as ``num_steps=16``.

    Raises:
        SpikeshipError: an option, a network or a set that cannot be used.
    """
    given = filled(ConvertOptions, "convert", options)
    dataset = set_of(data, messages=given.encoding == "spikes")
    found = classifier_of(ann, dataset, given.max_pool)
    statistics = {
        name: [float(value) for value in values]
        for name, values in (("mean", mean), ("std", std))
        if values is not None
    }
    made = converting.convert(
        found, dataset, given, statistics=statistics, seed=seed, device=device
    )
    return made.snn


def finetune(
    snn: Spiking,
    data: Data,
    *,
    seed: int = 0,
    device: Device = "auto",
    state: File | None = None,
    quiet: bool = True,
    **options: Any,
) -> Tuned:
    """Fine-tune a spiking network with spike-timing dependent backpropagation.

    Args:
        snn: the network or its file; it stays as it is.
        data: with labelled training images.
        seed: of everything random.
        device: where.
        quiet: no progress bar.
        state: file that an interrupted run goes on from.
        **options: of the verb ``finetune``, such as ``epochs=1``.

    Raises:
        SpikeshipError: an option, a network or a set that cannot be used.
    """
    given, network = filled(FinetuneOptions, "finetune", options), spiking_of(snn)
    dataset = set_of(
        data,
        messages=network.coding.encoding == "spikes",
        validation=given.validation,
        seed=seed,
    )
    path = None if state is None else Path(state)
    return tuning.finetune(
        network, dataset, given, seed=seed, device=device, state=path, quiet=quiet
    )


def quantize(
    snn: Spiking,
    *,
    data: Data | None = None,
    limit: int | None = None,
    seed: int = 0,
    **options: Any,
) -> FixedGraph:
    """Turn a spiking network into a chip's integers.

    Args:
        snn: the network or its file; a ``.net`` file holds integers already.
        data: observe each layer's sums on its training images.
        limit: so many of them.
        seed: of the encoding.
        **options: of the verb ``quantize``, such as ``weight_bits=8``.

    Raises:
        SpikeshipError: an option, a network or a set that cannot be used.
    """
    given = filled(QuantizeOptions, "quantize", options)
    if isinstance(snn, str | Path) and Path(snn).suffix in IMPORTERS:
        return imported(Path(snn), given, has_data=data is not None)
    network = spiking_of(snn)
    messages = network.coding.encoding == "spikes"
    dataset = None if data is None else set_of(data, messages=messages)
    return quantizing.quantize(network, given, dataset=dataset, limit=limit, seed=seed)
