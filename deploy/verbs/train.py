"""The verb train: a classifier of a known architecture on a known set."""

from typing import Any

from spikeship.deploy.io.inputs import of_set
from spikeship.deploy.io.sets import load_data
from spikeship.deploy.options.shared import Common, Source
from spikeship.deploy.options.train import TrainFiles, TrainOptions
from spikeship.deploy.pipeline.train import train as train_classifier
from spikeship.deploy.verbs.console import Voice, check_writable
from spikeship.deploy.verbs.trained import finish, state_beside
from spikeship.training.fit.classifier import evaluate_ann
from spikeship.training.fit.processes import is_first


def train(files: TrainFiles, source: Source, options: TrainOptions, common: Common) -> int:
    """Train a classifier and write it."""
    voice = Voice(common.json, common.quiet)
    check_writable(files.output)
    dataset = load_data(
        source.data,
        source.data_dir,
        limit=source.limit,
        validation=options.validation,
        seed=common.seed,
    )
    state = state_beside(files.output)
    found = train_classifier(
        files.arch,
        dataset,
        options,
        seed=common.seed,
        device=common.device,
        state=state,
        quiet=voice.quiet,
    )
    if is_first():
        found.save(files.output)
        state.unlink(missing_ok=True)
    last = found.history[-1]
    said: dict[str, Any] = {
        "output": str(files.output),
        "epochs": len(found.history),
        "seconds": sum(entry.seconds for entry in found.history),
        "parameters": found.parameters,
        "train_accuracy": last.accuracy,
        "validation_accuracy": last.validation,
    }
    held_out = of_set(dataset) if options.test and dataset.test is not None else None
    return finish(voice, said, held_out, lambda images: evaluate_ann(found.model, images.values))
