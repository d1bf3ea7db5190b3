"""The verb convert: a trained classifier becomes a spiking network."""

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io import classifier
from spikeship.deploy.io.sets import load_data
from spikeship.deploy.options.convert import ClassifierFiles, ConvertOptions
from spikeship.deploy.options.shared import Common, Source
from spikeship.deploy.pipeline.convert import MOST_LOST, Conversion
from spikeship.deploy.pipeline.convert import convert as convert_classifier
from spikeship.deploy.verbs.console import DONE, Voice, check_writable
from spikeship.training.nir_io.to_nir import to_nir, write_nir


def convert(files: ClassifierFiles, source: Source, options: ConvertOptions, common: Common) -> int:
    """Convert a classifier and write the spiking network."""
    voice = Voice(common.json, common.quiet)
    check_writable(files.output)
    dataset = load_data(
        source.data,
        source.data_dir,
        limit=source.limit,
        messages=options.encoding == "spikes",
    )
    ann = classifier.load(
        files.ann,
        arch=files.arch,
        weights=files.weights,
        untrained=files.untrained,
        input_shape=dataset.input_shape,
        max_pool=options.max_pool,
    )
    found = convert_classifier(
        ann,
        dataset,
        options,
        statistics=_statistics(files),
        seed=common.seed,
        device=common.device,
    )
    snn = found.snn
    write_nir(files.output, to_nir(snn))
    thresholds = {name: float(neuron.threshold.max()) for name, neuron in snn.neurons.items()}
    voice.say(f"{files.output}: {len(thresholds)} neuron layers, T = {snn.num_steps}")
    _tell(voice, found)
    voice.result(
        {
            "output": str(files.output),
            "num_steps": snn.num_steps,
            "encoding": options.encoding,
            "timing": snn.timing,
            "thresholds": thresholds,
            **found.judged.to_json(),
            "held_back": found.held_back,
            "tried": list(found.tried),
        }
    )
    return DONE


def _tell(voice: Voice, found: Conversion) -> None:
    """Say what classifier and network get right, what each layer adds, and what would do better."""
    judged = found.judged
    which = "held-back" if found.held_back else "calibration"
    where = f"{judged.images} {which} training images"
    if judged.classifier is not None and judged.converted is not None:
        voice.say(
            f"classifier {judged.classifier:.1%}, spiking network {judged.converted:.1%} of {where}"
        )
    else:
        voice.say(f"spiking network and classifier agree on {judged.agreement:.1%} of {where}")
    for name, error in judged.errors.items():
        voice.say(f"  {name:30} {error:6.2%} of its activations unsaid")
    if judged.lost <= MOST_LOST:
        return
    text = f"{judged.lost:.1f} points are lost on {where}"
    if found.remedy is not None:
        options, lost = found.remedy
        text += f"; with {options} it is {max(lost, 0.0):.1f}, tried on them"
    else:
        said = ", ".join(found.tried) or "nothing else applies"
        text += f"; no option that was tried does better ({said}): fine-tune it"
    voice.warn(text)


def _statistics(files: ClassifierFiles) -> dict[str, list[float]]:
    """Mean and std as they are given, numbers between commas."""
    found = {}
    for name, text in (("mean", files.mean), ("std", files.std)):
        if text is not None:
            try:
                found[name] = [float(part) for part in text.split(",")]
            except ValueError:
                raise DeployError(f"--{name}: {text!r} is not numbers between commas") from None
    if min(found.get("std", [1.0])) <= 0:
        raise DeployError("--std: must be positive for every channel")
    return found
