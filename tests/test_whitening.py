"""The first convolution that whitens patches."""

import pytest
import torch
from torch import nn

from spikeship.training.ann.whitening import whiten
from spikeship.training.ann.zoo import build


def _images(count: int = 60) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(count, 3, 16, 16, generator=draw)
    return nn.functional.avg_pool2d(noise, 3, 1, 1) * 3 + 0.4


def test_patches_come_out_white_with_both_signs() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 60, 3, bias=False), nn.ReLU())
    drawn = model[0].weight.detach().clone()
    images = _images()
    whiten(model, images, least=0.0)
    out = model[0](images - images.mean((0, 2, 3), keepdim=True)).detach()
    # all 27 parts of a patch, twice; what is left stays
    torch.testing.assert_close(out[:, :27], -out[:, 27:54])
    flat = out[:, :27].transpose(0, 1).flatten(1).double()
    torch.testing.assert_close(
        torch.cov(flat), torch.eye(27, dtype=torch.float64), atol=2e-2, rtol=0
    )
    assert torch.equal(model[0].weight[54:], drawn[54:])
    assert not model[0].weight.requires_grad


def test_few_channels_take_the_largest_parts() -> None:
    model = build("fast9", (3, 32, 32), 10)
    images = _images()
    whiten(model, images)
    first = model.get_submodule("features.conv1")
    assert isinstance(first, nn.Conv2d)
    full = nn.Sequential(nn.Conv2d(3, 54, 3, bias=False))
    whiten(full, images)
    assert torch.equal(first.weight[:12], full[0].weight[:12])
    assert torch.equal(first.weight[12:24], -first.weight[:12])
    trained = [name for name, value in model.named_parameters() if value.requires_grad]
    assert "features.conv1.weight" not in trained and "features.conv2.weight" in trained


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), "without convolutions"),
        (nn.Sequential(nn.Conv2d(4, 8, 3)), "takes 4 channels in 1 groups, the images have 3"),
        (nn.Sequential(nn.Conv2d(3, 3, 3, groups=3)), "takes 1 channels in 3 groups"),
    ],
)
def test_networks_that_cannot_whiten_are_refused(model: nn.Module, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        whiten(model, _images(2))
