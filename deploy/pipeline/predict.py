"""Say class and margin of inputs."""

from dataclasses import dataclass

import numpy as np

from spikeship.deploy.io.inputs import Images
from spikeship.deploy.run.evaluate import Running, evaluate_graph
from spikeship.hw_models.graph import FixedGraph


@dataclass(frozen=True)
class Prediction:
    """An answer to one input.

    Attributes:
        label: the class.
        margin: by how much its score leads.
        scores: of each class, the readout's integers.
    """

    label: int
    margin: int
    scores: tuple[int, ...]

    def __repr__(self) -> str:
        return f"<Prediction: class {self.label}, margin {self.margin}>"


def predict(
    graph: FixedGraph, images: Images, *, seed: int = 0, device: str = "cpu"
) -> list[Prediction]:
    """Run a network and say class and margin of every image.

    Args:
        graph: the network.
        images: what to run.
        seed: of the encoding.
        device: what runs the integers, ``cpu`` or ``cuda``.
    """
    answers = []
    found = evaluate_graph(graph, images, seed=seed, running=Running(device=device))
    for scores in found.scores:
        best = int(scores.argmax())
        rest = np.delete(scores, best)
        margin = int(scores[best] - rest.max()) if len(rest) else int(scores[best])
        answers.append(Prediction(best, margin, tuple(int(s) for s in scores)))
    return answers
