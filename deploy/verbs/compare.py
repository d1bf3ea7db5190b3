"""The verb compare: all stages side by side, and the report."""

from spikeship.deploy.analysis.compare import Stages
from spikeship.deploy.analysis.compare import compare as compare_stages
from spikeship.deploy.io import classifier, network_file
from spikeship.deploy.io.inputs import CALIBRATION, images_for
from spikeship.deploy.options.compare import CompareOptions
from spikeship.deploy.options.shared import Common, Source
from spikeship.deploy.report.report import table
from spikeship.deploy.verbs.console import DONE, NO, Voice, check_writable
from spikeship.training.nir_io.from_nir import load_nir


def compare(options: CompareOptions, source: Source, common: Common) -> int:
    """Compare all stages and write the report."""
    voice = Voice(common.json, common.quiet)
    check_writable(options.report)
    graph = network_file.load(options.net)
    images = images_for(graph, source.data, source.data_dir, source.limit)
    ann = classifier.load(
        options.ann,
        arch=options.arch,
        weights=options.weights,
        untrained=options.untrained,
        input_shape=graph.input.shape,
    )
    calibration = None
    if options.int8:
        calibration = images_for(graph, source.data, source.data_dir, CALIBRATION, split="train")
    stages = Stages(
        ann=ann,
        graph=graph,
        converted=None if options.converted is None else load_nir(options.converted),
        hybrid=None if options.snn is None else load_nir(options.snn),
        chip=options.chip,
        lava_images=options.lava,
        calibration=calibration,
        gpu_result=options.gpu_result,
    )
    found = compare_stages(stages, images, seed=common.seed)
    result = found.write(options.report)
    voice.say(table(result))
    voice.say(f"report: {result['report']}")
    voice.result(result)
    equal = found.verification is None or found.verification.spikes_equal
    return DONE if equal else NO
