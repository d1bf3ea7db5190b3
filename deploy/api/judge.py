"""Judging networks: estimate, what-if, compare, validate."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spikeship.deploy.analysis import compare as comparing
from spikeship.deploy.analysis import what_if as varying
from spikeship.deploy.analysis.compare import Comparison, Stages
from spikeship.deploy.analysis.references import gpu_rows
from spikeship.deploy.analysis.what_if_result import WhatIf
from spikeship.deploy.api.given import (
    Classifier,
    Integers,
    Spiking,
    classifier_of,
    images_of,
    integers_of,
    spiking_of,
)
from spikeship.deploy.api.sources import Data, File, set_of
from spikeship.deploy.io.inputs import CALIBRATION
from spikeship.deploy.options.declare import OptionError, filled
from spikeship.deploy.options.estimate import EstimateOptions, WhatIfOptions
from spikeship.deploy.options.shared import for_integers
from spikeship.deploy.pipeline import estimate as estimating
from spikeship.deploy.run.evaluate import Running
from spikeship.deploy.validation import validate as validation
from spikeship.deploy.validation.rows import read_rows
from spikeship.hw_models.estimate import Estimate
from spikeship.hw_models.placement.placement import Rules
from spikeship.training.choices import Device
from spikeship.training.nir_io.to_nir import to_nir


def estimate(
    net: Integers,
    data: Data,
    *,
    limit: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    **options: Any,
) -> Estimate:
    """Estimate synaptic operations, cycles, latency, energy and cores on a chip.

    Args:
        net: the quantized network or its file.
        data: its test images are run.
        limit: only the first so many.
        seed: of the encoding.
        device: the CPU unless ``cuda``.
        **options: of the verb ``estimate``, such as ``chip="loihi1"``.

    Raises:
        SpikeshipError: an option or images that cannot be used.
    """
    graph = integers_of(net)
    given = filled(EstimateOptions, "estimate", options, without=("placement", "picture", "models"))
    images = images_of(graph, data, limit)
    on = for_integers(device)
    return estimating.estimate(graph, images, given, seed=seed, device=on).estimate


def what_if(
    net: Integers,
    data: Data,
    *,
    snn: Spiking | None = None,
    ann: Classifier | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: Device = "auto",
    **options: Any,
) -> WhatIf:
    """Estimate energy, latency and cores against T, weight bits, firing rate and chip.

    Args:
        net: the quantized network or its file.
        data: its test images are run.
        snn: the network it was quantized from, quantized again at each width.
        ann: the classifier, for the GPU's row.
        limit: only the first so many images.
        seed: of the encoding.
        device: the CPU unless ``cuda``.
        **options: of the verb ``what-if``, such as ``steps=[4, 8]``.

    Raises:
        SpikeshipError: nothing to vary, or images that cannot be used.
    """
    graph = integers_of(net)
    listed = {name: _listed(value) for name, value in options.items()}
    given = _what_if_options(listed)
    images = images_of(graph, data, limit)
    question = varying.Question(**given.values(), rules=Rules(given.axons, given.kernels))
    known = None if ann is None else classifier_of(ann, set_of(data), "keep")
    gpu = gpu_rows(
        graph, images, ann=known, result=given.gpu_result, utilisation=given.gpu_utilisation
    )
    return varying.what_if(
        graph,
        images,
        question,
        gpu,
        seed=seed,
        network=None if snn is None else to_nir(spiking_of(snn)),
        running=Running(device=for_integers(device)),
    )


def compare(
    ann: Classifier,
    net: Integers,
    data: Data,
    *,
    converted: Spiking | None = None,
    tuned: Spiking | None = None,
    report: File | None = None,
    chip: str = "loihi2",
    lava: int = 0,
    int8: bool = False,
    gpu_result: File | None = None,
    limit: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Put every stage's accuracy, the chip's estimate and the GPU's row side by side.

    Args:
        ann: the classifier.
        net: its integers.
        data: its test images are run.
        converted: the spiking network before fine-tuning.
        tuned: the one after.
        report: HTML file to write.
        chip: for the estimate.
        lava: images to run on Lava too.
        int8: a row of the classifier in int8 on ONNX Runtime.
        gpu_result: GPU's row as benchmarks/gpu_reference.py measured it.
        limit: only the first so many images.
        seed: of the encoding.

    Raises:
        SpikeshipError: stages of different networks, or images that do not fit.
    """
    graph = integers_of(net)
    images = images_of(graph, data, limit)
    stages = Stages(
        ann=classifier_of(ann, set_of(data), "keep"),
        graph=graph,
        converted=None if converted is None else spiking_of(converted),
        hybrid=None if tuned is None else spiking_of(tuned),
        chip=chip,
        lava_images=lava,
        calibration=images_of(graph, data, CALIBRATION, "train") if int8 else None,
        gpu_result=None if gpu_result is None else Path(gpu_result),
    )
    found = comparing.compare(stages, images, seed=seed)
    if report is not None:
        found.result["report"] = found.write(Path(report))["report"]
    return found


def validate(*, rows: File | None = None) -> dict[str, Any]:
    """Compare estimates with what others measured on chips.

    Args:
        rows: JSON file of rows of your own; docs/validation.md has the format.

    Returns:
        The JSON object of the verb ``validate``.

    Raises:
        SpikeshipError: rows that cannot be read.
    """
    found, _ = validation.compared(() if rows is None else read_rows(Path(rows)))
    return found


def _listed(value: Any) -> Any:
    """Numbers as the command line takes them: between commas."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(str(each) for each in value)
    return value


def _what_if_options(given: Mapping[str, Any]) -> WhatIfOptions:
    """Options of what-if; nothing is written, so there is no folder to name."""
    if "output" in given:
        raise OptionError("what_if: has no option 'output'; write what it returns")
    return filled(WhatIfOptions, "what_if", {**given, "output": Path()})
