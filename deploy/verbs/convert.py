"""The verb convert: a trained classifier becomes a spiking network."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io import classifier as anns
from spikeship.deploy.io.inputs import CALIBRATION, of_set
from spikeship.deploy.verbs.console import DONE, Voice, check_writable
from spikeship.deploy.verbs.fitting import Source
from spikeship.training.conversion.calibrate import Calibrated
from spikeship.training.conversion.convert import Start
from spikeship.training.conversion.convert import convert as convert_network
from spikeship.training.fit.config import Device
from spikeship.training.fit.processes import pick
from spikeship.training.frontends.pools import MaxPool
from spikeship.training.nir_io.to_nir import to_nir, write_nir
from spikeship.training.snn.encoding import Encoding
from spikeship.training.snn.neurons import Reset


@dataclass(frozen=True)
class Conversion:
    """What convert was asked for; see ``training.convert.convert`` for the options.

    Attributes:
        ann: file of the classifier, or None.
        arch: ``package.module:factory`` of a torch module instead.
        weights: its state dict.
        max_pool: what becomes of max pools.
        mean: of each channel, numbers between commas, where the classifier's file says none.
        std: likewise.
    """

    ann: Path | None
    arch: str | None
    weights: Path | None
    max_pool: MaxPool
    mean: str | None
    std: str | None
    num_steps: int
    encoding: Encoding
    balance: str
    per_channel: bool
    factor: float | None
    v0: Start | None
    calibrate: Calibrated | None
    leak: float
    reset: Reset


def convert(
    voice: Voice, request: Conversion, source: Source, output: Path, seed: int, device: Device
) -> int:
    """Convert a classifier and write the spiking network."""
    check_writable(output)
    encoding = request.encoding
    dataset = source.load(messages=encoding == "spikes")
    ann = anns.load(
        request.ann,
        arch=request.arch,
        weights=request.weights,
        input_shape=dataset.input_shape,
        max_pool=request.max_pool,
    )
    like = dict(ann.data) | _statistics(request)
    images = of_set(dataset, split="train", like=like, input_shape=ann.network.input_shape)
    snn = convert_network(
        ann.network.to(pick(device)),
        images.source(encoding)[:CALIBRATION],
        num_steps=request.num_steps,
        encoding=encoding,
        peak=None if encoding == "spikes" else images.peak(),
        balance=request.balance,
        per_channel=request.per_channel,
        factor=request.factor,
        v0=request.v0,
        calibrate=request.calibrate,
        leak=request.leak,
        reset=request.reset,
        seed=seed,
        data=images.data,
        provenance={**ann.provenance, "convert": _said(request)},
    )
    write_nir(output, to_nir(snn.cpu()))
    thresholds = {name: float(neuron.threshold.max()) for name, neuron in snn.neurons.items()}
    voice.say(f"{output}: {len(thresholds)} neuron layers, T = {snn.num_steps}")
    voice.result(
        {
            "output": str(output),
            "num_steps": snn.num_steps,
            "encoding": encoding,
            "thresholds": thresholds,
        }
    )
    return DONE


def _said(request: Conversion) -> dict[str, Any]:
    names = ("balance", "per_channel", "factor", "v0", "calibrate")
    return {name: getattr(request, name) for name in names}


def _statistics(request: Conversion) -> dict[str, list[float]]:
    found = {}
    for name, text in (("mean", request.mean), ("std", request.std)):
        if text is not None:
            try:
                found[name] = [float(part) for part in text.split(",")]
            except ValueError:
                raise DeployError(f"--{name}: {text!r} is not numbers between commas") from None
    if min(found.get("std", [1.0])) <= 0:
        raise DeployError("--std: must be positive for every channel")
    return found
