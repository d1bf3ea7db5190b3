"""A classifier to a staged spiking network: bounds, weights that make up for levels, units."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.network import INPUT, Add, Network
from spikeship.training.conversion.fold_batchnorm import fold_batchnorm
from spikeship.training.conversion.pool_order import pools_behind
from spikeship.training.conversion.refit import Correction, Fitted, fit
from spikeship.training.conversion.skeleton import skeleton
from spikeship.training.conversion.units import MessageScale, set_units
from spikeship.training.snn.encoding import Encoding, InputCoding, encode, real_images
from spikeship.training.snn.form import ACTIVATIONS, check_form
from spikeship.training.snn.observe import evaluate, observe_arrivals
from spikeship.training.snn.spiking_network import SpikingNetwork

CORRECTIONS: tuple[Correction, ...] = ("refit", "bias", "none")
# part of the calibration images that corrections are judged on
_HELD_BACK = 0.25
# at most so many, and so many that they are fitted on for that
_MOST_HELD, _TRIAL_IMAGES = 256, 512
# a threshold is at least the largest weight over this, or 8 bits could not say it
_WEIGHT_PARTS = 60.0


@dataclass(frozen=True)
class Tried:
    """A correction, and how the network it gives does on images that it was not fitted on.

    Attributes:
        correction: which.
        agreement: part of the held-back images to which it gives the classifier's class.
        error: mean squared error of its scores over their mean square.
    """

    correction: Correction
    agreement: float
    error: float


def convert_staged(
    ann: Network,
    images: Tensor,
    *,
    num_steps: int,
    encoding: Encoding = "direct",
    peak: float | None = None,
    correction: Correction | None = None,
    seed: int = 0,
    data: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> SpikingNetwork:
    """Convert a classifier so that every population fires after its whole input has arrived.

    What is lost are the levels alone: activations are told in T steps. Max pools stay exact.

    Args:
        ann: network of the form that ``form.check_form`` describes, batch norm behind
            convolutions; stays as it is.
        images: calibration images, normalised as for the classifier, (images, *input_shape); for
            encoding ``spikes`` messages (images, T, *input_shape).
        num_steps: T.
        encoding: how images become messages.
        peak: the |x| that uses the encoding's full range; by default the images' largest.
        correction: how weights make up for the levels, see refit.py; by default the one of
            ``refit``, ``bias`` and ``none`` that does best on some of the images, fitted on
            others; then it is fitted on all.
        seed: of the encoding.
        data: JSON object, ``name``, ``mean`` and ``std`` of the data set.
        provenance: JSON object, how the network came to be.

    Returns:
        A staged network in eval mode on the classifier's device.

    Raises:
        FoldError: batch norm that cannot be folded.
        FormError: a layer that has no staged form.
        EncodingError: images that cannot be encoded.
    """
    ann = fold_batchnorm(pools_behind(ann)).eval()
    check_form(ann, "staged")
    coding = InputCoding.for_images(encoding, images, peak)
    true = real_images(images, coding)
    quantized = _as_messages(true, images, coding, num_steps, seed)
    given = _trained_bounds(ann)
    if len(given) == sum(isinstance(layer.module, ACTIVATIONS) for layer in ann.layers):
        correction = correction or "none"  # trained for its levels

    def made(fitted: Fitted) -> SpikingNetwork:
        return _network(fitted, coding, num_steps, data=data, provenance=provenance)

    if correction is None:
        held = max(1, min(_MOST_HELD, int(len(images) * _HELD_BACK)))
        seen = slice(held, held + _TRIAL_IMAGES)
        tried = [
            _judged(
                made(fit(ann, true[seen], quantized[seen], num_steps, each, given)),
                ann,
                images[:held],
                true[:held],
                each,
                seed,
            )
            for each in CORRECTIONS
        ]
        correction = max(tried, key=lambda each: (each.agreement, -each.error)).correction
    snn = made(fit(ann, true, quantized, num_steps, correction, given))
    snn.ranges = observe_arrivals(snn, images, seed=seed)
    return snn


def _judged(
    snn: SpikingNetwork,
    ann: Network,
    images: Tensor,
    true: Tensor,
    correction: Correction,
    seed: int,
) -> Tried:
    with torch.no_grad():
        wanted = torch.cat([ann(part) for part in torch.split(true, 128)]).cpu().double()
    scores = evaluate(snn, images, seed=seed).double()
    agreement = (scores.argmax(1) == wanted.argmax(1)).double().mean()
    error = (scores - wanted).square().mean() / wanted.square().mean().clamp_min(1e-30)
    return Tried(correction, float(agreement), float(error))


def _network(
    fitted: Fitted,
    coding: InputCoding,
    num_steps: int,
    *,
    data: Mapping[str, Any] | None,
    provenance: Mapping[str, Any] | None,
) -> SpikingNetwork:
    network = skeleton(fitted.ann)
    set_units(
        network,
        fitted.ann,
        coding.scale if coding.encoding == "direct" else coding.scale / num_steps,
        lambda name, unit: _threshold(network, name, fitted.bounds[name] / num_steps / unit),
        start=0.5,
    )
    return SpikingNetwork(
        network, coding, num_steps, data=data, provenance=provenance, timing="staged"
    ).eval()


def _threshold(network: Network, name: str, wanted: MessageScale) -> MessageScale:
    """A threshold that integers can say beside its weights, which are set already.

    Where a channel hardly ever fires its bound may be smaller than a small part of its largest
    weight. A larger threshold then tells it in fewer levels, and nothing is lost beside others.
    """
    theta = torch.as_tensor(wanted, dtype=torch.float64)
    sources = [network[name].inputs[0]]
    while sources:
        source = sources.pop()
        module = None if source == INPUT else network[source].module
        if isinstance(module, Add):
            sources += network[source].inputs
        elif isinstance(module, nn.Conv2d | nn.Linear):
            largest = module.weight.detach().double().abs().flatten(1).amax(1).cpu()
            if theta.ndim == 0:
                theta = torch.maximum(theta, largest.max() / _WEIGHT_PARTS)
            else:
                shaped = largest.reshape(-1, *[1] * (theta.ndim - 1)) / _WEIGHT_PARTS
                theta = torch.maximum(theta, shaped)
    return theta if theta.ndim else float(theta)


def _trained_bounds(ann: Network) -> dict[str, MessageScale]:
    """Bounds that activations were trained with."""
    return {
        layer.name: layer.module.level.item()
        for layer in ann.layers
        if isinstance(layer.module, ClippedReLU | QCFS)
    }


def _as_messages(
    true: Tensor, images: Tensor, coding: InputCoding, num_steps: int, seed: int
) -> Tensor:
    """Images as their messages say them, in the classifier's numbers."""
    steps = 1 if coding.encoding == "direct" else num_steps
    parts = [
        encode(images[part], coding, steps, seed=seed, indices=part).to(true).mean(1)
        for part in torch.split(torch.arange(len(images)), 64)
    ]
    return torch.cat(parts) * coding.scale
