"""Python's interface, ``import spikeship as ss``: the verbs as functions.

Each takes what the command line takes, as keyword arguments of the same names, with the same
defaults, and calls the same code. Networks may be objects or files, data sets objects or names,
paths strings.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import nir
from numpy.typing import NDArray
from torch import nn

from spikeship.deploy.analysis import compare as comparing
from spikeship.deploy.analysis import what_if as varying
from spikeship.deploy.analysis.compare import Comparison, Stages
from spikeship.deploy.analysis.references import gpu_rows
from spikeship.deploy.analysis.what_if_result import WhatIf
from spikeship.deploy.errors import DeployError
from spikeship.deploy.export import export_to
from spikeship.deploy.importers import IMPORTERS
from spikeship.deploy.io import classifier, network_file, sets
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import CALIBRATION, Images, messages_of, of_set_for
from spikeship.deploy.io.own_inputs import read_own
from spikeship.deploy.options.convert import ConvertOptions
from spikeship.deploy.options.declare import OptionError, filled
from spikeship.deploy.options.estimate import EstimateOptions, WhatIfOptions
from spikeship.deploy.options.finetune import FinetuneOptions
from spikeship.deploy.options.quantize import QuantizeOptions
from spikeship.deploy.options.shared import for_integers
from spikeship.deploy.options.simulate import SimulateOptions, VerifyOptions
from spikeship.deploy.options.train import TrainOptions
from spikeship.deploy.pipeline import convert as converting
from spikeship.deploy.pipeline import estimate as estimating
from spikeship.deploy.pipeline import finetune as tuning
from spikeship.deploy.pipeline import predict as predicting
from spikeship.deploy.pipeline import quantize as quantizing
from spikeship.deploy.pipeline import train as training
from spikeship.deploy.pipeline import verify as verifying
from spikeship.deploy.pipeline.finetune import Tuned
from spikeship.deploy.pipeline.imported import imported
from spikeship.deploy.pipeline.train import Trained
from spikeship.deploy.run import simulation
from spikeship.deploy.run.evaluate import Running
from spikeship.deploy.run.simulation import Simulation
from spikeship.deploy.run.verify import Verification
from spikeship.deploy.validation import validate as validation
from spikeship.deploy.validation.rows import read_rows
from spikeship.hw_models.estimate import Estimate
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.placement import Rules
from spikeship.hw_models.simulator.stream import Stream
from spikeship.training.choices import Device, MaxPool
from spikeship.training.data.load import DataSet
from spikeship.training.frontends.trace import trace as trace_module
from spikeship.training.nir_io.from_nir import from_nir, read_nir
from spikeship.training.nir_io.to_nir import to_nir, write_nir
from spikeship.training.snn.spiking_network import SpikingNetwork

File: TypeAlias = str | Path
Data: TypeAlias = str | DataSet
Classifier: TypeAlias = File | Ann | Trained | nn.Module
Spiking: TypeAlias = File | SpikingNetwork | Tuned | nir.NIRGraph
Integers: TypeAlias = File | FixedGraph


def load_data(
    name: str,
    data_dir: File | None = None,
    *,
    limit: int | None = None,
    messages: bool = False,
    validation: int = 0,
    seed: int = 0,
) -> DataSet:
    """Read a data set by name; nothing is downloaded.

    Args:
        name: digits, mnist, fashion-mnist, cifar10, cifar100, imagefolder, n-mnist[:T], npz:FILE,
            or package.module:function.
        data_dir: its folder; None for $SPIKESHIP_DATA.
        limit: only the first so many images of each split.
        messages: take arrays for messages over time.
        validation: training images put aside to choose by.
        seed: which.

    Raises:
        SpikeshipError: an unknown name, or files that are missing or damaged.
    """
    return sets.load_data(
        name, data_dir, limit=limit, messages=messages, validation=validation, seed=seed
    )


def load_ann(
    file: File,
    *,
    weights: File | None = None,
    input_shape: Sequence[int] | None = None,
    max_pool: MaxPool = "refuse",
) -> Ann:
    """Read a trained classifier.

    Args:
        file: ``.safetensors`` written by Spikeship, ``.onnx``, or ``package.module:factory``.
        weights: state dict of the factory's module, read with ``weights_only``.
        input_shape: of one image, for a factory.
        max_pool: refuse max pools, or put an average in the place of each.

    Raises:
        SpikeshipError: it cannot be read, or has layers without a spiking form.
    """
    made = ":" in str(file) and not Path(file).exists()
    return classifier.load(
        None if made else Path(file),
        arch=str(file) if made else None,
        weights=None if weights is None else Path(weights),
        input_shape=input_shape,
        max_pool=max_pool,
    )


def trace(module: nn.Module, data: Data | Sequence[int], *, max_pool: MaxPool = "refuse") -> Ann:
    """Take a trained module as it is.

    Args:
        module: feed-forward; see the documentation for what it may be made of.
        data: what it was trained on, or the shape of one image.
        max_pool: refuse max pools, or put an average in the place of each.

    Raises:
        SpikeshipError: a layer without a spiking form, by its path.
    """
    dataset = _set(data) if isinstance(data, str | DataSet) else None
    shape = data if dataset is None else dataset.input_shape
    known: dict[str, Any] = {}
    if dataset is not None:
        known = {"name": dataset.name, "mean": list(dataset.mean), "std": list(dataset.std)}
    network = trace_module(module.eval(), shape, max_pool=max_pool)  # type: ignore[arg-type]
    return Ann(network, known, {"module": type(module).__name__})


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
    dataset = _set(data, validation=given.validation, seed=seed)
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
    """Turn a classifier into a spiking network by balancing thresholds.

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
    dataset = _set(data, messages=given.encoding == "spikes")
    found = _classifier(ann, dataset, given.max_pool)
    statistics = {
        name: [float(value) for value in values]
        for name, values in (("mean", mean), ("std", std))
        if values is not None
    }
    return converting.convert(
        found, dataset, given, statistics=statistics, seed=seed, device=device
    )


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
    given, network = filled(FinetuneOptions, "finetune", options), _spiking(snn)
    dataset = _set(
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
    network = _spiking(snn)
    messages = network.coding.encoding == "spikes"
    dataset = None if data is None else _set(data, messages=messages)
    return quantizing.quantize(network, given, dataset=dataset, limit=limit, seed=seed)


def verify(
    net: Integers, data: Data | None = None, *, limit: int = 1, seed: int = 0, **options: Any
) -> Verification:
    """Compare every spike of every layer with real Lava, or with the reference.

    Args:
        net: the quantized network or its file.
        data: run its test images; None for random messages of the network's kind.
        limit: how many images.
        seed: of the encoding or the messages.
        **options: of the verb ``verify``, such as ``against="reference"``.

    Raises:
        SpikeshipError: images that do not fit, or Lava did not finish.
    """
    graph, given = _integers(net), filled(VerifyOptions, "verify", options)
    found = None if data is None else _images(graph, data, limit)
    return verifying.verify(graph, given, images=found, count=limit, seed=seed)


def simulate(
    net: Integers,
    data: Data,
    *,
    limit: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    **options: Any,
) -> Simulation:
    """Run a network in integers: accuracy and counts.

    Args:
        net: the quantized network or its file.
        data: its test images are run.
        limit: only the first so many.
        seed: of the encoding.
        device: the CPU unless ``cuda``.
        **options: of the verb ``simulate``, such as ``record="spikes.npz"``.

    Raises:
        SpikeshipError: options or images that cannot be used.
    """
    graph = _integers(net)
    given = filled(SimulateOptions, "simulate", options)
    images = _images(graph, data, limit)
    return simulation.simulate(graph, images, given, seed=seed, device=device)


def predict(
    net: Integers,
    source: File,
    *,
    limit: int | None = None,
    seed: int = 0,
    device: Device = "auto",
) -> list[predicting.Prediction]:
    """Say class and margin of your own inputs.

    Args:
        net: the quantized network or its file.
        source: a picture, or an ``.npz`` file of images.
        limit: only the first so many.
        seed: of the encoding.
        device: the CPU unless ``cuda``.

    Raises:
        SpikeshipError: it cannot be read, or has another shape.
    """
    graph = _integers(net)
    images = read_own(Path(source), graph, limit)
    return predicting.predict(graph, images, seed=seed, device=for_integers(device))


def estimate(
    net: Integers,
    data: Data,
    *,
    limit: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    **options: Any,
) -> Estimate:
    """Estimate synaptic operations, cycles, latency, energy and cores on a chip.

    Args:
        net: the quantized network or its file.
        data: its test images are run.
        limit: only the first so many.
        seed: of the encoding.
        device: the CPU unless ``cuda``.
        **options: of the verb ``estimate``, such as ``chip="loihi1"``.

    Raises:
        SpikeshipError: an option or images that cannot be used.
    """
    graph = _integers(net)
    given = filled(EstimateOptions, "estimate", options, without=("placement", "picture", "models"))
    images = _images(graph, data, limit)
    on = for_integers(device)
    return estimating.estimate(graph, images, given, seed=seed, device=on).estimate


def what_if(
    net: Integers,
    data: Data,
    *,
    snn: Spiking | None = None,
    ann: Classifier | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    **options: Any,
) -> WhatIf:
    """Estimate energy, latency and cores against T, weight bits, firing rate and chip.

    Args:
        net: the quantized network or its file.
        data: its test images are run.
        snn: the network it was quantized from, quantized again at each width.
        ann: the classifier, for the GPU's row.
        limit: only the first so many images.
        seed: of the encoding.
        device: the CPU unless ``cuda``.
        **options: of the verb ``what-if``, such as ``steps=[4, 8]``.

    Raises:
        SpikeshipError: nothing to vary, or images that cannot be used.
    """
    graph = _integers(net)
    listed = {name: _listed(value) for name, value in options.items()}
    given = _what_if_options(listed)
    images = _images(graph, data, limit)
    question = varying.Question(**given.values(), rules=Rules(given.axons, given.kernels))
    known = None if ann is None else _classifier(ann, _set(data), "refuse")
    gpu = gpu_rows(
        graph, images, ann=known, result=given.gpu_result, utilisation=given.gpu_utilisation
    )
    return varying.what_if(
        graph,
        images,
        question,
        gpu,
        seed=seed,
        network=None if snn is None else to_nir(_spiking(snn)),
        running=Running(device=for_integers(device)),
    )


def compare(
    ann: Classifier,
    net: Integers,
    data: Data,
    *,
    converted: Spiking | None = None,
    tuned: Spiking | None = None,
    report: File | None = None,
    chip: str = "loihi2",
    lava: int = 0,
    int8: bool = False,
    gpu_result: File | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Put every stage's accuracy, the chip's estimate and the GPU's row side by side.

    Args:
        ann: the classifier.
        net: its integers.
        data: its test images are run.
        converted: the spiking network before fine-tuning.
        tuned: the one after.
        report: HTML file to write.
        chip: for the estimate.
        lava: images to run on Lava too.
        int8: a row of the classifier in int8 on ONNX Runtime.
        gpu_result: GPU's row as benchmarks/gpu_reference.py measured it.
        limit: only the first so many images.
        seed: of the encoding.

    Raises:
        SpikeshipError: stages of different networks, or images that do not fit.
    """
    graph = _integers(net)
    images = _images(graph, data, limit)
    stages = Stages(
        ann=_classifier(ann, _set(data), "refuse"),
        graph=graph,
        converted=None if converted is None else _spiking(converted),
        hybrid=None if tuned is None else _spiking(tuned),
        chip=chip,
        lava_images=lava,
        calibration=_images(graph, data, CALIBRATION, "train") if int8 else None,
        gpu_result=None if gpu_result is None else Path(gpu_result),
    )
    found = comparing.compare(stages, images, seed=seed)
    if report is not None:
        found.result["report"] = found.write(Path(report))["report"]
    return found


def validate(*, rows: File | None = None) -> dict[str, Any]:
    """Compare estimates with what others measured on chips.

    Args:
        rows: JSON file of rows of your own; docs/validation.md has the format.

    Returns:
        The JSON object of the verb ``validate``.

    Raises:
        SpikeshipError: rows that cannot be read.
    """
    found, _ = validation.compared(() if rows is None else read_rows(Path(rows)))
    return found


def messages(net: Integers, data: Data, *, limit: int | None = None, seed: int = 0) -> NDArray[Any]:
    """Encode a set's test images as a network takes them.

    Args:
        net: the quantized network or its file.
        data: the set.
        limit: only the first so many images.
        seed: of the encoding.

    Returns:
        Whole numbers, shape (images, T, *input shape).

    Raises:
        SpikeshipError: images that do not fit.
    """
    graph = _integers(net)
    return messages_of(graph, _images(graph, data, limit), seed=seed)


def stream(net: Integers, *, images: int = 1) -> Stream:
    """Run a network on messages that come a few steps at a time, as from a sensor.

    Args:
        net: the quantized network or its file.
        images: how many run side by side.

    Returns:
        A stream; ``feed`` takes messages (images, steps, *input shape) and gives the scores after
        each step.
    """
    return Stream(_integers(net), images=images)


def export(net: Integers, path: File, to: str = "lava") -> Path:
    """Write a quantized network for others.

    Args:
        net: the network or its file.
        path: file or folder to write.
        to: a row of ``deploy.export.EXPORTERS``.

    Raises:
        SpikeshipError: there is no such row, or the place cannot be written.
    """
    return export_to(to, _integers(net), Path(path)).path


def load(path: File) -> Ann | SpikingNetwork | FixedGraph:
    """Read a network of any stage: a classifier, a spiking network or integers.

    Args:
        path: ``.safetensors``, ``.onnx``, ``.nir`` or ``.net``.

    Raises:
        SpikeshipError: it cannot be read.
    """
    path = Path(path)
    if path.suffix == ".nir":
        return _spiking(path)
    if path.suffix in IMPORTERS:
        return _integers(path)
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
            write_nir(path, to_nir(_spiking(network)))
        case FixedGraph():
            network_file.save(network, path)
        case _:
            raise DeployError(
                f"save: a {type(network).__name__} has no file of its own; save what it became"
            )
    return path


def _set(data: Data, **how: Any) -> DataSet:
    return data if isinstance(data, DataSet) else sets.load_data(data, **how)


def _classifier(ann: Classifier, dataset: DataSet, max_pool: MaxPool) -> Ann:
    match ann:
        case Ann():
            return ann
        case Trained():
            return ann.ann
        case nn.Module():
            return trace(ann, dataset, max_pool=max_pool)
    return load_ann(ann, input_shape=dataset.input_shape, max_pool=max_pool)


def _spiking(snn: Spiking) -> SpikingNetwork:
    match snn:
        case SpikingNetwork():
            return snn
        case Tuned():
            return snn.snn
        case nir.NIRGraph():
            return from_nir(snn)
    return from_nir(read_nir(Path(snn)))


def _integers(net: Integers) -> FixedGraph:
    if isinstance(net, FixedGraph):
        return net
    path = Path(net)
    if path.suffix in IMPORTERS:
        return imported(path, QuantizeOptions())
    return network_file.load(path)


def _images(
    graph: FixedGraph,
    data: Data,
    limit: int | None = None,
    split: Literal["train", "test"] = "test",
) -> Images:
    dataset = _set(data, messages=graph.input.encoding == "spikes")
    return of_set_for(graph, dataset, limit, split=split)


def _listed(value: Any) -> Any:
    """Numbers as the command line takes them: between commas."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(str(each) for each in value)
    return value


def _what_if_options(given: Mapping[str, Any]) -> WhatIfOptions:
    """Options of what-if; nothing is written, so there is no folder to name."""
    if "output" in given:
        raise OptionError("what_if: has no option 'output'; write what it returns")
    return filled(WhatIfOptions, "what_if", {**given, "output": Path()})
