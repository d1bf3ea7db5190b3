"""Turn a classifier into a spiking network."""

from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import CALIBRATION, of_set
from spikeship.deploy.options.convert import ConvertOptions
from spikeship.training.choices import Device
from spikeship.training.conversion.convert import convert as convert_network
from spikeship.training.data.load import DataSet
from spikeship.training.fit.processes import pick
from spikeship.training.snn.spiking_network import SpikingNetwork


def convert(
    ann: Ann,
    dataset: DataSet,
    options: ConvertOptions | None = None,
    *,
    statistics: dict[str, list[float]] | None = None,
    seed: int = 0,
    device: Device = "auto",
) -> SpikingNetwork:
    """Turn a classifier into a spiking network by balancing thresholds.

    Args:
        ann: the classifier.
        dataset: its training images are what thresholds are balanced on.
        options: how.
        statistics: ``mean`` and ``std`` of each channel, where the classifier says none.
        seed: of the encoding.
        device: where.

    Raises:
        SpikeshipError: an option, a network or a set that cannot be used.
    """
    options = options or ConvertOptions()
    encoding = options.encoding
    like = {**ann.data, **(statistics or {})}
    images = of_set(dataset, split="train", like=like, input_shape=ann.network.input_shape)
    snn = convert_network(
        ann.network.to(pick(device)),
        images.source(encoding)[:CALIBRATION],
        num_steps=options.num_steps,
        encoding=encoding,
        peak=None if encoding == "spikes" else images.peak(),
        balance=options.balance,
        per_channel=options.per_channel,
        factor=options.factor,
        v0=options.v0,
        calibrate=options.calibrate,
        leak=options.leak,
        reset=options.reset,
        seed=seed,
        data=images.data,
        provenance={**ann.provenance, "convert": options.said()},
    )
    ann.network.cpu()
    return snn.cpu()
