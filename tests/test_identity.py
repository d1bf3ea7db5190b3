"""Whose state a run may go on from: its own; any other is refused and what differs is named."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from spiking import chain, images
from torch import Tensor, nn
from training_runs import LABELS, config, loss, model, noisy

from spikeship.deploy.compiler.quantize import quantize
from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.network import INPUT, Layer, Network
from spikeship.training.ann.zoo import build
from spikeship.training.conversion.convert import convert
from spikeship.training.data.load import DataSet, Split
from spikeship.training.finetuning.stdb import finetune
from spikeship.training.finetuning.tuning import Tuning
from spikeship.training.fit.classifier import train_ann
from spikeship.training.fit.config import FitError
from spikeship.training.fit.identity import spread, structure
from spikeship.training.fit.loop import fit
from spikeship.training.nir_io.to_nir import to_nir
from spikeship.training.quantization.qat import quantization_aware
from spikeship.training.snn.spiking_network import SpikingNetwork

X, Y = images(24, seed=4), torch.arange(24) % 5
KEPT = X[:10], Y[:10]
SETTINGS = config(epochs=1, batch_size=8)


def _refused(path: Path, run: Callable[..., Any], given: dict[str, Any], key: str) -> None:
    """A run's state is gone on with by itself and by no other."""
    run(path)
    run(path)
    with pytest.raises(FitError, match=rf"differs in {key}\)") as caught:
        run(path, **given)
    assert "\n" not in str(caught.value)


def test_some_samples_are_from_all_over_the_set() -> None:
    assert spread(3).tolist() == [0, 1, 2]
    assert spread(33).tolist() == list(range(0, 33, 2))
    assert len(spread(50_000)) == 32
    assert spread(50_000)[-1] > 48_000


def test_images_and_what_varies_them_are_the_runs_own(tmp_path: Path) -> None:
    def run(path: Path, images_of: Callable[[Tensor], Tensor] = noisy, rate: float = 0.3) -> None:
        fit(model(rate), images_of, LABELS, SETTINGS, loss, state_path=path, quiet=True)

    _refused(tmp_path / "a", run, {"images_of": lambda i: noisy(i) + 1e-6}, "images")
    _refused(tmp_path / "b", run, {"rate": 0.4}, "modules")


def test_who_reads_whom_is_structure() -> None:
    def network(read: str) -> Network:
        layers = [
            Layer("a", nn.Linear(4, 4), (INPUT,)),
            Layer("b", nn.ReLU(), ("a",)),
            Layer("c", nn.Linear(4, 4), ("b",)),
            Layer("d", nn.ReLU(), ("c",)),
            Layer("e", nn.Linear(4, 3), (read,)),
        ]
        return Network(layers, (4,))

    assert structure(network("d")) == structure(network("d")) != structure(network("b"))


def _spiking() -> SpikingNetwork:
    return convert(chain(), X, num_steps=4)


def _in_integers(bits: int) -> SpikingNetwork:
    snn = _spiking()
    return quantization_aware(snn, quantize(to_nir(snn), weight_bits=bits))


def _other_coding() -> SpikingNetwork:
    snn = _spiking()
    snn.coding = replace(snn.coding, scale=2 * snn.coding.scale)
    return snn


def _other_reset() -> SpikingNetwork:
    snn = _spiking()
    for neuron in snn.neurons.values():
        neuron.reset = "zero"
    return snn


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"snn": _other_coding}, "coding"),
        ({"snn": _other_reset}, "modules"),
        ({"x": images(24, seed=5)}, "images"),
        ({"validation": (X[1:11], Y[:10])}, "validation"),
        ({"validation": (X[:10], Y[1:11])}, "validation"),
        ({"validation": None}, "validated, validation"),
    ],
)
def test_fine_tuning_goes_on_from_its_own_state(
    tmp_path: Path, given: dict[str, Any], key: str
) -> None:
    def run(
        path: Path,
        snn: Callable[[], SpikingNetwork] = _spiking,
        x: Tensor = X,
        validation: tuple[Tensor, Tensor] | None = KEPT,
    ) -> None:
        options: dict[str, Any] = {"validation": validation, "state_path": path}
        finetune(snn(), lambda i: x[i], Y, SETTINGS, quiet=True, **options)

    _refused(tmp_path / "state", run, given, key)


def test_integers_of_another_width_are_another_run(tmp_path: Path) -> None:
    def run(path: Path, bits: int = 8) -> None:
        options: dict[str, Any] = {"state_path": path, "quiet": True}
        finetune(_in_integers(bits), lambda i: X[i], Y, SETTINGS, **options)

    _refused(tmp_path / "state", run, {"bits": 3}, "integers")


def test_a_teacher_is_more_than_its_weights(tmp_path: Path) -> None:
    def run(path: Path, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        torch.manual_seed(1)
        teacher = nn.Sequential(nn.Flatten(), nn.Linear(128, 5), activation())
        options: dict[str, Any] = {"teacher": teacher, "state_path": path, "quiet": True}
        finetune(_spiking(), lambda i: X[i], Y, SETTINGS, tuning=Tuning(distill=0.5), **options)

    _refused(tmp_path / "state", run, {"activation": nn.GELU}, "teacher")


PIXELS = torch.randint(256, (24, 1, 8, 8), generator=torch.Generator().manual_seed(6)).byte()
SET = DataSet("set", Split(PIXELS, Y), None, 5, (0.5,), (0.3,), Split(PIXELS[:10], Y[:10]))


@pytest.mark.parametrize(
    ("given", "key"),
    [
        ({"activation": lambda: QCFS(2.0, 8)}, "modules"),
        ({"activation": lambda: ClippedReLU(2.0)}, "modules"),
        ({"rate": 0.25}, "modules"),
        ({"dataset": replace(SET, name="other")}, "data"),
        ({"dataset": replace(SET, mean=(0.4,))}, "images, data"),
        ({"dataset": replace(SET, std=(0.2,))}, "images, data"),
        ({"dataset": replace(SET, augmentation="shift-flip")}, "images, augmentation"),
        ({"dataset": replace(SET, train=Split(PIXELS.flip(0), Y))}, "images"),
        ({"dataset": replace(SET, validation=Split(PIXELS[1:11], Y[:10]))}, "validation"),
        ({"dataset": replace(SET, validation=Split(PIXELS[:10], Y[1:11]))}, "validation"),
    ],
)
def test_training_goes_on_from_its_own_state(
    tmp_path: Path, given: dict[str, Any], key: str
) -> None:
    def run(
        path: Path,
        dataset: DataSet = SET,
        activation: Callable[[], nn.Module] = lambda: QCFS(2.0, 4),
        rate: float = 0.5,
    ) -> None:
        torch.manual_seed(0)
        network = build("vgg5", (1, 8, 8), 5, width=0.1, activation=activation)
        dropouts = [part for part in network.modules() if isinstance(part, nn.Dropout)]
        assert dropouts
        for dropout in dropouts:
            dropout.p = rate
        train_ann(network, dataset, SETTINGS, state_path=path, quiet=True)

    _refused(tmp_path / "state", run, given, key)
