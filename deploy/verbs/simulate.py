"""The verb ``simulate``: a network over a data set, its accuracy, counts and recordings."""

from collections.abc import Mapping
from typing import Any

from spikeship.deploy.io import network_file
from spikeship.deploy.io.inputs import images_for
from spikeship.deploy.options.shared import Common, NetFile, Source
from spikeship.deploy.options.simulate import SimulateOptions
from spikeship.deploy.run.simulation import check
from spikeship.deploy.run.simulation import simulate as run
from spikeship.deploy.verbs.console import DONE, Voice, check_writable


def simulate(file: NetFile, source: Source, options: SimulateOptions, common: Common) -> int:
    """Run a network over a data set: accuracy and counts."""
    voice = Voice(common.json, common.quiet)
    check(options, common.device)
    if options.record is not None:
        check_writable(options.record)
    graph = network_file.load(file.net)
    images = images_for(graph, source.data, source.data_dir, source.limit)
    with voice.progress(len(images.values), "images") as progress:
        found = run(
            graph, images, options, seed=common.seed, device=common.device, progress=progress
        )
    _tell(voice, found.on, found.result)
    voice.result(found.result)
    return DONE


def _tell(voice: Voice, on: str, result: Mapping[str, Any]) -> None:
    if result["correct"] is not None:
        voice.say(
            f"{result['correct']} of {result['images']} right ({result['accuracy']:.2%}), on {on}"
        )
    voice.say(
        f"per inference: {result['spikes']:.0f} spikes, {result['synops']['effective']:.0f} "
        f"synaptic operations, {result['chip_steps']} chip steps"
    )
    if "early_exit" in result:
        cost = result["early_exit"]
        kept = f"the same class as all {result['num_steps']} for {cost['agreement']:.2%}"
        voice.say(
            f"early exit: {cost['mean_steps']:.1f} steps on average, {kept} of "
            f"{cost['cost_images']} images"
        )
