"""How images become messages: signed Poisson spikes, direct 8-bit values, or spikes as they come.

Messages are whole numbers; the real input that one of them stands for is ``InputCoding.scale``.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.hw_models.errors import SpikeshipError
from spikeship.training import choices

Encoding = choices.Encoding

MAX_MESSAGE = 127  # 8 bits with a sign


class EncodingError(SpikeshipError, ValueError):
    """Images that a coding cannot carry, in one line."""


@dataclass(frozen=True)
class InputCoding:
    """How an input becomes messages; real input = message * scale.

    Attributes:
        encoding: ``poisson`` (every step each pixel spikes with probability |x| / scale, with its
            sign), ``direct`` (the rounded image itself, every step) or ``spikes`` (the input
            already consists of messages).
        scale: real value of one message. Poisson: the largest |x|; larger values always spike.
        max_message: largest magnitude of a message, 1 for Poisson.
        signed: whether messages may be negative.

    Raises:
        EncodingError: a field outside its range.
    """

    encoding: Encoding = "poisson"
    scale: float = 1.0
    max_message: int = 1
    signed: bool = True

    def __post_init__(self) -> None:
        if self.encoding not in ("poisson", "direct", "spikes"):
            raise EncodingError(
                f"encoding {self.encoding!r} is not known; use poisson, direct or spikes"
            )
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise EncodingError(f"input scale must be positive and finite, got {self.scale}")
        if not 1 <= self.max_message <= MAX_MESSAGE:
            raise EncodingError(f"max_message must lie in 1..{MAX_MESSAGE}, got {self.max_message}")
        if self.encoding == "poisson" and self.max_message != 1:
            raise EncodingError(f"Poisson messages are spikes, got max_message {self.max_message}")

    @classmethod
    def for_images(
        cls, encoding: Encoding, images: Tensor, peak: float | None = None
    ) -> "InputCoding":
        """Choose a coding from the images a network was, or will be, trained on.

        Args:
            encoding: the kind.
            images: real images, shape (images, ...); for ``spikes``, messages.
            peak: the |x| that uses the full range; by default the largest there is, so that
                nothing is cut off (1.0 gives Rathi et al.'s cut). Unused for ``spikes``.

        Raises:
            EncodingError: no images, nothing but zeros, or values that are not finite.
        """
        if images.numel() == 0:
            raise EncodingError("there are no images to choose the input's scale from; give some")
        largest, signed = _largest(images), bool((images < 0).any())
        if encoding == "spikes":
            return cls("spikes", 1.0, max(1, math.ceil(largest)), signed)
        peak = largest if peak is None else peak
        if peak == 0.0:
            raise EncodingError("all images are zero, so the input has no scale; check the data")
        max_message = MAX_MESSAGE if encoding == "direct" else 1
        return cls(encoding, peak / max_message, max_message, signed)


def encode(
    images: Tensor,
    coding: InputCoding,
    num_steps: int,
    *,
    seed: int = 0,
    indices: Tensor | None = None,
) -> Tensor:
    """Encode images for evaluation: the same messages at every stage, whatever the batch.

    An image's Poisson spikes depend on its values, the seed and its index only, and those of a
    shorter run are the first steps of a longer one.

    Args:
        images: real images (batch, ...); for ``spikes``, messages (batch, time, ...).
        coding: how to encode them.
        num_steps: T.
        seed: not negative.
        indices: int64, each image's place in its split; by default 0, 1, 2, …

    Returns:
        int8 messages on the CPU, shape (batch, T, ...); for ``direct`` a view, the image repeated.

    Raises:
        EncodingError: negative values where the coding has no sign, values that are not finite,
            messages that are none, or a negative seed.
    """
    images = images.detach().cpu()
    if coding.encoding != "poisson":
        return _repeatable(images, coding, num_steps)
    _check_sign(images, coding)
    if seed < 0:
        raise EncodingError(f"seed must not be negative, got {seed}")
    places = range(len(images)) if indices is None else indices.tolist()
    if len(places) != len(images):
        raise EncodingError(f"{len(images)} images were given with {len(places)} indices")
    values = images.to(torch.float32).numpy()
    messages = np.empty((len(values), num_steps, *values.shape[1:]), dtype=np.int8)
    chances = np.abs(values) / np.float32(coding.scale)
    signs = np.sign(values).astype(np.int8)
    for image, place in enumerate(places):
        draws = _uniform(seed, place, messages[image].size).reshape(messages[image].shape)
        # draws lie in [0, 1): chance 0 never spikes, chance 1 always does
        np.multiply(draws < chances[image], signs[image], out=messages[image])
    return torch.from_numpy(messages)


def encode_train(
    images: Tensor, coding: InputCoding, num_steps: int, generator: torch.Generator | None = None
) -> Tensor:
    """Encode images for training, on their device, from ``generator`` or torch's global one.

    Args:
        images: as for :func:`encode`.
        coding: how to encode them.
        num_steps: T.
        generator: on the images' device.

    Returns:
        int8 messages, shape (batch, T, ...).

    Raises:
        EncodingError: as :func:`encode`.
    """
    if coding.encoding != "poisson":
        return _repeatable(images, coding, num_steps)
    _check_sign(images, coding)
    chances = (images.abs() / coding.scale).unsqueeze(1)
    shape = (len(images), num_steps, *images.shape[1:])
    draws = torch.rand(shape, generator=generator, device=images.device, dtype=chances.dtype)
    return (draws < chances).to(torch.int8) * images.sign().to(torch.int8).unsqueeze(1)


def real_images(images: Tensor, coding: InputCoding) -> Tensor:
    """What an ANN takes of an input: the images, or the average of the messages in real numbers.

    Args:
        images: as for :func:`encode`.
        coding: how they are encoded.

    Returns:
        Real images (batch, ...).
    """
    if coding.encoding != "spikes":
        return images
    return images.to(torch.float32).mean(1) * coding.scale


def _repeatable(images: Tensor, coding: InputCoding, num_steps: int) -> Tensor:
    """Messages of the encodings that draw nothing."""
    _check_sign(images, coding)
    if coding.encoding == "direct":
        top = coding.max_message
        messages = (images / coding.scale).round().clamp(-top, top).to(torch.int8)
        return messages.unsqueeze(1).expand(-1, num_steps, *images.shape[1:])
    if images.ndim < 3 or images.shape[1] != num_steps:
        raise EncodingError(
            f"spikes of shape {tuple(images.shape)} are not (images, {num_steps}, …); "
            "give one message a step, and num_steps to match"
        )
    whole = not images.is_floating_point() or torch.equal(images, images.round())
    if not whole or _largest(images) > coding.max_message:
        raise EncodingError(
            f"spikes must be whole numbers of magnitude {coding.max_message} at most; "
            "for real-valued images use encoding poisson or direct"
        )
    return images.to(torch.int8)


def _largest(images: Tensor) -> float:
    """Largest magnitude; int8's -128 has none of its own type."""
    if images.numel() == 0:
        return 0.0
    return max(-float(images.min()), float(images.max()))


def _check_sign(images: Tensor, coding: InputCoding) -> None:
    if not coding.signed and bool((images < 0).any()):
        raise EncodingError(
            "images hold negative values but the network's input has no sign; "
            "normalise them as the calibration images were"
        )
    if not bool(torch.isfinite(images).all()):
        raise EncodingError("images hold values that are not finite; check the data")


def _uniform(seed: int, index: int, count: int) -> NDArray[np.float32]:
    """Return ``count`` draws from [0, 1) in steps of 2**-24, a stream for every (seed, index).

    Raw Philox bits, because NumPy keeps those the same from version to version.
    """
    key = np.array([seed, index], dtype=np.uint64)
    raw = np.random.Philox(key=key).random_raw(-(-count // 2))
    bits = np.asarray(raw, dtype="<u8").view("<u4")[:count] >> 8
    return bits.astype(np.float32) * np.float32(2.0**-24)
