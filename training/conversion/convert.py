"""From a trained ANN to a spiking network: thresholds, units, calibration, what it observed.

Thresholds are the largest weighted input (or a percentile of it) that calibration images cause,
layer by layer, times a factor; or they follow from the ANN's activations alone. Weights and biases
follow from the thresholds (units.py), so that R / T is the ANN's result.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from spikeship.training import choices
from spikeship.training.ann.network import Network
from spikeship.training.conversion.balance import Balance, BalanceError, Firing
from spikeship.training.conversion.calibrate import Calibrated, CalibrationError, match_means
from spikeship.training.conversion.fold_batchnorm import fold_batchnorm
from spikeship.training.conversion.passage import Passage
from spikeship.training.conversion.skeleton import skeleton
from spikeship.training.conversion.thresholds import clip_levels, mse_levels
from spikeship.training.conversion.units import MessageScale, set_units
from spikeship.training.snn.encoding import Encoding, InputCoding, encode, real_images
from spikeship.training.snn.form import check_form
from spikeship.training.snn.neurons import Reset, SpikingNeuron
from spikeship.training.snn.observe import observe_ranges
from spikeship.training.snn.spiking_network import SpikingNetwork

Start = choices.FirstPotential

# as the paper's code balances, however few steps the network is then made for
BALANCE_STEPS = 100


def convert(
    ann: Network,
    images: Tensor,
    *,
    num_steps: int,
    encoding: Encoding = "poisson",
    peak: float | None = None,
    balance: str = "max",
    per_channel: bool = False,
    balance_steps: int = BALANCE_STEPS,
    factor: float | None = None,
    v0: Start | None = None,
    calibrate: Calibrated | None = None,
    leak: float = 1.0,
    reset: Reset = "subtract",
    seed: int = 0,
    batch_size: int | None = None,
    data: Mapping[str, Any] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> SpikingNetwork:
    """Convert a trained ANN (Rathi et al., ICLR 2020); ``ann`` stays as it is.

    Args:
        ann: network of the form that ``form.check_form`` describes, with ReLUs, ClippedReLUs or
            QCFS activations; batch norm after a convolution is folded.
        images: calibration images, normalised as for the ANN, shape (images, *input_shape); for
            encoding ``spikes``, messages (images, T, *input_shape), on whose mean over time the
            ANN was trained.
        num_steps: T, input steps. The paper counts all frames that are run: as many more as there
            are weighted layers on the longest path, less 1.
        encoding: how images become messages.
        peak: the |x| that uses the encoding's full range; by default the calibration images'
            largest. Give the training set's where the images are only some of it.
        balance: ``max`` or ``percentile:P`` with 0 < P <= 100 of the weighted input over all
            steps, neurons and images; ``mse``, the threshold that leaves the smallest mean squared
            error of the ANN's activations coded in T steps; or ``analytic``, the level at which
            each activation of the ANN clips (ClippedReLU, QCFS).
        per_channel: a threshold for each channel of a convolution; not with ``analytic``.
        balance_steps: steps to balance over; at least T of them are taken. In a few steps spikes
            may not reach the last layers at all, so there would be nothing to balance on.
        factor: what balanced thresholds are multiplied by; by default ``default_factor``'s.
        v0: V before the first step: ``zero``, or ``half`` the threshold, so that what T steps
            say is rounded to the nearest and not down; by default ``half`` for balance
            ``analytic``, else ``zero``.
        calibrate: bring each layer's mean firing to the ANN's by its ``bias`` or by ``v0``;
            see calibrate.py.
        leak: factor on V from step to step of the result; thresholds are balanced with 1.
        reset: what a spike does to V.
        seed: of the encoding of the calibration images.
        batch_size: calibration images run at once; by default what memory allows. It changes
            nothing but time and memory.
        data: JSON object, ``name``, ``mean`` and ``std`` of the data set.
        provenance: JSON object, how the network came to be.

    Returns:
        A spiking network in eval mode on the ANN's device, with its ranges over the images.

    Raises:
        BalanceError: a balance or factor outside its range, or a neuron whose threshold would
            not be positive.
        CalibrationError: a calibration that the network has no place for.
        FoldError: batch norm that cannot be folded.
        FormError: a layer that has no spiking form.
        EncodingError: images that cannot be encoded.
        ValueError: a leak or reset that no neuron has.
    """
    kind = Balance.parse(balance, per_channel=per_channel)
    factor = default_factor(num_steps, balance, calibrate) if factor is None else factor
    if not (math.isfinite(factor) and factor > 0):
        raise BalanceError(f"factor must be positive, got {factor}")
    if calibrate not in (None, "bias", "v0"):
        raise CalibrationError(f"calibrate {calibrate!r} is not known; use bias or v0")
    start = _start(v0, kind)
    ann = fold_batchnorm(ann)
    check_form(ann)
    coding = InputCoding.for_images(encoding, images, peak)
    network = skeleton(ann, leak, reset)
    snn = SpikingNetwork(network, coding, num_steps, data=data, provenance=provenance).eval()
    if kind.kind == "firing":
        steps = max(num_steps, balance_steps)
        source = images
        if encoding == "spikes":  # played again and again
            source = images[:, torch.arange(steps) % images.shape[1]]
        messages = encode(source, coding, steps, seed=seed)
        firing = Firing(
            Passage(network, messages, list(snn.neurons), batch_size),
            network,
            kind,
            lambda theta: SpikingNeuron(theta, v0=theta * start, reset=reset),
        )
        set_units(network, ann, coding.scale, lambda name, _: firing.threshold(name), start)
        # as the paper has it: first all are balanced against each other, then all are scaled
        found: dict[str, MessageScale] = {
            name: neuron.threshold if neuron.threshold.ndim else float(neuron.threshold)
            for name, neuron in snn.neurons.items()
        }
        scales = set_units(network, ann, coding.scale, lambda name, _: factor * found[name], start)
    else:
        levels = (
            clip_levels(ann)
            if kind.kind == "analytic"
            else mse_levels(
                ann,
                real_images(images, coding),
                num_steps,
                start=start,
                per_channel=per_channel,
                batch_size=batch_size,
            )
        )
        scales = set_units(
            network, ann, coding.scale, lambda name, unit: factor * levels[name] / unit, start
        )
    if calibrate is not None:
        match_means(snn, ann, images, scales, calibrate, seed=seed, batch_size=batch_size)
    snn.ranges = observe_ranges(snn, images, seed=seed, batch_size=batch_size)
    return snn


def default_factor(
    num_steps: int, balance: str = "max", calibrate: Calibrated | None = None
) -> float:
    """Factor on balanced thresholds: the paper's 0.7, or 0.5 for fewer than 20 steps.

    Measured on VGG5 for 8 x 8 digits, balanced over 100 steps (ANN 99.0 %): with 0.5 and 0.7,
    accuracy was 96.8 and 52.0 % at T = 8, 97.4 and 92.4 % at 12, 98.2 and 97.6 % at 16, 98.4 and
    98.6 % at 20. Thresholds from the ANN's activations (``mse``, ``analytic``) stay as they are,
    and so do those that calibration follows: it makes up for spikes that come late or not at all,
    and cannot for what low thresholds clip (digits, T = 16, ANN 97.4 %: factor 1 96.0, 0.5 49.4).
    """
    if balance in ("mse", "analytic") or calibrate is not None:
        return 1.0
    return 0.7 if num_steps >= 20 else 0.5


def _start(v0: Start | None, kind: Balance) -> float:
    """V0 in thresholds."""
    if v0 not in (None, "zero", "half"):
        raise BalanceError(f"v0 {v0!r} is not known; use zero or half")
    return 0.5 if v0 == "half" or (v0 is None and kind.kind == "analytic") else 0.0
