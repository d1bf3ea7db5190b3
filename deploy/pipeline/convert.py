"""Turn a classifier into a spiking network, and look at what that lost."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.classifier import Ann
from spikeship.deploy.io.inputs import CALIBRATION, Images, of_set
from spikeship.deploy.options.convert import ConvertOptions
from spikeship.hw_models.errors import SpikeshipError
from spikeship.training.ann.network import Network
from spikeship.training.choices import Device
from spikeship.training.conversion.convert import convert as convert_network
from spikeship.training.conversion.judged import Judged, judge
from spikeship.training.conversion.staged import convert_staged
from spikeship.training.data.load import DataSet, Samples
from spikeship.training.fit.processes import pick
from spikeship.training.snn.spiking_network import SpikingNetwork

# least squares need more images than thresholds do
STAGED_CALIBRATION = 1024
# points of accuracy that a conversion may lose without a word
MOST_LOST = 2.0
# images that a conversion is judged on: so many, or so many steps of them
_JUDGED_IMAGES, _JUDGED_STEPS, _FEWEST = 512, 8192, 64
_LONGEST = 32


@dataclass(frozen=True)
class Conversion:
    """A spiking network, and what became of the classifier's accuracy.

    Attributes:
        snn: the network.
        judged: both on the same training images.
        held_back: whether the conversion never saw these images.
        remedy: where more than ``MOST_LOST`` points were lost, the options that lose fewest of
            those that were tried, and how many; None where none was better.
        tried: what was tried, in words.
    """

    snn: SpikingNetwork
    judged: Judged
    held_back: bool
    remedy: tuple[str, float] | None = None
    tried: tuple[str, ...] = ()


def convert(
    ann: Ann,
    dataset: DataSet,
    options: ConvertOptions | None = None,
    *,
    statistics: dict[str, list[float]] | None = None,
    seed: int = 0,
    device: Device = "auto",
) -> Conversion:
    """Turn a classifier into a spiking network, run both, and look for better where much is lost.

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
    like = {**ann.data, **(statistics or {})}
    images = of_set(dataset, split="train", like=like, input_shape=ann.network.input_shape)
    network = ann.network.to(pick(device))
    trial = _Trial(network, images, ann, seed)
    snn = trial.network(options)
    judged, held_back = trial.judge(snn, options)
    remedy: tuple[str, float] | None = None
    tried: list[str] = []
    if judged.lost > MOST_LOST:
        least = judged.lost
        for words, other in _others(options):
            try:
                lost = trial.judge(trial.network(other), other)[0].lost
            except SpikeshipError:
                continue  # another timing has no place for one of its layers
            tried.append(f"{words}: {lost:.1f} points")
            if lost < least:
                least, remedy = lost, (words, lost)
            if lost <= MOST_LOST:
                break
    ann.network.cpu()
    snn.provenance["conversion"] = judged.to_json()
    return Conversion(snn.cpu(), judged, held_back, remedy, tuple(tried))


def _others(options: ConvertOptions) -> Iterator[tuple[str, ConvertOptions]]:
    """Options to try where much was lost, in the order in which they cost."""
    longer = 2 * options.num_steps
    if options.timing == "pipelined":
        plain = ConvertOptions(timing="staged", num_steps=options.num_steps, encoding="direct")
        staged = replace(plain, max_pool=options.max_pool)
        if options.encoding == "spikes":
            staged = replace(staged, encoding="spikes")
        yield "--timing staged --encoding " + staged.encoding, staged
        if longer <= 4 * _LONGEST:
            yield f"-T {longer}", replace(options, num_steps=longer)
    else:
        while longer <= _LONGEST:
            yield f"-T {longer}", replace(options, num_steps=longer)
            longer *= 2


class _Trial:
    """What one conversion after the other is made from and judged on."""

    def __init__(self, network: Network, images: Images, ann: Ann, seed: int) -> None:
        self._ann, self._images, self._seed = network, images, seed
        self._provenance = ann.provenance

    def network(self, options: ConvertOptions) -> SpikingNetwork:
        """Convert with these options."""
        images, encoding = self._images, options.encoding
        peak = None if encoding == "spikes" else images.peak()
        provenance = {**self._provenance, "convert": options.said()}
        calibration = self._source(options)[: _calibration(options)]
        if options.timing == "staged":
            _check_staged(options)
            return convert_staged(
                self._ann,
                calibration,
                num_steps=options.num_steps,
                encoding=encoding,
                peak=peak,
                correction=options.correct,
                seed=self._seed,
                data=images.data,
                provenance=provenance,
            )
        return convert_network(
            self._ann,
            calibration,
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
            seed=self._seed,
            data=images.data,
            provenance=provenance,
        )

    def judge(self, snn: SpikingNetwork, options: ConvertOptions) -> tuple[Judged, bool]:
        """Run classifier and network on images behind the calibration's, where there are some."""
        images = self._images
        count = min(_JUDGED_IMAGES, max(_FEWEST, _JUDGED_STEPS // snn.input_steps()))
        first = _calibration(options)
        held_back = len(images.values) >= first + _FEWEST
        if not held_back:
            first = 0
        part = slice(first, first + count)
        source = self._source(options)[part]
        labels = None if images.labels is None else torch.as_tensor(images.labels[part])
        return judge(self._ann, snn, source, labels, seed=self._seed, first=first), held_back

    def _source(self, options: ConvertOptions) -> Samples:
        return self._images.source(options.encoding)


def _calibration(options: ConvertOptions) -> int:
    return STAGED_CALIBRATION if options.timing == "staged" else CALIBRATION


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
