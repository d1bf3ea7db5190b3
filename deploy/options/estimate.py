"""What ``estimate`` and ``what-if`` can be told."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from spikeship.deploy.options.declare import OptionError, option
from spikeship.deploy.options.shared import Chip, GpuResult

Number = TypeVar("Number", int, float)


@dataclass(frozen=True, kw_only=True)
class RuleOptions:
    """How a placement counts where published mappings differ."""

    axons: Annotated[
        Literal["population", "single"],
        option(
            "--axons",
            help="population: one shared by the sources of a kernel position or a core; single: "
            "one a source neuron.",
        ),
    ] = "population"
    kernels: Annotated[
        Literal["shared", "unshared"],
        option(
            "--kernels",
            help="shared: convolution weights once a core; unshared: for every neuron.",
        ),
    ] = "shared"


@dataclass(frozen=True, kw_only=True)
class EstimateOptions(RuleOptions):
    """What is estimated, and where its parts are written."""

    chip: Chip = "loihi2"
    placement: Annotated[
        Path | None,
        option("--placement", help="FILE.json for every core's block.", show_default="none"),
    ] = None
    picture: Annotated[
        Path | None,
        option("--picture", help="FILE.svg or .png of the cores.", show_default="none"),
    ] = None
    max_chips: Annotated[
        int | None,
        option(
            "--max-chips",
            min=1,
            help="Refuse to take more chips.",
            show_default="as many as needed",
        ),
    ] = None
    models: Annotated[bool, option("--models", help="Other published energy models beside it.")] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class WhatIfOptions(RuleOptions):
    """What is varied around a network."""

    output: Annotated[Path, option("-o", "--output", help="Folder to write.")]
    steps: Annotated[str, option("--steps", help="Values of T.")] = "4,8,16"
    weight_bits: Annotated[str, option("--weight-bits", help="Widths, 1..8.")] = "8,6,4"
    rates: Annotated[str, option("--rates", help="Factors on the counted firing rate.")] = (
        "0.25,0.5,1,2"
    )
    chip: Annotated[str, option("--chip", help="Chips.")] = "loihi1,loihi2"
    snn: Annotated[
        Path | None,
        option(
            "--snn",
            help="The .nir it was quantized from: quantize anew at each width.",
            show_default="none",
        ),
    ] = None
    ann: Annotated[
        Path | None,
        option("--ann", help=".safetensors or .onnx, for the GPU's row.", show_default="none"),
    ] = None
    gpu_result: GpuResult = None
    gpu_utilisation: Annotated[
        float | None,
        option(
            "--gpu-utilisation",
            help="Share of its peak rate at which the GPU's row is modelled.",
            show_default="1",
        ),
    ] = None

    def values(self) -> dict[str, Any]:
        """What is varied, as the fields of a ``Question``.

        Raises:
            OptionError: something else than numbers between commas.
        """
        return {
            "steps": _numbers("--steps", self.steps, int),
            "weight_bits": _numbers("--weight-bits", self.weight_bits, int),
            "rates": _numbers("--rates", self.rates, float),
            "chips": tuple(self.chip.split(",")),
        }


def _numbers(option: str, text: str | None, kind: Callable[[str], Number]) -> tuple[Number, ...]:
    """The numbers of an option, as ``4,8,16`` gives them; none where it is empty.

    Raises:
        OptionError: something else than such numbers.
    """
    if not text:
        return ()
    try:
        return tuple(kind(word) for word in text.split(","))
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise OptionError(
            f"{option}: {text!r} is no list of {what}; give for example 4,8"
        ) from None
