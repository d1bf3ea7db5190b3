"""Training images varied at random, on their own device: shifted and mirrored, or cut out.

Shifts by up to 4 pixels and mirroring are what Rathi et al., ICLR 2020 (arXiv 2005.01807) train
CIFAR-10 and CIFAR-100 with; pictures of 224 x 224 are random parts of the files, mirrored.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from spikeship.training.data_set import Chosen, DataError, DataSet, Samples
from spikeship.training.readers.image_folder import Pictures


def training_images(
    dataset: DataSet,
    indices: Tensor,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Training images as a step sees them: normalised, and varied as ``dataset.augmentation`` says.

    Random numbers come from torch's own generators: the CPU's for the parts of pictures, the
    device's for the rest.

    Args:
        dataset: with training images.
        indices: which of them, int64, on the CPU.
        mean: of each channel, as stored with a network; None for the set's own.
        std: likewise.
        device: where the images are wanted; they go there before they are normalised and varied.

    Returns:
        float32 on ``device``, shape (indices, *input_shape).

    Raises:
        DataError: no training images, a file that cannot be read, or an augmentation that such
            images cannot have.
    """
    whole = dataset.as_images("train", mean, std)
    kind = dataset.augmentation
    if kind != "none" and len(dataset.input_shape) != 3:
        raise DataError(
            f"{dataset.name}: images of shape {dataset.input_shape} cannot be varied by {kind}; "
            "set augmentation to 'none'"
        )
    raw = _crops(dataset, indices) if kind == "resized-crop" else whole.samples[indices]
    images = whole.apply(raw.to(device))
    if kind == "none":
        return images
    black = -torch.tensor(whole.mean) / torch.tensor(whole.std)
    return augment(images, black, padding=4 if kind == "shift-flip" else 0)


def augment(
    images: Tensor,
    fill: Tensor,
    *,
    padding: int = 4,
    flip: bool = True,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Shift each image by up to ``padding`` pixels each way, and mirror half of them.

    Args:
        images: shape (images, channel, height, width), on any device.
        fill: what comes in at the sides, of each channel: black, normalised as the images.
        padding: largest shift.
        flip: whether to mirror.
        generator: on the images' device; by default torch's own.

    Returns:
        Images of the same shape.
    """
    count, channels, height, width = images.shape
    device = images.device
    columns = torch.arange(width, device=device).repeat(count, 1, 1, 1)
    rows = torch.arange(height, device=device).reshape(1, 1, -1, 1)
    if padding:
        inner = (slice(None), slice(None), slice(padding, -padding), slice(padding, -padding))
        size = (count, 1, height + 2 * padding, width + 2 * padding)
        padded = fill.to(images).reshape(1, -1, 1, 1).repeat(size)
        padded[inner] = images
        images = padded
        top, left = torch.randint(
            0, 2 * padding + 1, (2, count, 1, 1, 1), generator=generator, device=device
        )
    if flip:
        mirrored = torch.rand(count, generator=generator, device=device) < 0.5
        columns = torch.where(mirrored.reshape(-1, 1, 1, 1), columns.flip(-1), columns)
    if padding:
        rows, columns = rows + top, columns + left
    return images[
        torch.arange(count, device=device).reshape(-1, 1, 1, 1),
        torch.arange(channels, device=device).reshape(1, -1, 1, 1),
        rows,
        columns,
    ]


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
