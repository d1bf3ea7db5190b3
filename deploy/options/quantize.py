"""What ``quantize`` and ``export`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from spikeship.deploy.options.declare import Table, argument, option
from spikeship.deploy.options.shared import Chip, Net, Output

EXPORTERS = Table("spikeship.deploy.export:EXPORTERS")


@dataclass(frozen=True, kw_only=True)
class QuantizeFiles:
    """What is quantized, and where it is written."""

    snn: Annotated[Path, argument(help="A spiking network (.nir), or lava-dl's (.net).")]
    output: Output


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Which integers."""

    chip: Chip = "loihi2"
    weight_bits: Annotated[
        int | None,
        option("--weight-bits", help="1..8.", show_default="what it was trained for, else 8"),
    ] = None
    layers: Annotated[
        int | None,
        option(
            "--layers", min=1, help="Read only the first so many of a .net.", show_default="all"
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What a network is written as."""

    net: Net
    output: Annotated[Path, option("-o", "--output", help="File or folder to write.")]
    to: Annotated[str, option("--to", help="Whom for."), EXPORTERS] = "lava"
