"""The table of verbs: a new one is a file in deploy/verbs/, its options, and a row here."""

from dataclasses import dataclass

from spikeship.deploy.options.compare import CompareOptions, DemoOptions
from spikeship.deploy.options.convert import ClassifierFiles, ConvertOptions
from spikeship.deploy.options.estimate import EstimateOptions, WhatIfOptions
from spikeship.deploy.options.finetune import FinetuneFiles, FinetuneOptions
from spikeship.deploy.options.quantize import ExportOptions, QuantizeFiles, QuantizeOptions
from spikeship.deploy.options.shared import Common, MaybeSource, NetFile, Source
from spikeship.deploy.options.simulate import PredictFiles, SimulateOptions, VerifyOptions
from spikeship.deploy.options.train import TrainFiles, TrainOptions
from spikeship.deploy.options.validate import ValidateOptions
from spikeship.deploy.tables import Function

_VERBS = "spikeship.deploy.verbs"


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        name: as it is typed.
        run: takes one object of each of ``options`` and returns the exit status; or where it is.
        options: frozen dataclasses whose fields are its arguments and options.
        help: one sentence.
        example: a command.
    """

    name: str
    run: Function | str
    options: tuple[type, ...]
    help: str
    example: str


VERBS: list[Verb] = [
    Verb(
        "demo",
        f"{_VERBS}.demo:demo",
        (DemoOptions, Common),
        "Do the main job on the embedded digits, end to end.",
        "spikeship demo --out demo-out",
    ),
    Verb(
        "doctor",
        f"{_VERBS}.doctor:doctor",
        (Common,),
        "Say what works here, and how to get the rest.",
        "spikeship doctor",
    ),
    Verb(
        "install-lava",
        f"{_VERBS}.install_lava:install_lava",
        (Common,),
        "Install lava-nc and lava-dl into this environment, past the Python they declare.",
        "spikeship install-lava",
    ),
    Verb(
        "train",
        f"{_VERBS}.train:train",
        (TrainFiles, Source, TrainOptions, Common),
        "Train a classifier; started again after an interruption, it goes on where it was.",
        "spikeship train resnet20-small --data cifar10 --data-dir DIR -o ann.safetensors",
    ),
    Verb(
        "convert",
        f"{_VERBS}.convert:convert",
        (ClassifierFiles, Source, ConvertOptions, Common),
        "Turn a classifier into a spiking network by balancing thresholds.",
        "spikeship convert ann.safetensors --data cifar10 --data-dir DIR -T 16 -o snn.nir",
    ),
    Verb(
        "finetune",
        f"{_VERBS}.finetune:finetune",
        (FinetuneFiles, Source, FinetuneOptions, Common),
        "Fine-tune a spiking network with spike-timing dependent backpropagation.",
        "spikeship finetune snn.nir --data cifar10 --data-dir DIR --epochs 1 -o tuned.nir",
    ),
    Verb(
        "quantize",
        f"{_VERBS}.quantize:quantize",
        (QuantizeFiles, MaybeSource, QuantizeOptions, Common),
        "Turn a spiking network into the chip's integers.",
        "spikeship quantize tuned.nir --chip loihi2 -o net.safetensors",
    ),
    Verb(
        "export",
        f"{_VERBS}.export:export",
        (ExportOptions, Common),
        "Write a network for others, such as a folder of Lava Processes that runs by itself.",
        "spikeship export net.safetensors --to lava -o exported",
    ),
    Verb(
        "simulate",
        f"{_VERBS}.simulate:simulate",
        (NetFile, Source, SimulateOptions, Common),
        "Run a network in integers: accuracy and counts.",
        "spikeship simulate net.safetensors --data cifar10 --data-dir DIR -n 1000",
    ),
    Verb(
        "predict",
        f"{_VERBS}.predict:predict",
        (PredictFiles, Common),
        "Say class and margin of your own inputs.",
        "spikeship predict net.safetensors picture.png",
    ),
    Verb(
        "verify",
        f"{_VERBS}.verify:verify",
        (NetFile, MaybeSource, VerifyOptions, Common),
        "Compare every spike of every layer with real Lava, or with the reference.",
        "spikeship verify net.safetensors --against lava",
    ),
    Verb(
        "estimate",
        f"{_VERBS}.estimate:estimate",
        (NetFile, Source, EstimateOptions, Common),
        "Estimate synaptic operations, cycles, latency, energy and cores on a chip.",
        "spikeship estimate net.safetensors --chip loihi1 --data cifar10 --data-dir DIR -n 100",
    ),
    Verb(
        "what-if",
        f"{_VERBS}.what_if:what_if",
        (NetFile, Source, WhatIfOptions, Common),
        "Estimate energy, latency and cores against T, weight bits, firing rate and chip.",
        "spikeship what-if net.safetensors --data cifar10 --data-dir DIR -n 100 -o what-if",
    ),
    Verb(
        "validate",
        f"{_VERBS}.validate:validate",
        (ValidateOptions, Common),
        "Hold estimates against chips that somebody measured.",
        "spikeship validate --rows mine.json",
    ),
    Verb(
        "compare",
        f"{_VERBS}.compare:compare",
        (CompareOptions, Source, Common),
        "Put every stage's accuracy, the chip's estimate and the GPU's row in one report.",
        "spikeship compare --ann ann.safetensors --net net.safetensors --data cifar10 "
        "--data-dir DIR --report report.html",
    ),
]
