"""The main job on data that comes with the toolkit: PyTorch to verified Lava, one directory."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from spikeship.deploy.analysis.compare import Stages, compare
from spikeship.deploy.compiler.quantize import quantize
from spikeship.deploy.export.lava import export_lava
from spikeship.deploy.io import network_file as files
from spikeship.deploy.io.classifier import load
from spikeship.deploy.io.inputs import CALIBRATION, of_set
from spikeship.deploy.options.compare import DemoOptions
from spikeship.deploy.options.shared import Common
from spikeship.deploy.report.report import table
from spikeship.deploy.verbs.console import DONE, NO, Voice
from spikeship.hw_models.atomic import make_folder, replacing
from spikeship.training.ann.checkpoint import save_ann
from spikeship.training.ann.zoo import build
from spikeship.training.choices import Device
from spikeship.training.conversion.convert import convert
from spikeship.training.data import load as data
from spikeship.training.finetuning.stdb import finetune, stdb_config
from spikeship.training.fit.classifier import ann_config, train_ann
from spikeship.training.nir_io.to_nir import to_nir, write_nir

DATA, ARCH, CHIP = "digits", "vgg5", "loihi2"
NUM_STEPS = 16
LAVA_IMAGES = 20


def run_demo(
    out: Path,
    *,
    seed: int = 0,
    quiet: bool = False,
    device: Device = "auto",
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train, convert, fine-tune, quantize, run on Lava, estimate and report, on handwritten digits.

    Args:
        out: directory for ``ann.safetensors``, ``snn.nir``, ``tuned.nir``, ``net.safetensors``,
            ``lava/``, ``report.html`` and ``demo.json``; made where it is missing.
        seed: of everything random.
        quiet: no progress bars.
        device: where to train.
        say: told what happens next.

    Returns:
        The JSON object of the command: compare's, and ``verify``.
    """
    make_folder(out)
    dataset = data.load(DATA)
    images = of_set(dataset, split="train")
    held_out = of_set(dataset, split="test")
    assert images.labels is not None  # the digits are labelled

    say(f"1  train {ARCH} on {len(images.values)} digits, {len(held_out.values)} held out")
    torch.manual_seed(seed)
    model = build(ARCH, dataset.input_shape, dataset.classes)
    train_ann(
        model, dataset, ann_config(dataset.input_shape, seed=seed, device=device), quiet=quiet
    )
    save_ann(
        out / "ann.safetensors",
        model,
        arch=ARCH,
        input_shape=dataset.input_shape,
        classes=dataset.classes,
        data=dict(images.data),
        provenance={"seed": seed},
    )
    ann = load(out / "ann.safetensors")

    say(f"2  convert: balance thresholds for {NUM_STEPS} time steps")
    converted = convert(
        ann.network,
        images.values[:CALIBRATION],
        num_steps=NUM_STEPS,
        peak=images.peak(),
        seed=seed,
        data=images.data,
        provenance=ann.provenance,
    )
    write_nir(out / "snn.nir", to_nir(converted))

    say("3  fine-tune with spike-timing dependent backpropagation (STDB)")
    hybrid, _ = finetune(
        converted,
        lambda indices: images.values[indices],
        torch.from_numpy(images.labels),
        stdb_config(dataset.input_shape, seed=seed, device=device),
        quiet=quiet,
    )
    tuned = to_nir(hybrid)
    write_nir(out / "tuned.nir", tuned)

    say(f"4  quantize to {CHIP}'s integers, export as Lava Processes")
    graph = quantize(tuned, chip=CHIP)
    files.save(graph, out / "net.safetensors")
    export_lava(graph, out / "lava")

    say(f"5  compare all stages on the held-out digits, {LAVA_IMAGES} of them on real Lava")
    stages = Stages(ann, graph, converted, hybrid, CHIP, LAVA_IMAGES)
    result = compare(stages, held_out, seed=seed).write(out / "report.html")
    with replacing(out / "demo.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2))
    return result


def demo(options: DemoOptions, common: Common) -> int:
    """Do the main job on the embedded digits, end to end."""
    voice, out = Voice(common.json, common.quiet), options.out
    result = run_demo(
        out, seed=common.seed, quiet=common.quiet, device=common.device, say=voice.say
    )
    voice.result(result)
    voice.say(table(result))
    check = result["verify"]
    voice.say(
        f"Lava: {check['spikes_compared']} spikes ({check['values_compared']} values) of "
        f"{check['images']} images compared, "
        + ("all equal" if check["spikes_equal"] else str(check["first_difference"]))
    )
    voice.say(f"Everything is in {out}/; open {result['report']}")
    return DONE if check["spikes_equal"] else NO
