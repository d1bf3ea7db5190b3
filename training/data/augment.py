"""Training images varied at random: shifted, mirrored, a square taken out, or parts of a picture.

Shifts by up to 4 pixels with black coming in, and half of the images mirrored, are what Rathi et
al., ICLR 2020 (arXiv 2005.01807) train CIFAR-10 and CIFAR-100 with; pictures of 224 x 224 are
random parts of the files, mirrored.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.training.choices import Fill, Flip
from spikeship.training.data.data_set import Chosen, DataError, DataSet, Samples
from spikeship.training.data.readers.image_folder import Pictures


@dataclass(frozen=True)
class Variation:
    """How training images are varied.

    Attributes:
        translate: largest shift in each direction, in pixels.
        fill: what a shift brings in: black, or the image mirrored at its edge.
        flip: ``random`` mirrors half of the images anew in each epoch; ``alternating`` half of
            them in the first epoch, and from then on each image every other epoch, so that no
            image is seen twice the same way in a row (K. Jordan, arXiv 2404.00498).
        cutout: side of a square that is replaced by the set's mean, in pixels; it may reach
            beyond the image (DeVries & Taylor, arXiv 1708.04552). 0 for none.

    Raises:
        DataError: a value outside its range.
    """

    translate: int = 0
    fill: Fill = "black"
    flip: Flip = "none"
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("translate", "cutout"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} must not be negative, got {getattr(self, name)}")
        for name, kind in (("fill", Fill), ("flip", Flip)):
            if getattr(self, name) not in get_args(kind):
                raise DataError(
                    f"{name} {getattr(self, name)!r} is not known; use {', '.join(get_args(kind))}"
                )

    def recipe(self) -> dict[str, Any]:
        """As a JSON object."""
        return asdict(self)


def variation_of(dataset: DataSet, *, paper: bool = False) -> Variation:
    """How a set's training images are varied unless somebody says otherwise.

    Args:
        dataset: its ``augmentation`` says what its images can bear.
        paper: as the paper does; else in the way that needs fewer epochs.
    """
    flip: Flip = "random" if paper else "alternating"
    match dataset.augmentation:
        case "shift-flip":
            return Variation(4, "black" if paper else "reflect", flip)
        case "resized-crop":
            return Variation(0, "black", flip)
    return Variation()


def training_images(
    dataset: DataSet,
    indices: Tensor,
    *,
    variation: Variation | None = None,
    epoch: int = 0,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Training images as a step sees them: normalised and varied.

    Random numbers come from torch's CPU generator. Where ``dataset.augmentation`` is
    ``resized-crop``, what is varied are random parts of the pictures.

    Args:
        dataset: with training images.
        indices: which of them, int64, on the CPU.
        variation: how; None for the paper's way with such a set.
        epoch: from 0; decides which sides alternating images show.
        seed: likewise.
        mean: of each channel, as stored with a network; None for the set's own.
        std: likewise.
        device: where the images are wanted.

    Returns:
        float32 on ``device``, shape (indices, *input_shape).

    Raises:
        DataError: no training images, a file that cannot be read, or a variation that such images
            cannot have.
    """
    whole = dataset.as_images("train", mean, std)
    variation = variation_of(dataset, paper=True) if variation is None else variation
    if dataset.augmentation == "resized-crop":
        images = whole.apply(_crops(dataset, indices))
    else:
        images = whole[indices]
    if variation == Variation():
        return images.to(device)
    if images.ndim != 4:
        raise DataError(
            f"{dataset.name}: images of shape {dataset.input_shape} cannot be shifted, mirrored or "
            "cut; leave these options out"
        )
    black = -torch.tensor(whole.mean) / torch.tensor(whole.std)
    turned = _first_side(indices, seed) ^ bool(epoch % 2)
    return vary(images, variation, black, turned).to(device)


def vary(images: Tensor, variation: Variation, black: Tensor, turned: Tensor) -> Tensor:
    """Shift, mirror and cut images, each as drawn from torch's CPU generator.

    Args:
        images: float32 on the CPU, shape (images, channel, height, width).
        variation: how.
        black: value of each channel that a shift may bring in.
        turned: of each image, whether it is mirrored where ``variation.flip`` is ``alternating``.

    Returns:
        New images of the same shape, channels last in memory.

    Raises:
        DataError: a shift as large as an image that is to be mirrored at its edge.
    """
    count, _, height, width = images.shape
    reach = variation.translate
    if variation.fill == "reflect" and reach >= min(height, width):
        raise DataError(
            f"translate {reach} reaches beyond images of {height} x {width} mirrored at their "
            f"edge; use at most {min(height, width) - 1}, or fill 'black'"
        )
    shifts = torch.zeros((2, count), dtype=torch.int64)
    if reach:
        shifts = torch.randint(-reach, reach + 1, (2, count))
    mirrored = torch.zeros(count, dtype=torch.bool)
    if variation.flip == "random":
        mirrored = torch.rand(count) < 0.5
    elif variation.flip == "alternating":
        mirrored = turned
    squares = torch.zeros((2, count), dtype=torch.int64)
    if variation.cutout:
        squares = torch.stack([torch.randint(0, side, (count,)) for side in (height, width)])
    varied = np.empty((count, height, width, images.shape[1]), np.float32)
    _vary(
        images.contiguous().numpy(),
        shifts.numpy(),
        mirrored.numpy(),
        squares.numpy() - variation.cutout // 2,
        variation.cutout,
        variation.fill == "reflect",
        black.to(torch.float32).numpy(),
        varied,
    )
    return torch.from_numpy(varied).permute(0, 3, 1, 2)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _vary(
    images: NDArray[np.float32],
    shifts: NDArray[np.int64],
    mirrored: NDArray[np.bool_],
    squares: NDArray[np.int64],
    cutout: int,
    reflect: bool,
    black: NDArray[np.float32],
    varied: NDArray[np.float32],
) -> None:
    """Write each image from where its pixels come from."""
    count, channels, height, width = images.shape
    for n in range(count):
        top, left = squares[0, n], squares[1, n]
        for y in range(height):
            row = y + shifts[0, n]
            if reflect:
                row = abs(row)
                row = min(row, 2 * (height - 1) - row)
            for x in range(width):
                if top <= y < top + cutout and left <= x < left + cutout:
                    for c in range(channels):
                        varied[n, y, x, c] = 0.0
                    continue
                column = (width - 1 - x if mirrored[n] else x) + shifts[1, n]
                if reflect:
                    column = abs(column)
                    column = min(column, 2 * (width - 1) - column)
                inside = 0 <= row < height and 0 <= column < width
                for c in range(channels):
                    varied[n, y, x, c] = images[n, c, row, column] if inside else black[c]


def _first_side(indices: Tensor, seed: int) -> Tensor:
    """Whether each image is mirrored in the first epoch: half of them, by a hash of its place."""
    mixed = indices.numpy().astype(np.uint64) + np.uint64(seed * 0x9E3779B97F4A7C15 % 2**64)
    # the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return torch.from_numpy((mixed & np.uint64(1)).astype(bool))


def _crops(dataset: DataSet, indices: Tensor) -> Tensor:
    """Random parts of the training pictures' files."""
    samples: Samples = dataset.split("train").images
    while isinstance(samples, Chosen):
        indices, samples = samples.places[indices], samples.samples
    if not isinstance(samples, Pictures):
        raise DataError(
            f"{dataset.name}: only an imagefolder's pictures can be varied by resized-crop; set "
            "augmentation to 'shift-flip' or 'none'"
        )
    return samples.crops(indices)
