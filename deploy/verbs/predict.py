"""The verb predict: answers to a user's own inputs."""

import numpy as np

from spikeship.deploy.io import network_file
from spikeship.deploy.io.own_inputs import read_own
from spikeship.deploy.options.shared import Common
from spikeship.deploy.options.simulate import PredictFiles
from spikeship.deploy.run.evaluate import Running, evaluate_graph
from spikeship.deploy.verbs.console import DONE, Voice


def predict(files: PredictFiles, common: Common) -> int:
    """Answer a user's own inputs."""
    voice = Voice(common.json, common.quiet)
    graph = network_file.load(files.net)
    images = read_own(files.source, graph, files.limit)
    answers = []
    running = Running(device=common.for_integers)
    for scores in evaluate_graph(graph, images, seed=common.seed, running=running).scores:
        best = int(scores.argmax())
        rest = np.delete(scores, best)
        margin = int(scores[best] - rest.max()) if len(rest) else int(scores[best])
        answers.append({"class": best, "margin": margin, "scores": [int(s) for s in scores]})
        voice.say(f"class {best}, margin {margin}")
    voice.result({"predictions": answers})
    return DONE
