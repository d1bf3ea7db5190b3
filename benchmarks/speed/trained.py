"""The network that the simulator's benchmarks run: the paper's VGG5 at full width, trained here.

It is trained once, for a few minutes, on real images, so that its spikes are as many as a trained
network sends, and kept in a folder: the classifier and its conversion, which is balanced for
Poisson input. The integers are made of them anew each time.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from spikeship.deploy.compiler.quantize import quantize
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.classifier import load as load_ann_file
from spikeship.deploy.io.inputs import CALIBRATION, Images, of_set
from spikeship.deploy.io.sets import load_data
from spikeship.hw_models.graph import FixedGraph
from spikeship.training.ann.checkpoint import CheckpointError, load_ann, save_ann
from spikeship.training.ann.zoo import build
from spikeship.training.conversion.convert import convert
from spikeship.training.data.load import VARIABLE, DataError, DataSet
from spikeship.training.fit.classifier import ann_config, evaluate_ann, train_ann
from spikeship.training.fit.config import FitConfig
from spikeship.training.nir_io.from_nir import FromNirError, load_nir
from spikeship.training.nir_io.to_nir import to_nir, write_nir
from spikeship.training.snn.spiking_network import SpikingNetwork

ARCH, CHIP, WEIGHT_BITS = "vgg5", "loihi2", 8
NUM_STEPS = 75
SETS = ("cifar10", "fashion-mnist")
TRAIN_IMAGES = 8000
ACCURACY_IMAGES = 1000
SETTINGS = {"epochs": 3, "learning_rate": 2e-2, "schedule": "cosine", "warmup": 0.25, "seed": 0}


@dataclass(frozen=True)
class Source:
    """Where images come from.

    Attributes:
        name: of the set.
        folder: where it lies; None for the one in the environment.
        limit: only the first so many images of each split.
    """

    name: str
    folder: Path | None
    limit: int | None

    def load(self) -> DataSet:
        """Read the set, cut to the limit."""
        return load_data(self.name, self.folder, limit=self.limit)


@dataclass(frozen=True, eq=False)
class Trained:
    """A trained classifier, the spiking network it was converted to, and that one's integers.

    Attributes:
        ann: the classifier.
        snn: float spiking network.
        graph: its integers.
        held_out: test images, normalised as the network was trained.
        calibration: training images likewise.
        accuracy: of the classifier on the first 1,000 test images, a fraction.
    """

    ann: Ann
    snn: SpikingNetwork
    graph: FixedGraph
    held_out: Images
    calibration: Images
    accuracy: float


def default_cache() -> Path:
    """Folder where benchmark networks are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "spikeship" / "benchmarks"


def find_set(name: str | None = None) -> Source:
    """The first of the known sets that lies in $SPIKESHIP_DATA, or the one named.

    Raises:
        DataError: the variable is not set, or none of them is there.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        raise DataError(
            f"no data: set {VARIABLE} to the folder that holds {' or '.join(SETS)} "
            "in their publishers' files"
        )
    for candidate in SETS if name is None else (name,):
        source = Source(candidate, Path(folder), TRAIN_IMAGES)
        try:
            source.load()
        except DataError as error:
            reason = str(error)
        else:
            return source
    raise DataError(reason if name else f"{folder}: holds neither {' nor '.join(SETS)}")


def trained(source: Source, cache: Path, say: Callable[[str], None]) -> Trained:
    """The benchmark's network for a set: as it is kept, or trained now and kept.

    Args:
        source: the set, and how many images of it to train on.
        cache: folder for networks.
        say: told what takes long.

    Raises:
        DataError: the set cannot be read.
        OSError: the folder cannot be written.
    """
    dataset = source.load()
    folder = cache / f"{ARCH}-{source.name}"
    config = ann_config(dataset.input_shape, **SETTINGS)
    ann_path, snn_path = folder / "ann.safetensors", folder / "snn.nir"
    recipe = {"images": source.limit, "num_steps": NUM_STEPS, **config.recipe()}
    if not _is_of(ann_path, recipe):
        folder.mkdir(parents=True, exist_ok=True)
        snn_path.unlink(missing_ok=True)
        say(f"train {ARCH} on {source.limit} images of {source.name}, once; kept in {folder}")
        _train(source, config, recipe, ann_path)
    ann = load_ann_file(ann_path)
    try:
        snn = load_nir(snn_path)
    except FromNirError:
        say(f"convert it, balanced for Poisson input and T = {NUM_STEPS}")
        snn = _convert(source, ann)
        write_nir(snn_path, to_nir(snn))
    graph = quantize(to_nir(snn), chip=CHIP, weight_bits=WEIGHT_BITS)
    everything = Source(source.name, source.folder, None).load()
    held_out = of_set(everything, like=ann.data)
    few = held_out.first(ACCURACY_IMAGES)
    correct = few.correct(evaluate_ann(ann.network, few.values).numpy())
    assert correct is not None  # the sets are labelled
    calibration = of_set(dataset, split="train", limit=CALIBRATION, like=ann.data)
    return Trained(ann, snn.eval(), graph, held_out, calibration, correct / len(few.values))


def _is_of(path: Path, recipe: dict[str, Any]) -> bool:
    """Whether a file holds a classifier that was trained so."""
    try:
        return load_ann(path).provenance == recipe
    except CheckpointError:
        return False


def _train(source: Source, config: FitConfig, recipe: dict[str, Any], path: Path) -> None:
    dataset = source.load()
    torch.manual_seed(config.seed)
    model = build(ARCH, dataset.input_shape, dataset.classes)
    train_ann(model, dataset, config, quiet=True)
    save_ann(
        path,
        model,
        arch=ARCH,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        data={"name": dataset.name, "mean": list(dataset.mean), "std": list(dataset.std)},
        provenance=recipe,
    )


def _convert(source: Source, ann: Ann) -> SpikingNetwork:
    images = of_set(source.load(), split="train", like=ann.data)
    return convert(
        ann.network,
        images.values[:CALIBRATION],
        num_steps=NUM_STEPS,
        peak=images.peak(),
        data=images.data,
        provenance=ann.provenance,
    )
