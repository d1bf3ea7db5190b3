"""The verb verify: every spike compared with an authority."""

from spikeship.deploy.io import network_file
from spikeship.deploy.io.inputs import images_for
from spikeship.deploy.options.shared import Common, MaybeSource, NetFile
from spikeship.deploy.options.simulate import VerifyOptions
from spikeship.deploy.pipeline.verify import verify as verify_network
from spikeship.deploy.verbs.console import DONE, NO, Voice


def verify(file: NetFile, source: MaybeSource, options: VerifyOptions, common: Common) -> int:
    """Compare every spike with an authority."""
    voice = Voice(common.json, common.quiet)
    graph, few = network_file.load(file.net), source.limit or 1
    images = None
    if source.data is not None:
        images = images_for(graph, source.data, source.data_dir, few)
    found = verify_network(graph, options, images=images, count=few, seed=common.seed)
    for row in found.layers:
        spikes = "" if row["spikes"] is None else f"{row['spikes']} spikes"
        voice.say(f"{'equal' if row['equal'] else 'DIFFER':7} {row['name']}  {spikes}")
    if found.first_difference is None:
        voice.say(
            f"{found.spikes_compared} spikes, {found.values_compared} values over {found.images} "
            f"images and {found.steps} chip steps each, all equal to {options.against}"
        )
    else:
        voice.warn(f"first difference from {options.against}: {found.first_difference}")
    voice.result(found.to_json())
    return DONE if found.spikes_equal else NO
