"""What ``compare`` and ``demo`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from spikeship.deploy.options.declare import option
from spikeship.deploy.options.shared import Chip, GpuResult


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    """Which stages are compared, and where the report is written."""

    net: Annotated[Path, option("--net", help="The quantized network.")]
    report: Annotated[Path, option("--report", help="HTML file to write.")]
    ann: Annotated[
        Path | None, option("--ann", help=".safetensors or .onnx", show_default="--arch")
    ] = None
    snn: Annotated[
        Path | None, option("--snn", help="The fine-tuned .nir", show_default="no row")
    ] = None
    converted: Annotated[
        Path | None,
        option("--converted", help="The .nir before fine-tuning", show_default="no row"),
    ] = None
    arch: Annotated[
        str | None,
        option(
            "--arch",
            help="package.module:factory, your own code, which is run.",
            show_default="--ann",
        ),
    ] = None
    weights: Annotated[
        Path | None, option("--weights", help="Its .pth state dict.", show_default="none")
    ] = None
    untrained: Annotated[
        bool, option("--untrained", help="Take the weights that the factory gives.")
    ] = False
    lava: Annotated[int, option("--lava", min=0, help="Images to run on Lava too.")] = 0
    chip: Chip = "loihi2"
    int8: Annotated[
        bool, option("--int8", help="A row of the classifier in int8 on ONNX Runtime.")
    ] = False
    gpu_result: GpuResult = None


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Where the demo is written."""

    out: Annotated[Path, option("--out", help="Folder to write.")] = Path("demo-out")
