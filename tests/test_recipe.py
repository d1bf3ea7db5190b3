"""The recipes of train: the paper's, ours, and what can be set."""

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from spikeship.training.ann.zoo import build
from spikeship.training.data.augment import Variation
from spikeship.training.data.load import DataError, DataSet, Split
from spikeship.training.fit.config import FitConfig, FitError
from spikeship.training.fit.recipe import recipe_for

PIXELS = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
CIFAR = DataSet(
    "x",
    Split(PIXELS, torch.zeros(4, dtype=torch.int64)),
    None,
    2,
    (0.5,) * 3,
    (0.2,) * 3,
    augmentation="shift-flip",
)
SMALL = replace(CIFAR, train=Split(PIXELS[..., :8, :8], CIFAR.split("train").labels))
PLAIN = nn.Linear(2, 2)


def test_the_papers_recipe_is_the_papers() -> None:
    found = recipe_for(PLAIN, CIFAR, paper=True)
    assert found.config == FitConfig(epochs=300)
    config = found.config
    assert (config.learning_rate, config.momentum, config.weight_decay) == (1e-2, 0.9, 5e-4)
    assert (config.batch_size, config.schedule, config.precision) == (64, "milestones", "32-true")
    rates = [config.rate(epoch) for epoch in (0, 179, 180, 239, 240, 269, 270, 299)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5])
    assert found.variation == Variation(4, "black", "random")
    assert found.label_smoothing == 0
    assert recipe_for(PLAIN, CIFAR, paper=True, settings={"epochs": 2}).config.epochs == 2


def test_ours_depends_on_batch_norm_and_size() -> None:
    norm = build("fast9", (3, 32, 32), 2, width=0.1)
    rates = [
        recipe_for(model, dataset).config.learning_rate
        for dataset in (CIFAR, SMALL)
        for model in (norm, PLAIN)
    ]
    assert rates[0] > rates[1] and rates[2] > rates[3]
    ours = recipe_for(norm, CIFAR)
    assert ours.config.schedule == "one-cycle" and ours.config.nesterov
    assert ours.config.averaging > 0 and ours.label_smoothing > 0
    assert ours.variation == Variation(4, "reflect", "alternating")


@pytest.mark.parametrize("fast", [True, False])
def test_bfloat16_is_taken_where_it_is_fast(fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: fast)
    cpu = {"device": "cpu"}
    wanted = "bf16-mixed" if fast else "32-true"
    assert recipe_for(PLAIN, CIFAR, settings=cpu).config.precision == wanted
    assert recipe_for(PLAIN, SMALL, settings=cpu).config.precision == "32-true"
    chosen = cpu | {"precision": "32-true"}
    assert recipe_for(PLAIN, CIFAR, settings=chosen).config.precision == "32-true"
    assert recipe_for(PLAIN, CIFAR, paper=True, settings=cpu).config.precision == "32-true"


def test_everything_can_be_set() -> None:
    found = recipe_for(
        PLAIN,
        CIFAR,
        settings={"batch_size": 7, "decoupled": True},
        variation={"cutout": 3, "fill": "black"},
        label_smoothing=0.3,
    )
    assert (found.config.batch_size, found.config.decoupled) == (7, True)
    assert found.variation == Variation(4, "black", "alternating", 3)
    assert found.label_smoothing == 0.3
    assert found.said()["variation"]["cutout"] == 3 and found.said()["label_smoothing"] == 0.3
    with pytest.raises(FitError):
        recipe_for(PLAIN, CIFAR, settings={"momentum": -1})
    with pytest.raises(DataError):
        recipe_for(PLAIN, CIFAR, variation={"cutout": -1})


def test_the_words_of_options_load_no_torch() -> None:
    code = "import sys, spikeship.training.choices as c; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
