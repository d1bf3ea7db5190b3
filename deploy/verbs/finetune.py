"""The verb finetune: a spiking network trained on, in real numbers or in a chip's integers."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from spikeship.deploy.compiler.quantize import quantize, training_room
from spikeship.deploy.errors import DeployError
from spikeship.deploy.io import classifier as anns
from spikeship.deploy.io.inputs import of_set
from spikeship.deploy.verbs.console import Voice, check_writable
from spikeship.deploy.verbs.fitting import Fitting, Source, finish, labels_of, state_beside
from spikeship.training.data import load as datasets
from spikeship.training.data.augment import training_images
from spikeship.training.data.load import DataSet
from spikeship.training.finetuning.stdb import finetune as finetune_network
from spikeship.training.finetuning.stdb import stdb_config
from spikeship.training.finetuning.tuning import Tuning
from spikeship.training.fit.processes import is_first, pick
from spikeship.training.frontends.pools import MaxPool
from spikeship.training.nir_io.from_nir import from_nir, read_nir
from spikeship.training.nir_io.to_nir import to_nir, write_nir
from spikeship.training.quantization.qat import AwareNetwork, quantization_aware
from spikeship.training.snn.observe import evaluate
from spikeship.training.snn.spiking_network import SpikingNetwork
from spikeship.training.snn.surrogates import SurrogateName

REPORTED = 1000
DEFAULT_CHIP = "loihi2"


@dataclass(frozen=True)
class Request:
    """What finetune was asked for.

    Attributes:
        snn: file of the network.
        method: ``stdb``.
        surrogate: slope of the backward pass.
        num_steps: T; None for the network's own.
        tuning: the options of ``stdb.finetune``.
        teacher: file of the ANN that distillation draws to.
        max_pool: what becomes of the teacher's max pools.
        weight_bits: compute with the chip's integers of so many bits; None for real numbers.
        chip: that chip; None for Loihi 2.
        checkpointing: compute potentials again in the backward pass instead of keeping them.
    """

    snn: Path
    method: str
    surrogate: SurrogateName
    num_steps: int | None
    tuning: Tuning
    teacher: Path | None
    max_pool: MaxPool
    weight_bits: int | None
    chip: str | None
    checkpointing: bool


def finetune(voice: Voice, request: Request, source: Source, fitting: Fitting, output: Path) -> int:
    """Fine-tune a spiking network and write it."""
    check_writable(output)
    if request.chip is not None and request.weight_bits is None:
        raise DeployError("--chip: has no meaning without --weight-bits; leave it out")
    if request.weight_bits is not None and fitting.precision != "32-true":
        raise DeployError("--precision: integers need float32; leave it out, or --weight-bits")
    if request.method != "stdb":
        raise DeployError(f"--method: {request.method!r} is unknown; stdb is the one there is")
    snn = from_nir(read_nir(request.snn))
    encoding = snn.coding.encoding
    dataset = source.load(
        messages=encoding == "spikes", validation=fitting.validation, seed=fitting.seed
    )
    labels = labels_of(dataset, "train")
    _check(dataset, labels, snn)
    config = stdb_config(snn.network.input_shape, request.surrogate, **fitting.changes())
    if request.weight_bits is not None:
        # one that computes in integers already may be meant for others now
        real = snn.rounded() if isinstance(snn, AwareNetwork) else snn
        fixed = quantize(
            to_nir(real),
            chip=request.chip or DEFAULT_CHIP,
            weight_bits=request.weight_bits,
            headroom=training_room(request.weight_bits),
        )
        snn = quantization_aware(real, fixed)
    snn.checkpointing = request.checkpointing

    mean, std = (snn.data.get(key) or getattr(dataset, key) for key in ("mean", "std"))
    messages = of_set(dataset, split="train").source(encoding) if encoding == "spikes" else None

    def images_of(indices: Tensor) -> Tensor:
        if messages is not None:
            return messages[indices]
        device = pick(fitting.device)
        return training_images(dataset, indices, mean=mean, std=std, device=device)

    kept = None
    if fitting.validation:
        chosen = of_set(dataset, split="validation", like=snn.data)
        kept = chosen.source(encoding)[:], labels_of(dataset, "validation")
    state = state_beside(output)
    tuned, history = finetune_network(
        snn,
        images_of,
        labels,
        config,
        num_steps=request.num_steps,
        surrogate_name=request.surrogate,
        tuning=request.tuning,
        teacher=_teacher(request, snn),
        validation=kept,
        state_path=state,
        quiet=voice.quiet,
    )
    if is_first():
        tuned.provenance = {
            **tuned.provenance,
            "stdb": config.recipe() | asdict(request.tuning) | {"surrogate": request.surrogate},
        }
        graph = to_nir(tuned)
        write_nir(output, graph)
        if request.weight_bits is not None:
            # what the chip cannot hold is said now, not by the next verb
            for note in quantize(graph, chip=request.chip or DEFAULT_CHIP).metadata["notes"]:
                voice.say(note)
        state.unlink(missing_ok=True)
    said: dict[str, Any] = {
        "output": str(output),
        "num_steps": tuned.num_steps,
        "epochs": len(history),
        "train_accuracy": history[-1].accuracy,
        "validation_accuracy": history[-1].validation,
    }
    few = min(source.limit or REPORTED, REPORTED)
    held_out = None if dataset.test is None else of_set(dataset, limit=few, like=dict(snn.data))
    return finish(
        voice,
        said,
        held_out,
        lambda held: evaluate(
            tuned, held.source(encoding), seed=fitting.seed, indices=held.indices
        ).argmax(1),
    )


def _teacher(request: Request, snn: SpikingNetwork) -> nn.Module | None:
    """Read the teacher, which must take images normalised as the network's."""
    if request.teacher is None:
        return None
    ann = anns.load(request.teacher, max_pool=request.max_pool)
    for key in ("mean", "std"):
        own, its = snn.data.get(key), ann.data.get(key)
        if own is not None and its is not None and list(own) != list(its):
            raise DeployError(
                f"{request.teacher}: takes images of {key} {its}, the network of {own}; give the "
                "classifier that was converted"
            )
    return ann.network


def _check(dataset: DataSet, labels: Tensor, snn: SpikingNetwork) -> None:
    """Refuse a set that the network was not made for."""
    name, shape = dataset.name, dataset.input_shape
    if shape != snn.network.input_shape:
        raise datasets.DataError(
            f"{name}: its images have shape {shape}, the network takes "
            f"{snn.network.input_shape}; use the set it was trained for"
        )
    last = snn.network[snn.network.output].module
    if isinstance(last, nn.Linear) and labels.max() >= last.out_features:
        raise datasets.DataError(
            f"{name}: has labels up to {labels.max()}, the network "
            f"{last.out_features} classes; use the set it was trained for"
        )
