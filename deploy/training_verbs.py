"""The verbs that train: train, convert, finetune. Each loads, calls one function, writes, says."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from spikeship.deploy import ann as anns
from spikeship.deploy.check import DeployError
from spikeship.deploy.console import DONE, Voice, check_writable
from spikeship.deploy.inputs import CALIBRATION, Images, of_set
from spikeship.training import data as datasets
from spikeship.training.checkpoint import save_ann
from spikeship.training.convert import convert as convert_network
from spikeship.training.data import DataSet
from spikeship.training.encoding import Encoding
from spikeship.training.from_nir import from_nir, read_nir
from spikeship.training.loop import FitConfig, ann_config, evaluate_ann, train_ann
from spikeship.training.models import build
from spikeship.training.observe import evaluate
from spikeship.training.stdb import finetune as finetune_network
from spikeship.training.stdb import stdb_config
from spikeship.training.surrogates import SurrogateName
from spikeship.training.to_nir import to_nir, write_nir

REPORTED = 1000
Where = Literal["cpu", "cuda", "auto"]


def _labelled(dataset: DataSet, limit: int | None, like: dict[str, Any] | None = None) -> Images:
    images = of_set(dataset, split="train", limit=limit, like=like)
    if images.labels is None:
        raise datasets.DataError(
            f"{dataset.name}: its training images have no labels; give y_train"
        )
    return images


def _state(output: Path) -> Path:
    """Where an interruptible run keeps its state: beside what it will write."""
    return output.with_name(f"{output.name}.state")


def train(
    voice: Voice,
    arch: str,
    data: str,
    data_dir: Path | None,
    epochs: int | None,
    output: Path,
    limit: int | None,
    seed: int,
    device: str,
) -> int:
    """Train a classifier and write it."""
    check_writable(output)
    dataset = _limited(datasets.load(data, data_dir), limit)
    torch.manual_seed(seed)
    model = build(arch, dataset.input_shape, dataset.classes)
    changes: dict[str, Any] = {"seed": seed, "device": cast(Where, device)}
    if epochs is not None:
        changes["epochs"] = epochs
    config = ann_config(dataset.input_shape, **changes)
    state = _state(output)
    history = train_ann(model, dataset, config, state_path=state, quiet=voice.quiet)
    data_object = {"name": dataset.name, "mean": list(dataset.mean), "std": list(dataset.std)}
    save_ann(
        output,
        model,
        arch=arch,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        data=data_object,
        provenance=_said(config),
    )
    state.unlink(missing_ok=True)
    said = {"output": str(output), "epochs": len(history)}
    return _told(
        voice,
        said | {"train_accuracy": history[-1].accuracy},
        None if dataset.test is None else of_set(dataset),
        lambda held_out: evaluate_ann(model, held_out.values),
    )


def _told(
    voice: Voice,
    said: dict[str, Any],
    held_out: Images | None,
    predict: Callable[[Images], Tensor],
) -> int:
    """Finish a training verb: accuracy on held-out images, where there are any with labels."""
    said |= {"accuracy": None, "images": 0, "correct": None}
    if held_out is not None and held_out.labels is not None:
        count, correct = len(held_out.values), held_out.correct(predict(held_out).numpy())
        assert correct is not None  # the labels are there
        said |= {"accuracy": correct / count, "images": count, "correct": correct}
        voice.say(f"{said['output']}: {correct / count:.2%} of {count} test images")
    voice.result(said)
    return DONE


def _limited(dataset: DataSet, limit: int | None) -> DataSet:
    """Keep the first ``limit`` images of each split."""
    if limit is None:
        return dataset

    def cut(split: datasets.Split | None) -> datasets.Split | None:
        if split is None:
            return None
        labels = None if split.labels is None else split.labels[:limit]
        return datasets.Split(split.images[:limit], labels)

    return DataSet(
        dataset.name,
        cut(dataset.train),
        cut(dataset.test),
        dataset.classes,
        dataset.mean,
        dataset.std,
    )


def _said(config: FitConfig) -> dict[str, Any]:
    return {key: value for key, value in asdict(config).items() if key != "device"}


@dataclass(frozen=True)
class Conversion:
    """What convert was asked for."""

    ann: Path | None
    arch: str | None
    weights: Path | None
    num_steps: int
    balance: str
    factor: float | None
    encoding: str
    mean: str | None
    std: str | None


def convert(
    voice: Voice,
    request: Conversion,
    data: str,
    data_dir: Path | None,
    output: Path,
    limit: int | None,
    seed: int,
    device: str,
) -> int:
    """Convert a classifier and write the spiking network."""
    check_writable(output)
    dataset = datasets.load(data, data_dir)
    ann = anns.load(
        request.ann,
        arch=request.arch,
        weights=request.weights,
        input_shape=dataset.input_shape,
    )
    like = dict(ann.data) | _statistics(request)
    images = of_set(
        dataset, split="train", limit=limit, like=like, input_shape=ann.network.input_shape
    )
    options: dict[str, Any] = {} if request.factor is None else {"factor": request.factor}
    snn = convert_network(
        ann.network,
        images.values[:CALIBRATION],
        num_steps=request.num_steps,
        encoding=cast(Encoding, request.encoding),
        peak=float(images.values.abs().max()),
        balance=request.balance,
        seed=seed,
        data=images.data,
        provenance=dict(ann.provenance),
        **options,
    )
    write_nir(output, to_nir(snn))
    thresholds = {name: float(neuron.threshold.max()) for name, neuron in snn.neurons.items()}
    voice.say(f"{output}: {len(thresholds)} neuron layers, T = {snn.num_steps}")
    voice.result(
        {
            "output": str(output),
            "num_steps": snn.num_steps,
            "encoding": request.encoding,
            "thresholds": thresholds,
        }
    )
    return DONE


def _statistics(request: Conversion) -> dict[str, list[float]]:
    found = {}
    for name, text in (("mean", request.mean), ("std", request.std)):
        if text is not None:
            try:
                found[name] = [float(part) for part in text.split(",")]
            except ValueError:
                raise DeployError(f"--{name}: {text!r} is not numbers between commas") from None
    if min(found.get("std", [1.0])) <= 0:
        raise DeployError("--std: must be positive for every channel")
    return found


@dataclass(frozen=True)
class Tuning:
    """What finetune was asked for."""

    snn: Path
    method: str
    surrogate: str
    num_steps: int | None
    epochs: int | None
    learning_rate: float | None


def finetune(
    voice: Voice,
    request: Tuning,
    data: str,
    data_dir: Path | None,
    output: Path,
    limit: int | None,
    seed: int,
    device: str,
) -> int:
    """Fine-tune a spiking network and write it."""
    check_writable(output)
    if request.method != "stdb":
        raise DeployError(f"--method: {request.method!r} is unknown; stdb is the one there is")
    snn = from_nir(read_nir(request.snn))
    dataset = datasets.load(data, data_dir)
    images = _labelled(dataset, limit, snn.data)
    if tuple(images.values.shape[1:]) != snn.network.input_shape:
        raise datasets.DataError(
            f"{dataset.name}: its images have shape {tuple(images.values.shape[1:])}, the network "
            f"takes {snn.network.input_shape}; use the set it was trained for"
        )
    last = snn.network[snn.network.output].module
    assert images.labels is not None  # _labelled saw to it
    if isinstance(last, nn.Linear) and images.labels.max() >= last.out_features:
        raise datasets.DataError(
            f"{dataset.name}: has labels up to {images.labels.max()}, the network "
            f"{last.out_features} classes; use the set it was trained for"
        )
    changes: dict[str, Any] = {"seed": seed, "device": cast(Where, device)}
    if request.epochs is not None:
        changes["epochs"] = request.epochs
    if request.learning_rate is not None:
        changes["learning_rate"] = request.learning_rate
    surrogate = cast(SurrogateName, request.surrogate)
    config = stdb_config(snn.network.input_shape, surrogate, **changes)
    state = _state(output)
    tuned, history = finetune_network(
        snn,
        lambda indices: images.values[indices],
        torch.from_numpy(images.labels),
        config,
        num_steps=request.num_steps,
        surrogate_name=surrogate,
        state_path=state,
        quiet=voice.quiet,
    )
    tuned.provenance = {**tuned.provenance, "stdb": _said(config)}
    write_nir(output, to_nir(tuned))
    state.unlink(missing_ok=True)
    few = min(limit or REPORTED, REPORTED)
    said = {"output": str(output), "num_steps": tuned.num_steps, "epochs": len(history)}
    return _told(
        voice,
        said | {"train_accuracy": history[-1].accuracy},
        None if dataset.test is None else of_set(dataset, limit=few, like=snn.data),
        lambda held_out: evaluate(
            tuned, held_out.values, seed=seed, indices=held_out.indices
        ).argmax(1),
    )
