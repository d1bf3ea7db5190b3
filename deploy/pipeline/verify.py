"""Compare every spike with an authority."""

from typing import Any

from spikeship.deploy.io.inputs import Images, messages_of
from spikeship.deploy.options.simulate import VerifyOptions
from spikeship.deploy.run.verify import Verification, random_messages
from spikeship.deploy.run.verify import verify as verify_messages
from spikeship.hw_models.graph import FixedGraph


def verify(
    graph: FixedGraph,
    options: VerifyOptions | None = None,
    *,
    images: Images | None = None,
    count: int = 1,
    seed: int = 0,
) -> Verification:
    """Compare every spike of every layer with real Lava, or with the reference.

    Args:
        graph: the network.
        options: with whom.
        images: what to run; None for random messages of the network's kind.
        count: how many of those.
        seed: of the encoding, or of the messages.

    Raises:
        SpikeshipError: images that do not fit, or Lava did not finish.
    """
    options = options or VerifyOptions()
    messages: Any
    if images is None:
        messages = random_messages(graph, count, seed)
    else:
        messages = messages_of(graph, images, seed=seed)
    return verify_messages(graph, messages, options.against, stall_s=options.stall)
