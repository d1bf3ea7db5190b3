"""Options that several verbs of the command line share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Chip(StrEnum):
    """Chips that can be named."""

    loihi1 = "loihi1"
    loihi2 = "loihi2"


class Authority(StrEnum):
    """Who a network is verified against."""

    lava = "lava"
    reference = "reference"


class Engine(StrEnum):
    """What runs a simulation."""

    cpu = "cpu"
    cuda = "cuda"
    lava = "lava"


class Where(StrEnum):
    """Where torch works, or the simulator; both say the same on either."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"

    @property
    def for_integers(self) -> str:
        """The simulator's device: the CPU unless CUDA was asked for."""
        return "cuda" if self is Where.cuda else "cpu"


Json = Annotated[
    str | None, typer.Option("--json", metavar="PATH|-", help="Write one JSON object there.")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Of everything random.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress, no words.")]
Device = Annotated[Where, typer.Option("--device", help="Where torch works.")]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="digits, mnist, fashion-mnist, cifar10, cifar100, imagefolder, n-mnist[:T], npz:FILE, "
        "package.module:function",
    ),
]
MaybeData = Annotated[str | None, typer.Option("--data", help="A data set; see train.")]
DataDir = Annotated[Path | None, typer.Option("--data-dir", help="Or $SPIKESHIP_DATA.")]
Limit = Annotated[int | None, typer.Option("-n", min=1, help="Only the first so many images.")]
Steps = Annotated[int | None, typer.Option("-T", min=1, help="Time steps.")]
GpuResult = Annotated[
    Path | None,
    typer.Option(
        "--gpu-result", metavar="FILE.json", help="GPU's row from benchmarks/gpu_reference.py."
    ),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Where to write.")]
Net = Annotated[Path, typer.Argument(help="A quantized network (.safetensors).")]
