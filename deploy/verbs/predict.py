"""The verb predict: answers to a user's own inputs."""

from pathlib import Path

import numpy as np

from spikeship.deploy.io import network_file as files
from spikeship.deploy.io.own_inputs import read_own
from spikeship.deploy.run.evaluate import Running, evaluate_graph
from spikeship.deploy.verbs.console import DONE, Voice


def predict(
    voice: Voice, net: Path, source: Path, limit: int | None, device: str, seed: int
) -> int:
    """Answer a user's own inputs."""
    graph = files.load(net)
    images = read_own(source, graph, limit)
    answers = []
    running = Running(device=device)
    for scores in evaluate_graph(graph, images, seed=seed, running=running).scores:
        best = int(scores.argmax())
        rest = np.delete(scores, best)
        margin = int(scores[best] - rest.max()) if len(rest) else int(scores[best])
        answers.append({"class": best, "margin": margin, "scores": [int(s) for s in scores]})
        voice.say(f"class {best}, margin {margin}")
    voice.result({"predictions": answers})
    return DONE
