"""The options of train, convert and finetune, through the command line, on the digits."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from spikeship.deploy.cli.app import main
from spikeship.deploy.io import network_file as files
from spikeship.deploy.io.inputs import load_images
from spikeship.training.ann.checkpoint import load_ann, save_ann
from spikeship.training.nir_io.from_nir import from_nir, read_nir
from spikeship.training.snn.observe import evaluate

DATA = ("--data", "digits", "--quiet")


def run(*words: Any) -> None:
    """Run a verb that must succeed."""
    assert main([str(word) for word in words]) == 0


def fails(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    """Run a verb that must be refused in one line; returns the line."""
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr().err.strip()
    assert said.startswith("spikeship: ") and "\n" not in said
    return said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A QCFS network trained with what train offers, its log, and its analytic conversion."""
    out = tmp_path_factory.mktemp("options")
    options = ("--activation", "qcfs:4", "--batch-norm", "--width", 0.5, "--batch", 32)
    rates = ("--lr", 0.05, "--schedule", "cosine", "--validation", 100, "--log", out / "log")
    ann = out / "ann.safetensors"
    said = ("--json", out / "train.json")
    run("train", "vgg5", *DATA, *options, *rates, "--epochs", 12, "-o", ann, *said)
    analytic = ("--balance", "analytic", "--encoding", "direct", "-T", 4)
    run("convert", ann, *DATA, *analytic, "-o", out / "snn.nir")
    return out


