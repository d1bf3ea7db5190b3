"""What ``convert`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from spikeship.deploy.options.declare import argument, option
from spikeship.deploy.options.shared import Output
from spikeship.training.choices import (
    Calibrated,
    Correction,
    Encoding,
    FirstPotential,
    MaxPool,
    Reset,
    Timing,
)


@dataclass(frozen=True, kw_only=True)
class ClassifierFiles:
    """Where a classifier comes from."""

    ann: Annotated[
        Path | None, argument(help=".safetensors or .onnx; or --arch with --weights")
    ] = None
    arch: Annotated[
        str | None,
        option(
            "--arch",
            help="package.module:factory, your own code, which is run.",
            show_default="none",
        ),
    ] = None
    weights: Annotated[
        Path | None, option("--weights", help="Its .pth state dict.", show_default="none")
    ] = None
    untrained: Annotated[
        bool, option("--untrained", help="Take the weights that the factory gives.")
    ] = False
    mean: Annotated[
        str | None,
        option(
            "--mean", help="Per channel: 0.5,0.4,0.4", show_default="the file's, or the data set's"
        ),
    ] = None
    std: Annotated[
        str | None, option("--std", help="Per channel, as --mean.", show_default="likewise")
    ] = None
    output: Output


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """How a classifier becomes a spiking network; see ``conversion.convert``."""

    num_steps: Annotated[int, option("-T", min=1, help="Time steps.")] = 20
    timing: Annotated[
        Timing,
        option("--timing", help="Fire at once, or (staged) when the whole input is there."),
    ] = "pipelined"
    correct: Annotated[
        Correction | None,
        option(
            "--correct",
            help="How weights make up for the levels of staged timing.",
            show_default="what does best",
        ),
    ] = None
    balance: Annotated[
        str, option("--balance", help="Thresholds: max, percentile:P, mse, or analytic")
    ] = "max"
    per_channel: Annotated[bool, option("--per-channel", help="A threshold for each channel.")] = (
        False
    )
    factor: Annotated[
        float | None,
        option(
            "--factor",
            help="Balanced thresholds times this.",
            show_default="0.7; 0.5 below 20 steps; 1 for mse, analytic and calibrated ones",
        ),
    ] = None
    v0: Annotated[
        FirstPotential | None,
        option(
            "--v0",
            help="V at the start: 0, or half the threshold.",
            show_default="zero; analytic half",
        ),
    ] = None
    calibrate: Annotated[
        Calibrated | None,
        option(
            "--calibrate", help="Bring mean activity to the ANN's by this.", show_default="nothing"
        ),
    ] = None
    leak: Annotated[float, option("--leak", help="Factor on V each step.")] = 1.0
    reset: Annotated[Reset, option("--reset", help="What a spike does to V.")] = "subtract"
    encoding: Annotated[Encoding, option("--encoding", help="How images become messages.")] = (
        "poisson"
    )
    max_pool: Annotated[
        MaxPool, option("--max-pool", help="Keep max pools (staged), or average instead.")
    ] = "keep"

    def said(self) -> dict[str, Any]:
        """For the provenance in the network's file."""
        names = ["balance", "per_channel", "factor", "v0", "calibrate"]
        if self.timing == "staged":
            names = ["timing", "correct"]
        return {name: getattr(self, name) for name in names}
