"""Options that several verbs share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

from spikeship.deploy.options.declare import Table, argument, option
from spikeship.training.choices import Device, Schedule

CHIPS = Table("spikeship.hw_models.chips:CHIPS")
Chip = Annotated[str, option("--chip", help="The chip."), CHIPS]
Output = Annotated[Path, option("-o", "--output", help="File to write.")]
Net = Annotated[Path, argument(help="A quantized network (.safetensors).")]
GpuResult = Annotated[
    Path | None,
    option(
        "--gpu-result",
        metavar="FILE.json",
        help="GPU's row from benchmarks/gpu_reference.py.",
        show_default="measured or modelled here",
    ),
]


def for_integers(device: Device) -> str:
    """The simulator's device: the CPU unless CUDA was asked for."""
    return "cuda" if device == "cuda" else "cpu"


@dataclass(frozen=True, kw_only=True)
class Common:
    """What every verb takes."""

    json: Annotated[
        str | None, option("--json", metavar="PATH|-", help="Write one JSON object there.")
    ] = None
    seed: Annotated[int, option("--seed", min=0, help="Of everything random.")] = 0
    quiet: Annotated[bool, option("--quiet", help="No progress, no words.")] = False
    device: Annotated[Device, option("--device", help="Where torch works.")] = "auto"

    @property
    def for_integers(self) -> str:
        """The simulator's device: the CPU unless CUDA was asked for."""
        return for_integers(self.device)


@dataclass(frozen=True, kw_only=True)
class MaybeSource:
    """Where images come from, for a verb that can do without."""

    data: Annotated[
        str | None, option("--data", help="A data set; see train.", show_default="none")
    ] = None
    data_dir: Annotated[
        Path | None, option("--data-dir", help="Its folder.", show_default="$SPIKESHIP_DATA")
    ] = None
    limit: Annotated[
        int | None, option("-n", min=1, help="Only the first so many images.", show_default="all")
    ] = None


@dataclass(frozen=True, kw_only=True)
class Source(MaybeSource):
    """Where images come from."""

    data: Annotated[
        str,
        option(
            "--data",
            help="digits, mnist, fashion-mnist, cifar10, cifar100, imagefolder, n-mnist[:T], "
            "npz:FILE, package.module:function",
        ),
    ] = field()


@dataclass(frozen=True, kw_only=True)
class NetFile:
    """The network that a verb works on."""

    net: Net


@dataclass(frozen=True, kw_only=True)
class FittingOptions:
    """How to train, as ``train`` and ``finetune`` share it.

    ``SHOWN`` is what the help says of a verb's own defaults.
    """

    SHOWN: ClassVar[Mapping[str, str]] = {}

    epochs: Annotated[int | None, option("--epochs", min=1, help="Passes over the data.")] = None
    batch: Annotated[int | None, option("--batch", min=1, help="Images a step.")] = None
    lr: Annotated[float | None, option("--lr", help="The highest learning rate.")] = None
    schedule: Annotated[
        Schedule | None,
        option("--schedule", help="How the learning rate changes."),
    ] = None
    validation: Annotated[
        int,
        option("--validation", min=0, help="Training images put aside to choose the best epoch."),
    ] = 0
    log: Annotated[
        Path | None,
        option("--log", help="Folder for metrics.csv and TensorBoard.", show_default="none"),
    ] = None
    checkpoint_every: Annotated[
        int | None,
        option("--checkpoint-every", min=1, help="Steps between two states.", show_default="500"),
    ] = None

    def settings(self) -> dict[str, object]:
        """The fields of a ``FitConfig`` that are to be other than its defaults."""
        given = {
            "epochs": self.epochs,
            "batch_size": self.batch,
            "learning_rate": self.lr,
            "schedule": self.schedule,
            "checkpoint_every": self.checkpoint_every,
            "log_dir": None if self.log is None else str(self.log),
        }
        return {name: value for name, value in given.items() if value is not None}
