"""Varied training images: shifted by whole pixels, black coming in, half of them mirrored."""

import pytest
import torch
from torch import Tensor

from spikeship.training.augment import augment, training_images
from spikeship.training.data import DataError, DataSet, Split

FILL = torch.tensor([-1.0, -2.0])


def _numbered(count: int, side: int = 12) -> Tensor:
    """Images in which every pixel says where it was; nothing is below 0."""
    return torch.arange(2.0 * side**2).reshape(1, 2, side, side).repeat(count, 1, 1, 1)


def _shift(image: Tensor, original: Tensor, padding: int) -> tuple[int, int, bool]:
    """The one shift and mirroring that explains an image."""
    side = original.shape[-1]
    padded = FILL.reshape(-1, 1, 1).repeat(1, side + 2 * padding, side + 2 * padding)
    padded[:, padding : padding + side, padding : padding + side] = original
    found = [
        (top - padding, left - padding, mirrored)
        for top in range(2 * padding + 1)
        for left in range(2 * padding + 1)
        for mirrored in (False, True)
        for part in [padded[:, top : top + side, left : left + side]]
        if torch.equal(part.flip(-1) if mirrored else part, image)
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("padding", [4, 1, 0])
def test_every_shift_and_side_comes_equally_often(padding: int) -> None:
    images = _numbered(400)
    varied = augment(images, FILL, padding=padding, generator=torch.Generator().manual_seed(0))
    found = [_shift(image, images[0], padding) for image in varied]
    reach = list(range(-padding, padding + 1))
    for axis in (0, 1):
        counts = [sum(shift[axis] == step for shift in found) for step in reach]
        # four standard deviations
        share = 1 / len(reach)
        slack = 4 * (400 * share * (1 - share)) ** 0.5
        assert all(abs(count - 400 * share) <= slack for count in counts)
    assert 160 <= sum(mirrored for _, _, mirrored in found) <= 240


def test_mirroring_can_be_left_out() -> None:
    images = _numbered(40)
    varied = augment(images, FILL, flip=False, generator=torch.Generator().manual_seed(0))
    assert not any(_shift(image, images[0], 4)[2] for image in varied)
    assert torch.equal(augment(images, FILL, padding=0, flip=False), images)


def test_the_seed_says_which() -> None:
    images = _numbered(20)

    def vary(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return augment(images, FILL)

    assert torch.equal(vary(3), vary(3))
    assert not torch.equal(vary(3), vary(4))
    explicit = augment(images, FILL, generator=torch.Generator().manual_seed(3))
    assert torch.equal(explicit, vary(3))


def _set(images: Tensor, augmentation: str) -> DataSet:
    split = Split(images, torch.zeros(len(images), dtype=torch.int64))
    channels = images.shape[1]
    return DataSet(
        "x",
        split,
        None,
        1,
        (0.5,) * channels,
        (0.25,) * channels,
        augmentation=augmentation,  # type: ignore[arg-type]
    )


def test_training_images_are_normalised_and_black_comes_in() -> None:
    white = torch.full((50, 2, 8, 8), 255, dtype=torch.uint8)
    torch.manual_seed(0)
    images = training_images(_set(white, "shift-flip"), torch.arange(50))
    assert images.dtype == torch.float32
    assert sorted(images.unique().tolist()) == [-2.0, 2.0]  # black and white, normalised
    own = training_images(
        _set(white, "shift-flip"), torch.arange(50), mean=(0.0, 0.0), std=(1.0, 0.5)
    )
    assert [sorted(own[:, channel].unique().tolist()) for channel in (0, 1)] == [[0, 1], [0, 2]]


def test_sets_that_are_not_varied_come_as_they_are() -> None:
    dataset = _set(torch.rand(6, 2, 8, 8), "none")
    places = torch.tensor([4, 0])
    assert torch.equal(training_images(dataset, places), dataset.normalised("train", places))
    flat = _set(torch.rand(6, 1), "none")
    assert training_images(flat, places).shape == (2, 1)


@pytest.mark.parametrize(
    ("images", "kind", "reason"),
    [
        (torch.rand(6, 1), "shift-flip", r"images of shape \(1,\) cannot be varied"),
        (torch.rand(6, 2, 8, 8), "resized-crop", "only an imagefolder's pictures"),
    ],
)
def test_images_that_cannot_be_varied_so_are_refused(
    images: Tensor, kind: str, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        training_images(_set(images, kind), torch.arange(2))
