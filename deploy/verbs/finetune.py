"""The verb finetune: a spiking network trained on, in real numbers or in a chip's integers."""

from typing import Any

from spikeship.deploy.io.inputs import of_set
from spikeship.deploy.io.sets import load_data
from spikeship.deploy.options.finetune import FinetuneFiles, FinetuneOptions
from spikeship.deploy.options.shared import Common, Source
from spikeship.deploy.pipeline.finetune import check_finetuning
from spikeship.deploy.pipeline.finetune import finetune as finetune_network
from spikeship.deploy.verbs.console import Voice, check_writable
from spikeship.deploy.verbs.trained import finish, state_beside
from spikeship.training.fit.processes import is_first
from spikeship.training.nir_io.from_nir import load_nir
from spikeship.training.nir_io.to_nir import to_nir, write_nir
from spikeship.training.snn.observe import evaluate

# test images that the accuracy is said of
REPORTED = 1000


def finetune(files: FinetuneFiles, source: Source, options: FinetuneOptions, common: Common) -> int:
    """Fine-tune a spiking network and write it."""
    voice = Voice(common.json, common.quiet)
    check_writable(files.output)
    check_finetuning(options)
    snn = load_nir(files.snn)
    encoding = snn.coding.encoding
    dataset = load_data(
        source.data,
        source.data_dir,
        limit=source.limit,
        messages=encoding == "spikes",
        validation=options.validation,
        seed=common.seed,
    )
    state = state_beside(files.output)
    found = finetune_network(
        snn,
        dataset,
        options,
        seed=common.seed,
        device=common.device,
        state=state,
        quiet=voice.quiet,
    )
    tuned = found.snn
    if is_first():
        write_nir(files.output, to_nir(tuned))
        for note in found.notes:
            voice.say(note)
        state.unlink(missing_ok=True)
    last = found.history[-1]
    said: dict[str, Any] = {
        "output": str(files.output),
        "num_steps": tuned.num_steps,
        "epochs": len(found.history),
        "train_accuracy": last.accuracy,
        "validation_accuracy": last.validation,
    }
    few = min(source.limit or REPORTED, REPORTED)
    held_out = None if dataset.test is None else of_set(dataset, limit=few, like=dict(snn.data))
    return finish(
        voice,
        said,
        held_out,
        lambda held: evaluate(
            tuned, held.source(encoding), seed=common.seed, indices=held.indices
        ).argmax(1),
    )
