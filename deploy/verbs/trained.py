"""What the verbs that train share: the state of an interrupted run, and the lines at the end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from spikeship.deploy.io.inputs import Images
from spikeship.deploy.verbs.console import DONE, Voice
from spikeship.training.fit.processes import is_first


def state_beside(output: Path) -> Path:
    """Where an interruptible run keeps its state: beside what it will write."""
    return output.with_name(f"{output.name}.state")


def finish(
    voice: Voice,
    said: dict[str, Any],
    held_out: Images | None,
    predict: Callable[[Images], Tensor],
) -> int:
    """Say what came of training: accuracy on test images, where there are any with labels.

    Of several processes only the first has anything to say.
    """
    if not is_first():
        return DONE
    said |= {"accuracy": None, "images": 0, "correct": None}
    if held_out is not None and held_out.labels is not None:
        count, correct = len(held_out.values), held_out.correct(predict(held_out).numpy())
        assert correct is not None  # the labels are there
        said |= {"accuracy": correct / count, "images": count, "correct": correct}
        voice.say(f"{said['output']}: {correct / count:.2%} of {count} test images")
    voice.result(said)
    return DONE
