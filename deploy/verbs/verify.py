"""The verb verify: every spike compared with an authority."""

from pathlib import Path
from typing import Any, cast

from numpy.typing import NDArray

from spikeship.deploy.io import network_file as files
from spikeship.deploy.io.inputs import images_for, messages_of
from spikeship.deploy.run.verify import Against, random_messages
from spikeship.deploy.run.verify import verify as verify_graph
from spikeship.deploy.verbs.console import DONE, NO, Voice


def verify(
    voice: Voice,
    net: Path,
    against: str,
    data: str | None,
    data_dir: Path | None,
    limit: int | None,
    stall: float,
    seed: int,
) -> int:
    """Compare every spike with an authority."""
    graph = files.load(net)
    messages: NDArray[Any]
    if data is None:
        messages = random_messages(graph, limit or 1, seed)
    else:
        messages = messages_of(graph, images_for(graph, data, data_dir, limit or 1), seed=seed)
    found = verify_graph(graph, messages, cast(Against, against), stall_s=stall)
    for row in found.layers:
        spikes = "" if row["spikes"] is None else f"{row['spikes']} spikes"
        voice.say(f"{'equal' if row['equal'] else 'DIFFER':7} {row['name']}  {spikes}")
    if found.first_difference is None:
        voice.say(
            f"{found.spikes_compared} spikes, {found.values_compared} values over {found.images} "
            f"images and {found.steps} chip steps each, all equal to {against}"
        )
    else:
        voice.warn(f"first difference from {against}: {found.first_difference}")
    voice.result(found.to_json())
    return DONE if found.spikes_equal else NO
