"""The verbs of the command line that train: train, convert, finetune."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from spikeship.deploy.cli.options import (
    Chip,
    Data,
    DataDir,
    Device,
    Json,
    Limit,
    Output,
    Quiet,
    Seed,
    Steps,
    Where,
)
from spikeship.deploy.verbs.console import Voice
from spikeship.training.choices import Fill, Flip, Head, Pooling, Schedule, Start


class Coding(StrEnum):
    """How images become messages."""

    poisson = "poisson"
    direct = "direct"
    spikes = "spikes"


class Slope(StrEnum):
    """Surrogate of the backward pass."""

    stdb = "stdb"
    linear = "linear"
    triangle = "triangle"
    atan = "atan"
    sigmoid = "sigmoid"


class Loss(StrEnum):
    """What a spiking network is trained on."""

    ce = "ce"
    tet = "tet"


class FirstV(StrEnum):
    """V before the first step."""

    zero = "zero"
    half = "half"


class Calibrated(StrEnum):
    """What is calibrated against the ANN."""

    bias = "bias"
    v0 = "v0"


class MaxPool(StrEnum):
    """What becomes of max pools."""

    refuse = "refuse"
    average = "average"


class Reset(StrEnum):
    """What a spike does to V."""

    subtract = "subtract"
    zero = "zero"


class Precision(StrEnum):
    """Of weighted layers while training."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class Share(StrEnum):
    """How many values of a neuron layer are learnt."""

    layer = "layer"
    channel = "channel"


Arch = Annotated[str | None, typer.Option("--arch", help="package.module:factory")]
Weights = Annotated[Path | None, typer.Option("--weights", help="Its .pth state dict.")]
Epochs = Annotated[int | None, typer.Option("--epochs", min=1)]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Images a step.")]
Rate = Annotated[float | None, typer.Option("--lr", help="The highest learning rate.")]
Schedules = Annotated[
    Schedule | None, typer.Option("--schedule", help="How the learning rate changes.")
]
Precisions = Annotated[Precision, typer.Option("--precision", help="Of weighted layers.")]
Validation = Annotated[
    int,
    typer.Option(
        "--validation", min=0, help="Training images put aside to choose the best epoch by."
    ),
]
Log = Annotated[Path | None, typer.Option("--log", help="Folder for metrics.csv and TensorBoard.")]
Every = Annotated[
    int | None, typer.Option("--checkpoint-every", min=1, help="Steps between two states.")
]


