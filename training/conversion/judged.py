"""What a conversion lost, looked at on images that it was not fitted on."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikeship.training.ann.network import Network
from spikeship.training.conversion.fold_batchnorm import fold_batchnorm
from spikeship.training.conversion.pool_order import pools_behind
from spikeship.training.snn.encoding import encode, real_images
from spikeship.training.snn.form import ACTIVATIONS
from spikeship.training.snn.observe import fitting_batch
from spikeship.training.snn.spiking_network import SpikingNetwork


@dataclass(frozen=True)
class Judged:
    """A classifier and its spiking network on the same images.

    Attributes:
        images: how many.
        classifier: part of them that the classifier gets right; None without labels.
        converted: the same of the spiking network.
        agreement: part to which both give the same class.
        errors: by activation, what its spikes do not say of it: the least mean squared error that
            a factor a channel leaves, over the mean square. 0 is none, 1 is all.
    """

    images: int
    classifier: float | None
    converted: float | None
    agreement: float
    errors: dict[str, float] = field(default_factory=dict)

    @property
    def lost(self) -> float:
        """Points of accuracy that were lost; without labels, points of agreement."""
        if self.classifier is None or self.converted is None:
            return 100 * (1 - self.agreement)
        return 100 * (self.classifier - self.converted)

    def to_json(self) -> dict[str, Any]:
        """The object that ``convert --json`` prints."""
        return {
            "images": self.images,
            "classifier": self.classifier,
            "converted": self.converted,
            "agreement": self.agreement,
            "lost_points": self.lost,
            "layer_errors": self.errors,
        }


@torch.no_grad()
def judge(
    ann: Network,
    snn: SpikingNetwork,
    images: Tensor,
    labels: Tensor | None,
    *,
    seed: int = 0,
    first: int = 0,
) -> Judged:
    """Run both over images.

    Args:
        ann: the classifier, as it was converted.
        snn: what became of it, on the same device.
        images: normalised, (images, *input_shape); for encoding ``spikes`` messages.
        labels: int64 (images,), or None.
        seed: of the encoding.
        first: place of the first image in its split; the encoding depends on it.
    """
    folded = fold_batchnorm(pools_behind(ann)).eval()
    names = [layer.name for layer in folded.layers if isinstance(layer.module, ACTIVATIONS)]
    sums = {name: _Sums() for name in names}
    right = [0, 0]
    agreeing = 0
    like = next(folded.parameters())
    training = snn.training
    snn.eval()
    for part in torch.split(
        torch.arange(len(images)), min(64, fitting_batch(folded, snn.input_steps()))
    ):
        true: dict[str, Tensor] = {}
        for layer, _, result in folded.walk(real_images(images[part], snn.coding).to(like)):
            if layer.name in sums or layer.name == folded.output:
                true[layer.name] = result
        messages = encode(
            images[part], snn.coding, snn.input_steps(), seed=seed, indices=part + first
        )
        scores = true[folded.output]
        for name, weighted, spikes in snn.walk(messages.to(like.device)):
            if spikes is None:
                scores = weighted.sum(0)
            else:
                sums[name].add(true.pop(name), spikes.to(like).sum(0))
        wanted, found = true[folded.output].argmax(1), scores.argmax(1)
        agreeing += int((wanted == found).sum())
        if labels is not None:
            answer = labels[part].to(found.device)
            right[0] += int((wanted == answer).sum())
            right[1] += int((found == answer).sum())
    snn.train(training)
    count = len(images)
    return Judged(
        count,
        None if labels is None else right[0] / count,
        None if labels is None else right[1] / count,
        agreeing / count,
        {name: each.error() for name, each in sums.items()},
    )


class _Sums:
    """Sums by channel from which the error of the best factor follows."""

    def __init__(self) -> None:
        self.own: Tensor | None = None
        self.shared: Tensor | None = None
        self.said: Tensor | None = None

    def add(self, activations: Tensor, counts: Tensor) -> None:
        """Add some images' activations, and the counts of spikes that stand for them."""
        true, told = (x.double().movedim(1, 0).flatten(1) for x in (activations, counts))
        new = ((true * true).sum(1), (true * told).sum(1), (told * told).sum(1))
        old = (self.own, self.shared, self.said)
        self.own, self.shared, self.said = (
            part if before is None else before + part for before, part in zip(old, new, strict=True)
        )

    def error(self) -> float:
        """The part of the activations' square that counts do not say."""
        if self.own is None or self.shared is None or self.said is None:
            return 0.0
        told = torch.where(self.said > 0, self.shared**2 / self.said.clamp_min(1e-30), 0.0)
        whole = self.own.sum()
        return float(((self.own - told).clamp_min(0).sum() / whole) if whole > 0 else 0.0)
