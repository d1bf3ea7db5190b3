"""What each of several processes does in test_ddp.py: torchrun ddp_runs.py FOLDER."""

import os
import sys
from pathlib import Path
from typing import Any

import torch
from spiking import chain, images
from torch import Tensor, nn
from training_runs import IMAGES, LABELS, config, loss, model, noisy

from spikeship.training.conversion.convert import convert
from spikeship.training.finetuning.stdb import finetune
from spikeship.training.fit.config import FitError
from spikeship.training.fit.loop import fit

RANK = int(os.environ.get("RANK", "0"))


def curve(folder: Path) -> dict[str, Any]:
    """Train where nothing is drawn: 49 samples in batches of 16, of which the last has one."""
    seen: list[list[int]] = []

    def images_of(indices: Tensor) -> Tensor:
        seen.append(indices.tolist())
        return IMAGES[indices]

    network = model(dropout=0.0)
    settings = config(clip_norm=0.5, log_dir=str(folder / f"logs{RANK}"), warmup=0.5)
    # each process names its own files, so that one that writes too is found
    history = fit(
        network, images_of, LABELS[:49], settings, loss, state_path=folder / f"curve{RANK}"
    )
    return {
        "curve": [(entry.loss, entry.accuracy) for entry in history],
        # the first are those the run is known by
        "seen": seen[1:],
        "weights": network.state_dict(),
    }


def spiking() -> dict[str, Any]:
    """Fine-tune a spiking network without dropout: 35 samples, the last batch has three."""
    network = chain(bias=True)
    for layer in network.layers:
        if isinstance(layer.module, nn.Dropout):
            layer.module.p = 0.0
    x = images(35)
    snn = convert(network, x, num_steps=6, encoding="direct")
    settings = config(epochs=2, optimizer="adam", learning_rate=1e-3)
    tuned, history = finetune(snn, lambda i: x[i], torch.arange(35) % 5, settings, quiet=True)
    return {"curve": [(entry.loss, entry.accuracy) for entry in history]} | {
        "weights": tuned.state_dict()
    }


def interrupted(path: Path, stop: int | None) -> dict[str, Any]:
    """Train with noise and dropout, which each process draws for itself."""
    # of the images the run is known by, then of those it trains on
    noise: list[Tensor] = []

    def images_of(indices: Tensor) -> Tensor:
        if stop is not None and len(noise) == 1 + stop:
            raise KeyboardInterrupt
        drawn = noisy(indices)
        noise.append(drawn - IMAGES[indices])
        return drawn

    network = model()
    settings = config(checkpoint_every=1, optimizer="adam")
    asked = []

    def validate() -> float:
        asked.append(RANK)
        return float(network[0].weight.detach().sum().sin())

    try:
        history = fit(
            network,
            images_of,
            LABELS,
            settings,
            loss,
            state_path=path,
            quiet=True,
            validate=validate,
        )
    except KeyboardInterrupt:
        return {}
    return {
        "curve": [(entry.loss, entry.accuracy, entry.validation) for entry in history],
        "weights": network.state_dict(),
        "noise": noise[1],
        "asked": asked,
    }


def refused(path: Path) -> str:
    """Go on from a state that one process left."""
    try:
        fit(model(), noisy, LABELS, config(), loss, state_path=path, quiet=True)
    except FitError as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    """Run everything; leave what came of it in a file of this process."""
    results: dict[str, Any] = {"curve": curve(folder), "spiking": spiking()}
    if "RANK" in os.environ:
        results["whole"] = interrupted(folder / "whole", None)
        interrupted(folder / "stopped", 6)
        results["resumed"] = interrupted(folder / "stopped", None)
        results["refused"] = refused(folder / "alone")
    torch.save(results, folder / f"results{RANK}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
