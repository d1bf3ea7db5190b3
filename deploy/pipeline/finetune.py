"""Fine-tune a spiking network."""

import copy
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import Tensor, nn

from spikeship.deploy.compiler.quantize import quantize as quantize_network
from spikeship.deploy.compiler.quantize import training_room
from spikeship.deploy.errors import DeployError
from spikeship.deploy.io import classifier
from spikeship.deploy.io.inputs import of_set
from spikeship.deploy.io.sets import labels_of
from spikeship.deploy.options.finetune import FinetuneOptions
from spikeship.training.choices import Device
from spikeship.training.data.augment import training_images
from spikeship.training.data.load import DataError, DataSet
from spikeship.training.finetuning.stdb import finetune as finetune_network
from spikeship.training.finetuning.stdb import stdb_config
from spikeship.training.finetuning.tuning import Tuning
from spikeship.training.fit.config import EpochMetrics
from spikeship.training.fit.processes import pick
from spikeship.training.nir_io.to_nir import to_nir
from spikeship.training.quantization.qat import in_real_numbers, quantization_aware
from spikeship.training.snn.spiking_network import SpikingNetwork

DEFAULT_CHIP = "loihi2"


@dataclass(frozen=True, eq=False)
class Tuned:
    """A spiking network that was fine-tuned here.

    Attributes:
        snn: the network.
        history: one entry an epoch.
        notes: what the chip cannot hold of it.
    """

    snn: SpikingNetwork
    history: list[EpochMetrics]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        last = self.history[-1]
        return f"<Tuned {self.snn!r}: {len(self.history)} epochs, {last.accuracy:.2%} in training>"


def finetune(
    snn: SpikingNetwork,
    dataset: DataSet,
    options: FinetuneOptions | None = None,
    *,
    seed: int = 0,
    device: Device = "auto",
    state: Path | None = None,
    quiet: bool = True,
) -> Tuned:
    """Fine-tune a spiking network through time, in real numbers or in a chip's integers.

    Args:
        snn: the network; it stays as it is.
        dataset: with labelled training images; its validation images choose the epoch, where it
            has any.
        options: how.
        seed: of everything random.
        device: where.
        state: file that a run which is interrupted goes on from.
        quiet: no progress bar.

    Raises:
        SpikeshipError: an option, a network or a set that cannot be used.
    """
    options = options or FinetuneOptions()
    check_finetuning(options)
    encoding, data = snn.coding.encoding, snn.data
    labels = labels_of(dataset, "train")
    _check_set(dataset, labels, snn)
    settings = {**options.settings(), "seed": seed, "device": device}
    config = stdb_config(snn.network.input_shape, options.surrogate, **settings)
    tuning = Tuning(**options.tuning())
    if options.weight_bits is not None:
        snn = _in_integers(snn, options)
    if snn.checkpointing != options.checkpointing:
        snn = copy.deepcopy(snn)
        snn.checkpointing = options.checkpointing

    mean, std = (data.get(key) or getattr(dataset, key) for key in ("mean", "std"))
    messages = of_set(dataset, split="train").source(encoding) if encoding == "spikes" else None

    def images_of(indices: Tensor) -> Tensor:
        if messages is not None:
            return messages[indices]
        return training_images(dataset, indices, mean=mean, std=std, device=pick(device))

    kept = None
    if dataset.validation is not None:
        chosen = of_set(dataset, split="validation", like=data)
        kept = chosen.source(encoding)[:], labels_of(dataset, "validation")
    tuned, history = finetune_network(
        snn,
        images_of,
        labels,
        config,
        num_steps=options.num_steps,
        surrogate_name=options.surrogate,
        tuning=tuning,
        teacher=_teacher(options, snn),
        validation=kept,
        state_path=state,
        quiet=quiet,
    )
    told = config.recipe() | asdict(tuning) | {"surrogate": options.surrogate}
    tuned.provenance = {**tuned.provenance, "stdb": told}
    notes: tuple[str, ...] = ()
    if options.weight_bits is not None:
        # what the chip cannot hold is said now, not by the next verb
        fixed = quantize_network(to_nir(tuned), chip=options.chip or DEFAULT_CHIP)
        notes = tuple(fixed.metadata["notes"])
    return Tuned(tuned, history, notes)


def check_finetuning(options: FinetuneOptions) -> None:
    """Refuse options of fine-tuning that do not go together.

    Raises:
        DeployError: names them.
        OptionError: likewise.
    """
    if options.chip is not None and options.weight_bits is None:
        raise DeployError("--chip: has no meaning without --weight-bits; leave it out")
    if options.weight_bits is not None and options.precision != "float32":
        raise DeployError("--precision: integers need float32; leave it out, or --weight-bits")
    if options.method != "stdb":
        raise DeployError(f"--method: {options.method!r} is unknown; stdb is the one there is")
    options.tuning()


def _in_integers(snn: SpikingNetwork, options: FinetuneOptions) -> SpikingNetwork:
    """The network in the chip's integers, with room for what training may do to its sums."""
    # one that computes in integers already may be meant for others now
    real = in_real_numbers(snn)
    assert options.weight_bits is not None
    fixed = quantize_network(
        to_nir(real),
        chip=options.chip or DEFAULT_CHIP,
        weight_bits=options.weight_bits,
        headroom=training_room(options.weight_bits),
    )
    return quantization_aware(real, fixed)


def _teacher(options: FinetuneOptions, snn: SpikingNetwork) -> nn.Module | None:
    """Read the teacher, which must take images normalised as the network's."""
    if options.teacher is None:
        return None
    ann = classifier.load(options.teacher, max_pool=options.max_pool)
    for key in ("mean", "std"):
        own, its = snn.data.get(key), ann.data.get(key)
        if own is not None and its is not None and list(own) != list(its):
            raise DeployError(
                f"{options.teacher}: takes images of {key} {its}, the network of {own}; give the "
                "classifier that was converted"
            )
    return ann.network


def _check_set(dataset: DataSet, labels: Tensor, snn: SpikingNetwork) -> None:
    """Refuse a set that the network was not made for."""
    name, shape = dataset.name, dataset.input_shape
    if shape != snn.network.input_shape:
        raise DataError(
            f"{name}: its images have shape {shape}, the network takes "
            f"{snn.network.input_shape}; use the set it was trained for"
        )
    last = snn.network[snn.network.output].module
    if isinstance(last, nn.Linear) and labels.max() >= last.out_features:
        raise DataError(
            f"{name}: has labels up to {labels.max()}, the network "
            f"{last.out_features} classes; use the set it was trained for"
        )
