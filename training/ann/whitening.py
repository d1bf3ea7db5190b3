"""A first convolution that whitens patches of the training images."""

import torch
from torch import Tensor, nn

from spikeship.hw_models.errors import InputError


def whiten(model: nn.Module, images: Tensor, least: float = 5e-4) -> None:
    """Let the first convolution give the principal parts of its patches, and keep it so.

    Filters are the eigenvectors of the patches' covariance with the largest eigenvalues, each
    divided by the root of its own, and each with both signs, so that a ReLU loses nothing.
    Channels beyond twice the size of a patch stay as they were drawn. The convolution is not
    trained. (In the CIFAR-10 speed runs of D. Page, 2018, and K. Jordan, arXiv 2404.00498.)

    Args:
        model: its first convolution in the order of its modules reads the images.
        images: some, normalised as in training, shape (images, channel, height, width).
        least: added to each eigenvalue.

    Raises:
        ValueError: no convolution, or one that does not read the images.
    """
    first = next((part for part in model.modules() if isinstance(part, nn.Conv2d)), None)
    if first is None:
        raise InputError("a network without convolutions cannot whiten patches; leave it out")
    _, channels, height, width = first.weight.shape
    if first.groups != 1 or channels != images.shape[1]:
        raise InputError(
            f"the first convolution takes {channels} channels in {first.groups} groups, the images "
            f"have {images.shape[1]}; leave whitening out"
        )
    patches = nn.functional.unfold(images.double(), (height, width))
    patches = patches.transpose(1, 2).flatten(0, 1)
    patches = patches - patches.mean(0)
    covariance = patches.T @ patches / len(patches)
    values, vectors = torch.linalg.eigh(covariance)  # ascending
    count = min(first.out_channels // 2, len(values))
    filters = (vectors / (values + least).sqrt()).T.flip(0)[:count]
    filters = filters.reshape(count, channels, height, width)
    with torch.no_grad():
        first.weight[: 2 * count] = torch.cat([filters, -filters]).to(first.weight)
    first.weight.requires_grad_(False)
