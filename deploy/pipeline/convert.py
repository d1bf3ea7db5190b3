"""Turn a classifier into a spiking network."""

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import CALIBRATION, of_set
from spikeship.deploy.options.convert import ConvertOptions
from spikeship.training.choices import Device
from spikeship.training.conversion.convert import convert as convert_network
from spikeship.training.conversion.staged import convert_staged
from spikeship.training.data.load import DataSet
from spikeship.training.fit.processes import pick
from spikeship.training.snn.spiking_network import SpikingNetwork

# least squares need more images than thresholds do
STAGED_CALIBRATION = 2048


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
    peak = None if encoding == "spikes" else images.peak()
    source, network = images.source(encoding), ann.network.to(pick(device))
    provenance = {**ann.provenance, "convert": options.said()}
    if options.timing == "staged":
        _check_staged(options)
        snn = convert_staged(
            network,
            source[:STAGED_CALIBRATION],
            num_steps=options.num_steps,
            encoding=encoding,
            peak=peak,
            correction=options.correct,
            seed=seed,
            data=images.data,
            provenance=provenance,
        )
    else:
        snn = convert_network(
            network,
            source[:CALIBRATION],
            num_steps=options.num_steps,
            encoding=encoding,
            peak=peak,
            balance=options.balance,
            per_channel=options.per_channel,
            factor=options.factor,
            v0=options.v0,
            calibrate=options.calibrate,
            leak=options.leak,
            reset=options.reset,
            seed=seed,
            data=images.data,
            provenance=provenance,
        )
    ann.network.cpu()
    return snn.cpu()


def _check_staged(options: ConvertOptions) -> None:
    """Refuse what only pipelined timing knows."""
    plain = ConvertOptions()
    for name in ("balance", "per_channel", "factor", "v0", "calibrate", "leak", "reset"):
        if getattr(options, name) != getattr(plain, name):
            flag = f"--{name.replace('_', '-')}"
            raise DeployError(
                f"{flag}: is of pipelined timing, and staged bounds follow from the classifier's "
                "activations; leave it out, or give --timing pipelined"
            )
