"""Varied training images: shifted by whole pixels, mirrored, a square taken out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from spikeship.training.choices import Fill
from spikeship.training.data.augment import Variation, training_images, variation_of, vary
from spikeship.training.data.load import DataError, DataSet, Split

FILL = torch.tensor([-1.0, -2.0])


def _numbered(count: int, side: int = 12) -> Tensor:
    """Images in which every pixel says where it was; nothing is below 1."""
    return 1 + torch.arange(2.0 * side**2).reshape(1, 2, side, side).repeat(count, 1, 1, 1)


def _vary(images: Tensor, variation: Variation, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return vary(images, variation, FILL, torch.zeros(len(images), dtype=torch.bool))


def _shift(image: Tensor, original: Tensor, reach: int, fill: Fill) -> tuple[int, int, bool]:
    """The one shift and mirroring that explains an image."""
    side = original.shape[-1]
    if fill == "reflect":
        padded = functional.pad(original, (reach,) * 4, mode="reflect")
    else:
        padded = FILL.reshape(-1, 1, 1).repeat(1, side + 2 * reach, side + 2 * reach)
        padded[:, reach : reach + side, reach : reach + side] = original
    found = [
        (top - reach, left - reach, mirrored)
        for top in range(2 * reach + 1)
        for left in range(2 * reach + 1)
        for mirrored in (False, True)
        for part in [padded[:, top : top + side, left : left + side]]
        if torch.equal(part.flip(-1) if mirrored else part, image)
    ]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("fill", ["black", "reflect"])
@pytest.mark.parametrize("reach", [4, 1, 0])
def test_every_shift_and_side_comes_equally_often(reach: int, fill: Fill) -> None:
    images = _numbered(400)
    varied = _vary(images, Variation(reach, fill, "random"))
    found = [_shift(image, images[0], reach, fill) for image in varied]
    shifts = list(range(-reach, reach + 1))
    for axis in (0, 1):
        counts = [sum(shift[axis] == step for shift in found) for step in shifts]
        # four standard deviations
        share = 1 / len(shifts)
        slack = 4 * (400 * share * (1 - share)) ** 0.5
        assert all(abs(count - 400 * share) <= slack for count in counts)
    assert 160 <= sum(mirrored for _, _, mirrored in found) <= 240


def test_mirroring_can_be_left_out() -> None:
    images = _numbered(40)
    varied = _vary(images, Variation(4))
    assert not any(_shift(image, images[0], 4, "black")[2] for image in varied)
    assert torch.equal(_vary(images, Variation()), images)


def test_channels_of_a_place_lie_side_by_side() -> None:
    varied = _vary(_numbered(3), Variation(1))
    assert varied.is_contiguous(memory_format=torch.channels_last)


def test_the_seed_says_which() -> None:
    images, variation = _numbered(20), Variation(4, "reflect", "random", cutout=3)
    assert torch.equal(_vary(images, variation, 3), _vary(images, variation, 3))
    assert not torch.equal(_vary(images, variation, 3), _vary(images, variation, 4))


@given(cutout=st.integers(1, 9), seed=st.integers(0, 1000))
def test_a_square_is_taken_out_anywhere(cutout: int, seed: int) -> None:
    images = _numbered(8, side=6)
    varied = _vary(images, Variation(cutout=cutout), seed)
    for image, original in zip(varied, images, strict=True):
        gone = image == 0
        assert torch.equal(gone[0], gone[1]) and torch.equal(image[~gone], original[~gone])
        rows, columns = gone[0].any(1).nonzero().flatten(), gone[0].any(0).nonzero().flatten()
        assert gone[0].sum() == len(rows) * len(columns) > 0
        for places in (rows, columns):
            assert torch.equal(places, torch.arange(int(places[0]), int(places[-1]) + 1))
            whole = int(places[0]) > 0 and int(places[-1]) < 5
            assert len(places) == cutout if whole else len(places) <= cutout


def test_squares_reach_every_place() -> None:
    varied = _vary(_numbered(400, side=5), Variation(cutout=1))
    gone = (varied[:, 0] == 0).sum(0)
    assert gone.sum() == 400 and gone.min() > 4 and gone.max() < 32


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


def test_alternating_images_show_the_other_side_each_epoch() -> None:
    dataset = _set(torch.rand(300, 2, 6, 6), "shift-flip")
    places = torch.randperm(300)
    whole = dataset.normalised("train", places)
    seen: dict[tuple[int, int], Tensor] = {}
    for seed in (0, 7):
        for epoch in range(3):
            images = training_images(
                dataset, places, variation=Variation(flip="alternating"), epoch=epoch, seed=seed
            )
            mirrored = (images == whole.flip(-1)).flatten(1).all(1)
            assert torch.equal(mirrored, (images != whole).flatten(1).any(1))
            seen[seed, epoch] = mirrored
    assert 110 < seen[0, 0].sum() < 190
    assert torch.equal(seen[0, 1], ~seen[0, 0]) and torch.equal(seen[0, 2], seen[0, 0])
    assert not torch.equal(seen[7, 0], seen[0, 0])
    # an image's side does not depend on the batch it comes in
    one = training_images(
        dataset, places[5:6], variation=Variation(flip="alternating"), epoch=0, seed=0
    )
    assert torch.equal(one[0], whole[5].flip(-1)) == bool(seen[0, 0][5])


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
    # unless somebody asks for it
    shifted = training_images(dataset, places, variation=Variation(2, "reflect"))
    assert not torch.equal(shifted, dataset.normalised("train", places))


def test_how_a_set_is_varied_follows_from_what_it_bears() -> None:
    images = torch.rand(2, 2, 8, 8)
    assert variation_of(_set(images, "none")) == Variation()
    assert variation_of(_set(images, "shift-flip"), paper=True) == Variation(4, "black", "random")
    assert variation_of(_set(images, "shift-flip")) == Variation(4, "reflect", "alternating")
    assert variation_of(_set(images, "resized-crop")).translate == 0


@pytest.mark.parametrize(
    ("images", "kind", "variation", "reason"),
    [
        (torch.rand(6, 1), "shift-flip", None, r"images of shape \(1,\) cannot be shifted"),
        (torch.rand(6, 2, 8, 8), "resized-crop", None, "only an imagefolder's pictures"),
        (torch.rand(6, 2, 4, 4), "none", Variation(4, "reflect"), "use at most 3"),
    ],
)
def test_images_that_cannot_be_varied_so_are_refused(
    images: Tensor, kind: str, variation: Variation | None, reason: str
) -> None:
    with pytest.raises(DataError, match=reason):
        training_images(_set(images, kind), torch.arange(2), variation=variation)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"translate": -1}, "translate must not be negative"),
        ({"cutout": -2}, "cutout must not be negative"),
        ({"fill": "white"}, "fill 'white' is not known"),
        ({"flip": "up"}, "flip 'up' is not known"),
    ],
)
def test_variations_out_of_range_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        Variation(**options)  # type: ignore[arg-type]