def test_train_heeds_its_options(folder: Path) -> None:
    found = load_ann(folder / "ann.safetensors")
    names = [type(module).__name__ for module in found.model.modules()]
    assert names.count("BatchNorm2d") == 3 and names.count("QCFS") == 5 and "ReLU" not in names
    assert found.width == 0.5
    settings = found.provenance
    assert (settings["batch_size"], settings["learning_rate"]) == (32, 0.05)
    assert (settings["schedule"], settings["precision"]) == ("cosine", "32-true")
    said = json.loads((folder / "train.json").read_text())
    assert said["epochs"] == 12 and said["accuracy"] > 0.85
    assert 0.8 < said["validation_accuracy"] <= 1.0
    with (folder / "log" / "metrics.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 12


def test_analytic_conversion_keeps_the_answers_in_four_steps(folder: Path) -> None:
    snn = from_nir(read_nir(folder / "snn.nir"))
    test = load_images("digits", None, like=dict(snn.data))
    right = test.correct(evaluate(snn, test.values[:]).argmax(1).numpy())
    said = json.loads((folder / "train.json").read_text())
    assert right is not None and right / 500 > said["accuracy"] - 0.05
    for neuron in snn.neurons.values():
        assert torch.allclose(neuron.v0, neuron.threshold / 2)


def test_fine_tuning_in_integers_gives_the_quantizer_its_integers(folder: Path) -> None:
    tuned, net = folder / "tuned.nir", folder / "net.safetensors"
    options = ("--weight-bits", 4, "--epochs", 2, "--lr", 0.001, "--validation", 100)
    run("finetune", folder / "snn.nir", *DATA, *options, "-o", tuned)
    run("quantize", tuned, "-o", net, "--quiet", "--json", folder / "quantize.json")
    assert json.loads((folder / "quantize.json").read_text())["weight_bits"] == 4
    said = folder / "verify.json"
    run("verify", net, "--against", "reference", *DATA, "-n", 3, "--json", said)
    assert json.loads(said.read_text())["spikes_equal"] is True
    run("simulate", net, *DATA, "--json", folder / "simulate.json")
    integers = json.loads((folder / "simulate.json").read_text())
    assert integers["accuracy"] > 0.85
    # what was trained is what runs: the file's network decides as the integers do
    aware = from_nir(read_nir(tuned))
    test = load_images("digits", None, like=dict(aware.data))
    correct = test.correct(evaluate(aware, test.values[:]).argmax(1).numpy())
    assert correct == integers["correct"]
    wider = folder / "wider.nir"
    run("finetune", tuned, *DATA, "--weight-bits", 6, "--epochs", 1, "-n", 64, "-o", wider)
    run("quantize", wider, "-o", folder / "wider.safetensors", "--quiet")
    assert files.load(folder / "wider.safetensors").metadata["weight_bits"] == 6


def test_finetune_takes_its_options_together(folder: Path) -> None:
    out = folder / "all.nir"
    said = folder / "all.json"
    run(
        *("finetune", folder / "snn.nir", *DATA, "-o", out, "--json", said, "-n", 200),
        *("--surrogate", "atan", "-T", 4, "--start-steps", 6, "--epochs", 3, "--loss", "tet"),
        *("--teacher", folder / "ann.safetensors", "--temperature", 3, "--attached"),
        *("--learn", "threshold,leak", "--learn-per", "channel", "--synop-weight", 0.1),
        *("--precision", "bfloat16", "--checkpointing", "--batch", 50, "--lr", 0.001),
    )
    result = json.loads(said.read_text())
    assert (result["epochs"], result["num_steps"]) == (3, 4)
    before, after = from_nir(read_nir(folder / "snn.nir")), from_nir(read_nir(out))
    told = after.provenance["stdb"]
    assert (told["loss"], told["distill"], told["surrogate"]) == ("tet", 0.5, "atan")
    first = next(iter(after.neurons))
    assert after.neurons[first].threshold.numel() > 1
    assert not torch.equal(
        after.neurons[first].threshold.flatten(), before.neurons[first].threshold.flatten()
    )
    assert not any(path.name.endswith(".state") for path in folder.iterdir())


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("train", "vgg5", "--activation", "qcfs"), "--activation: 'qcfs' is not known"),
        (("train", "vgg5", "--width", "-1"), "width must be a positive factor"),
        (("train", "alexnet"), "architecture 'alexnet' is not known; use one of vgg5"),
        (("train", "vgg5", "--validation", "5000"), "digits"),
    ],
)
def test_unusable_options_of_train_are_one_line(
    words: tuple[str, ...], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert line in fails(capsys, *words, *DATA, "-o", tmp_path / "x.safetensors")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--learn", "weights"), "--learn: 'weights' is not known; use threshold, leak"),
        (("--start-steps", "2"), "start_steps must be more than T"),
        (("--temperature", "3"), "--distill and --temperature need --teacher"),
        (("--chip", "loihi1"), "--chip: has no meaning without --weight-bits"),
        (("--teacher", "other.safetensors"), "other.safetensors: takes images of mean [0.5]"),
        (("--weight-bits", "9"), "weight_bits: 9 is not what loihi2 holds"),
        (("--weight-bits", "8", "--precision", "bfloat16"), "--precision: integers need float32"),
    ],
)
def test_unusable_options_of_finetune_are_one_line(
    folder: Path,
    options: tuple[str, ...],
    line: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = load_ann(folder / "ann.safetensors")
    save_ann(
        tmp_path / "other.safetensors",
        found.model,
        arch=found.arch,
        input_shape=found.input_shape,
        classes=found.classes,
        data={"name": "mine", "mean": [0.5], "std": [1.0]},
        provenance={},
        width=found.width,
    )
    options = tuple(str(tmp_path / x) if x.startswith("other") else x for x in options)
    assert line in fails(
        capsys, "finetune", folder / "snn.nir", *DATA, *options, "-o", tmp_path / "x.nir"
    )


def test_analytic_thresholds_need_bounded_activations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ann = tmp_path / "relu.safetensors"
    run("train", "vgg5", *DATA, "--epochs", 1, "-n", 64, "-o", ann)
    words = ("convert", ann, *DATA, "--balance", "analytic", "-T", 4, "-o", tmp_path / "x.nir")
    assert "clip" in fails(capsys, *words).lower()
    line = fails(capsys, "convert", ann, *DATA, "--weights", "w.pth", "-o", tmp_path / "x.nir")
    assert "--weights" in line and "leave it out" in line
