"""The verbs that estimate, as the command line declares them: estimate and what-if."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spikeship.deploy.cli.options import (
    Chip,
    Data,
    DataDir,
    Device,
    GpuResult,
    Json,
    Limit,
    Net,
    Quiet,
    Seed,
    Where,
)
from spikeship.deploy.verbs.console import Voice


class Axons(StrEnum):
    """What shares an input axon."""

    population = "population"
    single = "single"


class Kernels(StrEnum):
    """How often a core stores a convolution's weights."""

    shared = "shared"
    unshared = "unshared"


AxonRule = Annotated[
    Axons,
    typer.Option(
        "--axons",
        help="population: one shared by the sources of a kernel position or a core; single: one a "
        "source neuron.",
    ),
]
KernelRule = Annotated[
    Kernels,
    typer.Option(
        "--kernels", help="shared: convolution weights once a core; unshared: for every neuron."
    ),
]


def estimate(
    net: Net,
    data: Data,
    chip: Annotated[Chip, typer.Option("--chip")] = Chip.loihi2,
    placement: Annotated[
        Path | None, typer.Option("--placement", help="FILE.json for every core's block.")
    ] = None,
    picture: Annotated[
        Path | None, typer.Option("--picture", help="FILE.svg or .png of the cores.")
    ] = None,
    axons: AxonRule = Axons.population,
    kernels: KernelRule = Kernels.shared,
    max_chips: Annotated[
        int | None, typer.Option("--max-chips", min=1, help="Refuse to take more chips.")
    ] = None,
    models: Annotated[
        bool, typer.Option("--models", help="Other published energy models beside it.")
    ] = False,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Estimate synaptic operations, cycles, latency, energy and cores on a chip."""
    from spikeship.deploy.verbs import estimate as estimate_verb
    from spikeship.hw_models.placement.placement import Rules

    request = estimate_verb.Request(
        net,
        chip.value,
        data,
        data_dir,
        placement=placement,
        picture=picture,
        rules=Rules(axons.value, kernels.value),
        max_chips=max_chips,
        models=models,
        limit=limit,
        seed=seed,
        device=device.for_integers,
    )
    return estimate_verb.run(Voice(json, quiet), request)


def what_if(
    net: Net,
    data: Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write to.")],
    steps: Annotated[str, typer.Option("--steps", help="Values of T.")] = "4,8,16",
    weight_bits: Annotated[str, typer.Option("--weight-bits", help="Widths, 1..8.")] = "8,6,4",
    rates: Annotated[
        str, typer.Option("--rates", help="Factors on the counted firing rate.")
    ] = "0.25,0.5,1,2",
    chip: Annotated[str, typer.Option("--chip", help="Chips.")] = "loihi1,loihi2",
    snn: Annotated[
        Path | None,
        typer.Option("--snn", help="The .nir it was quantized from: quantize anew at each width."),
    ] = None,
    ann: Annotated[
        Path | None, typer.Option("--ann", help=".safetensors or .onnx, for the GPU's row.")
    ] = None,
    gpu_result: GpuResult = None,
    gpu_utilisation: Annotated[
        float | None,
        typer.Option(
            "--gpu-utilisation", help="Share of its peak rate at which the GPU's row is modelled."
        ),
    ] = None,
    axons: AxonRule = Axons.population,
    kernels: KernelRule = Kernels.shared,
    data_dir: DataDir = None,
    limit: Limit = None,
    json: Json = None,
    seed: Seed = 0,
    quiet: Quiet = False,
    device: Device = Where.auto,
) -> int:
    """Estimate energy, latency and cores against T, weight bits, firing rate and chip."""
    from spikeship.deploy.analysis.what_if import Question
    from spikeship.deploy.verbs import what_if as what_if_verb
    from spikeship.hw_models.placement.placement import Rules

    question = Question(
        steps=what_if_verb.numbers("--steps", steps, int),
        weight_bits=what_if_verb.numbers("--weight-bits", weight_bits, int),
        rates=what_if_verb.numbers("--rates", rates, float),
        chips=tuple(chip.split(",")),
        rules=Rules(axons.value, kernels.value),
    )
    request = what_if_verb.Request(
        net,
        data,
        data_dir,
        question,
        output,
        snn=snn,
        ann=ann,
        gpu_result=gpu_result,
        gpu_utilisation=gpu_utilisation,
        limit=limit,
        seed=seed,
        device=device.for_integers,
    )
    return what_if_verb.run(Voice(json, quiet), request)
