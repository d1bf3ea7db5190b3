"""The verb compare: all stages side by side, and the report."""

from dataclasses import dataclass
from pathlib import Path

from spikeship.deploy.analysis.compare import Stages
from spikeship.deploy.analysis.compare import compare as compare_stages
from spikeship.deploy.io import classifier as anns
from spikeship.deploy.io import network_file as files
from spikeship.deploy.io.inputs import CALIBRATION, images_for
from spikeship.deploy.report.report import table
from spikeship.deploy.verbs.console import DONE, NO, Voice, check_writable
from spikeship.training.nir_io.from_nir import from_nir, read_nir


@dataclass(frozen=True)
class Contest:
    """What compare was asked for."""

    ann: Path | None
    arch: str | None
    weights: Path | None
    snn: Path | None
    converted: Path | None
    net: Path
    chip: str
    lava: int
    report: Path
    int8: bool = False
    gpu_result: Path | None = None


def compare(
    voice: Voice,
    request: Contest,
    data: str,
    data_dir: Path | None,
    limit: int | None,
    seed: int,
) -> int:
    """Compare all stages and write the report."""
    check_writable(request.report)
    graph = files.load(request.net)
    images = images_for(graph, data, data_dir, limit)
    ann = anns.load(
        request.ann,
        arch=request.arch,
        weights=request.weights,
        input_shape=graph.input.shape,
    )
    calibration = None
    if request.int8:
        calibration = images_for(graph, data, data_dir, CALIBRATION, split="train")
    stages = Stages(
        ann=ann,
        graph=graph,
        converted=None if request.converted is None else from_nir(read_nir(request.converted)),
        hybrid=None if request.snn is None else from_nir(read_nir(request.snn)),
        chip=request.chip,
        lava_images=request.lava,
        calibration=calibration,
        gpu_result=request.gpu_result,
    )
    found = compare_stages(stages, images, seed=seed)
    result = found.write(request.report)
    voice.say(table(result))
    voice.say(f"report: {result['report']}")
    voice.result(result)
    equal = found.verification is None or found.verification.spikes_equal
    return DONE if equal else NO