def train(
    arch: Annotated[
        str, typer.Argument(help="vgg5 … vgg19, resnet8 … resnet34, resnet20-small, fast9, …")
    ],
    data: Data,
    output: Output,
    paper: Annotated[
        bool, typer.Option("--paper", help="Train as the paper does: 300 epochs, steps down.")
    ] = False,
    width: Annotated[float, typer.Option("--width", help="Factor on channels and units.")] = 1.0,
    batch_norm: Annotated[
        bool | None,
        typer.Option(
            "--batch-norm/--no-batch-norm",
            help="After each convolution; conversion folds it. The paper's networks have none.",
        ),
    ] = None,
    dropout: Annotated[
        bool | None,
        typer.Option("--dropout/--no-dropout", help="By default where there is no batch norm."),
    ] = None,
    head: Annotated[
        Head | None, typer.Option("--head", help="Of a VGG: three dense layers, or a global pool.")
    ] = None,
    pooling: Annotated[
        Pooling | None, typer.Option("--pooling", help="Of a VGG; average by default.")
    ] = None,
    start: Annotated[
        Start | None, typer.Option("--start", help="First weights; identity hands inputs on.")
    ] = None,
    whiten: Annotated[
        bool, typer.Option("--whiten", help="The first convolution whitens patches, untrained.")
    ] = False,
    activation: Annotated[
        str, typer.Option("--activation", help="relu, clip, or qcfs:STEPS")
    ] = "relu",
    data_dir: DataDir = None,
    epochs: Epochs = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    schedule: Schedules = None,
    peak: Annotated[
        float | None, typer.Option("--peak", help="Part of the epochs until one-cycle's peak.")
    ] = None,
    momentum: Annotated[float | None, typer.Option("--momentum", min=0)] = None,
    nesterov: Annotated[bool | None, typer.Option("--nesterov/--no-nesterov")] = None,
    weight_decay: Annotated[float | None, typer.Option("--weight-decay", min=0)] = None,
    decoupled: Annotated[
        bool | None,
        typer.Option(
            "--decoupled/--coupled",
            help="Decay weights apart from gradient and momentum; or as an L2 penalty.",
        ),
    ] = None,
    norm_rate: Annotated[
        float | None, typer.Option("--norm-rate", help="Rate of batch norm's biases times this.")
    ] = None,
    averaging: Annotated[
        float | None,
        typer.Option("--averaging", min=0, help="Epochs that weights are averaged over."),
    ] = None,
    label_smoothing: Annotated[float | None, typer.Option("--label-smoothing", min=0)] = None,
    translate: Annotated[
        int | None, typer.Option("--translate", min=0, help="Largest shift of an image, pixels.")
    ] = None,
    fill: Annotated[Fill | None, typer.Option("--fill", help="What a shift brings in.")] = None,
    flip: Annotated[Flip | None, typer.Option("--flip", help="When images are mirrored.")] = None,
    cutout: Annotated[
        int | None, typer.Option("--cutout", min=0, help="Side of a square taken out, pixels.")
    ] = None,
    precision: Annotated[
        Precision | None,
        typer.Option("--precision", help="Of weighted layers; bfloat16 where that is fast."),
    ] = None,
    validation: Validation = 0,
    test: Annotated[
        bool, typer.Option("--test/--no-test", help="Say the accuracy on test images at the end.")
    ] = True,
    log: Log = None,
    checkpoint_every: Every = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Train a classifier; started again after an interruption, it goes on where it was."""
    from spikeship.deploy.verbs.fitting import Fitting, Source
    from spikeship.deploy.verbs.train import Training
    from spikeship.deploy.verbs.train import train as run

    network = {
        "batch_norm": batch_norm,
        "dropout": dropout,
        "head": head,
        "pooling": pooling,
        "start": start,
    }
    variation = {"translate": translate, "fill": fill, "flip": flip, "cutout": cutout}
    more = {
        "peak": peak,
        "momentum": momentum,
        "nesterov": nesterov,
        "weight_decay": weight_decay,
        "decoupled": decoupled,
        "norm_rate": norm_rate,
        "averaging": averaging,
    }
    return run(
        Voice(json, quiet),
        Training(arch, width, activation, paper, network, variation, label_smoothing, whiten, test),
        Source(data, data_dir, limit),
        Fitting(
            epochs,
            batch,
            learning_rate,
            schedule,
            _PRECISIONS[precision] if precision else None,
            validation,
            log,
            checkpoint_every,
            seed,
            device.value,
            more,
        ),
        output,
    )


def convert(
    data: Data,
    output: Output,
    ann: Annotated[Path | None, typer.Argument(help=".safetensors or .onnx")] = None,
    num_steps: Annotated[int, typer.Option("-T", min=1, help="Time steps.")] = 20,
    balance: Annotated[
        str, typer.Option("--balance", help="max, percentile:P, mse, or analytic")
    ] = "max",
    per_channel: Annotated[
        bool, typer.Option("--per-channel", help="A threshold for each channel.")
    ] = False,
    factor: Annotated[
        float | None, typer.Option("--factor", help="Balanced thresholds times this.")
    ] = None,
    v0: Annotated[
        FirstV | None, typer.Option("--v0", help="V at the start: 0, or half the threshold.")
    ] = None,
    calibrate: Annotated[
        Calibrated | None,
        typer.Option("--calibrate", help="Bring mean activity to the ANN's by this."),
    ] = None,
    leak: Annotated[float, typer.Option("--leak", help="Factor on V each step.")] = 1.0,
    reset: Annotated[Reset, typer.Option("--reset")] = Reset.subtract,
    encoding: Annotated[Coding, typer.Option("--encoding")] = Coding.poisson,
    arch: Arch = None,
    weights: Weights = None,
    max_pool: Annotated[
        MaxPool, typer.Option("--max-pool", help="Refuse max pools, or average instead.")
    ] = MaxPool.refuse,
    mean: Annotated[str | None, typer.Option("--mean", help="Per channel: 0.5,0.4,0.4")] = None,
    std: Annotated[str | None, typer.Option("--std", help="Per channel, as --mean.")] = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Turn a classifier into a spiking network by balancing thresholds."""
    from spikeship.deploy.verbs.convert import Conversion
    from spikeship.deploy.verbs.convert import convert as run
    from spikeship.deploy.verbs.fitting import Source

    request = Conversion(
        ann,
        arch,
        weights,
        max_pool.value,
        mean,
        std,
        num_steps,
        encoding.value,
        balance,
        per_channel,
        factor,
        v0.value if v0 else None,
        calibrate.value if calibrate else None,
        leak,
        reset.value,
    )
    source = Source(data, data_dir, limit)
    return run(Voice(json, quiet), request, source, output, seed, device.value)


def finetune(
    snn: Annotated[Path, typer.Argument(help="A spiking network (.nir).")],
    data: Data,
    output: Output,
    method: Annotated[str, typer.Option("--method", help="stdb")] = "stdb",
    surrogate: Annotated[Slope, typer.Option("--surrogate")] = Slope.linear,
    num_steps: Steps = None,
    start_steps: Annotated[
        int | None, typer.Option("--start-steps", help="T of the first epoch, going down to T.")
    ] = None,
    loss: Annotated[
        Loss, typer.Option("--loss", help="On the mean output, or every step's (TET).")
    ] = Loss.ce,
    teacher: Annotated[
        Path | None, typer.Option("--teacher", help="ANN to distil: .safetensors or .onnx")
    ] = None,
    max_pool: Annotated[
        MaxPool, typer.Option("--max-pool", help="Of the teacher, as convert had it.")
    ] = MaxPool.refuse,
    distill: Annotated[
        float | None, typer.Option("--distill", help="Weight of the teacher, 0..1 (0.5).")
    ] = None,
    temperature: Annotated[float | None, typer.Option("--temperature")] = None,
    attached: Annotated[
        bool, typer.Option("--attached", help="Gradients pass through the reset.")
    ] = False,
    learn: Annotated[
        str | None, typer.Option("--learn", help="threshold, leak, or threshold,leak")
    ] = None,
    learn_per: Annotated[Share | None, typer.Option("--learn-per")] = None,
    learn_factor: Annotated[
        float | None, typer.Option("--learn-factor", help="Learning rate times this, for them.")
    ] = None,
    synop_weight: Annotated[
        float, typer.Option("--synop-weight", help="Cost of synaptic operations in the loss.")
    ] = 0.0,
    weight_bits: Annotated[
        int | None, typer.Option("--weight-bits", help="Train in the chip's integers.")
    ] = None,
    chip: Annotated[
        Chip | None, typer.Option("--chip", help="Of --weight-bits; loihi2 by default.")
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Compute again instead of keeping.")
    ] = False,
    epochs: Epochs = None,
    batch: Batch = None,
    learning_rate: Rate = None,
    schedule: Schedules = None,
    precision: Precisions = Precision.float32,
    validation: Validation = 0,
    log: Log = None,
    checkpoint_every: Every = None,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Fine-tune a spiking network with spike-timing dependent backpropagation."""
    from spikeship.deploy.verbs.finetune import Request
    from spikeship.deploy.verbs.finetune import finetune as run
    from spikeship.deploy.verbs.fitting import Fitting, Source
    from spikeship.training.finetuning.tuning import Tuning

    if teacher is None and (distill is not None or temperature is not None):
        raise typer.BadParameter("--distill and --temperature need --teacher; give it, or neither")
    if teacher is not None and distill is None:
        distill = 0.5
    learnt = set((learn or "").split(",")) - {""}
    if unknown := learnt - {"threshold", "leak"}:
        raise typer.BadParameter(f"--learn: {min(unknown)!r} is not known; use threshold, leak")
    given: dict[str, Any] = {
        "distill": distill,
        "temperature": temperature,
        "start_steps": start_steps,
        "learn_per": learn_per and learn_per.value,
        "learn_factor": learn_factor,
    }
    tuning = Tuning(
        loss=loss.value,
        attached=attached,
        learn_threshold="threshold" in learnt,
        learn_leak="leak" in learnt,
        synop_weight=synop_weight,
        **{name: value for name, value in given.items() if value is not None},
    )
    request = Request(
        snn,
        method,
        surrogate.value,
        num_steps,
        tuning,
        teacher,
        max_pool.value,
        weight_bits,
        chip.value if chip else None,
        checkpointing,
    )
    return run(
        Voice(json, quiet),
        request,
        Source(data, data_dir, limit),
        Fitting(
            epochs,
            batch,
            learning_rate,
            schedule,
            _PRECISIONS[precision],
            validation,
            log,
            checkpoint_every,
            seed,
            device.value,
        ),
        output,
    )


_PRECISIONS: dict[Precision, Any] = {
    Precision.float32: "32-true",
    Precision.bfloat16: "bf16-mixed",
}
