"""The verb predict: answers to a user's own inputs."""

from spikeship.deploy.io import network_file
from spikeship.deploy.io.own_inputs import read_own
from spikeship.deploy.options.shared import Common
from spikeship.deploy.options.simulate import PredictFiles
from spikeship.deploy.pipeline.predict import predict as predict_images
from spikeship.deploy.verbs.console import DONE, Voice


def predict(files: PredictFiles, common: Common) -> int:
    """Answer a user's own inputs."""
    voice = Voice(common.json, common.quiet)
    graph = network_file.load(files.net)
    images = read_own(files.source, graph, files.limit)
    answers = predict_images(graph, images, seed=common.seed, device=common.for_integers)
    for answer in answers:
        voice.say(f"class {answer.label}, margin {answer.margin}")
    said = [
        {"class": answer.label, "margin": answer.margin, "scores": list(answer.scores)}
        for answer in answers
    ]
    voice.result({"predictions": said})
    return DONE
