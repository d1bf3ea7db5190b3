"""Messages depend on the image, the seed and the index alone, and say what the image says."""

import zlib

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from spikeship.training.snn.encoding import (
    Encoding,
    EncodingError,
    InputCoding,
    encode,
    encode_train,
    real_images,
)


def images(count: int = 6) -> Tensor:
    return torch.randn(count, 2, 5, 5, generator=torch.Generator().manual_seed(count))


def test_messages_do_not_depend_on_the_batch() -> None:
    x = images()
    coding = InputCoding.for_images("poisson", x)
    together = encode(x, coding, 20, seed=3)
    assert together.dtype == torch.int8 and together.shape == (6, 20, 2, 5, 5)
    for place in (0, 4, 5):
        alone = encode(x[place : place + 1], coding, 20, seed=3, indices=torch.tensor([place]))
        assert torch.equal(alone[0], together[place])
    mixed = torch.tensor([5, 0, 2])
    assert torch.equal(encode(x[mixed], coding, 20, seed=3, indices=mixed), together[mixed])
    # a shorter run is the start of a longer one
    assert torch.equal(encode(x, coding, 7, seed=3), together[:, :7])


def test_seed_and_index_each_give_other_messages() -> None:
    x = images()
    coding = InputCoding.for_images("poisson", x)
    first = encode(x, coding, 20, seed=3)
    assert not torch.equal(encode(x, coding, 20, seed=4), first)
    assert not torch.equal(encode(x, coding, 20, seed=3, indices=torch.arange(1, 7)), first)
    alike = encode(x[:1].expand(2, -1, -1, -1), coding, 20, seed=3)
    assert not torch.equal(alike[0], alike[1])


def test_messages_are_the_same_on_every_machine() -> None:
    x = (torch.arange(-50, 50) / 50).reshape(2, 2, 5, 5)
    messages = encode(x, InputCoding(), 30, seed=7)
    assert zlib.crc32(messages.numpy().tobytes()) == 3938458833


@pytest.mark.parametrize("training", [False, True])
def test_poisson_rates_are_the_values(training: bool) -> None:
    x = torch.tensor([[0.0, 2.0, -2.0, 0.5, -1.0, 1e-3]])
    coding = InputCoding.for_images("poisson", x)
    assert coding == InputCoding("poisson", 2.0, 1, True)
    if training:
        messages = encode_train(x, coding, 20_000, torch.Generator().manual_seed(1))
    else:
        messages = encode(x, coding, 20_000)
    assert messages.dtype == torch.int8
    mean = messages.float().mean(1)[0] * coding.scale
    # exact at both ends, four standard deviations between them
    assert mean[:3].tolist() == [0.0, 2.0, -2.0]
    assert mean[3:].tolist() == pytest.approx([0.5, -1.0, 1e-3], abs=0.03)
    for pixel, value in enumerate(x[0].tolist()):
        assert set(messages[0, :, pixel].tolist()) <= {0, (value > 0) - (value < 0)}


@pytest.mark.parametrize("training", [False, True])
def test_a_zero_never_spikes_and_the_peak_always_does(training: bool) -> None:
    x = torch.cat([torch.zeros(1, 500), torch.full((1, 500), -1.0)])
    # 500,000 draws of each: about one in 2**24 is 0
    messages = encode_train(x, InputCoding(), 1000) if training else encode(x, InputCoding(), 1000)
    assert messages[0].any().item() is False
    assert (messages[1] == -1).all().item() is True


def test_the_papers_cut_lets_larger_values_always_spike() -> None:
    x = torch.tensor([[3.0, -1.5, 0.25]])
    coding = InputCoding.for_images("poisson", x, peak=1.0)
    assert coding.scale == 1.0
    rates = encode(x, coding, 4000).float().mean(1)[0].tolist()
    assert rates[:2] == [1.0, -1.0]
    assert rates[2] == pytest.approx(0.25, abs=0.03)


@given(arrays("float32", 8, elements=st.floats(-4, 4, width=32)))
def test_direct_messages_are_the_nearest_of_255_levels(values: object) -> None:
    x = torch.as_tensor(values)[None]
    coding = InputCoding("direct", 3.0 / 127, 127, True)
    messages = encode(x, coding, 3)
    assert torch.equal(messages[:, 0], messages[:, 2])
    assert torch.equal(messages, encode_train(x, coding, 3))
    error = messages[:, 0] * coding.scale - x.clamp(-3, 3)
    assert error.abs().max() <= coding.scale / 2 + 1e-6


def test_the_peak_of_direct_input_is_the_largest_message() -> None:
    x = torch.tensor([[0.0, 0.7, -1.4, 2.8]])
    coding = InputCoding.for_images("direct", x)
    assert (coding.max_message, coding.signed) == (127, True)
    assert encode(x, coding, 1)[0, 0].tolist() == [0, 32, -64, 127]


def test_spikes_pass_as_they_are() -> None:
    spikes = torch.randint(-3, 4, (4, 6, 2, 3, 3))
    coding = InputCoding.for_images("spikes", spikes)
    assert coding == InputCoding("spikes", 1.0, 3, True)
    assert torch.equal(encode(spikes.double(), coding, 6, seed=9), spikes.to(torch.int8))


def test_messages_of_8_bits_are_taken_whole() -> None:
    spikes = torch.tensor([[[0], [127], [-127]]], dtype=torch.int8)
    coding = InputCoding.for_images("spikes", spikes)
    assert coding.max_message == 127
    assert torch.equal(encode(spikes, coding, 3), spikes)
    # -128 has no positive counterpart in int8
    with pytest.raises(EncodingError, match="max_message must lie in 1..127, got 128"):
        InputCoding.for_images("spikes", spikes.clamp(max=0) - 1)
    with pytest.raises(EncodingError, match="whole numbers of magnitude 127"):
        encode(spikes.clamp(max=0) - 1, coding, 3)


def test_what_an_ann_takes_is_what_messages_are_worth_on_average() -> None:
    spikes = torch.tensor([[[0, 3], [2, 3], [1, -3], [1, 3]]], dtype=torch.int8)
    assert real_images(spikes, InputCoding("spikes", 0.5, 3)).tolist() == [[0.5, 0.75]]
    x = images()
    assert real_images(x, InputCoding.for_images("poisson", x)) is x


def test_input_without_negative_values_has_no_sign() -> None:
    assert not InputCoding.for_images("poisson", images().abs()).signed


@pytest.mark.parametrize(
    ("x", "coding", "message"),
    [
        (-torch.ones(1, 4), InputCoding(signed=False), "negative values but the network's input"),
        (torch.tensor([[float("nan")]]), InputCoding(), "values that are not finite"),
        (torch.zeros(1, 4), InputCoding("spikes"), r"\(1, 4\) are not \(images, 5, …\)"),
        (torch.zeros(1, 6, 4), InputCoding("spikes"), r"\(1, 6, 4\) are not \(images, 5, …\)"),
        (torch.full((1, 5, 4), 0.5), InputCoding("spikes"), "must be whole numbers of magnitude 1"),
        (torch.full((1, 5, 4), 2.0), InputCoding("spikes"), "must be whole numbers of magnitude 1"),
    ],
)
def test_images_a_coding_cannot_carry_are_refused(
    x: Tensor, coding: InputCoding, message: str
) -> None:
    for call in (encode, encode_train):
        with pytest.raises(EncodingError, match=message):
            call(x, coding, 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (("rate", 1.0, 1, True), "encoding 'rate' is not known; use poisson, direct or spikes"),
        (("poisson", 0.0, 1, True), "input scale must be positive and finite, got 0.0"),
        (("poisson", float("inf"), 1, True), "input scale must be positive and finite, got inf"),
        (("direct", 1.0, 128, True), "max_message must lie in 1..127, got 128"),
        (("poisson", 1.0, 2, True), "Poisson messages are spikes, got max_message 2"),
    ],
)
def test_a_coding_outside_its_limits_is_refused(
    values: tuple[Encoding, float, int, bool], message: str
) -> None:
    with pytest.raises(EncodingError, match=message):
        InputCoding(*values)


def test_images_that_give_no_scale_are_refused() -> None:
    with pytest.raises(EncodingError, match="there are no images"):
        InputCoding.for_images("poisson", torch.zeros(0, 4))
    with pytest.raises(EncodingError, match="all images are zero"):
        InputCoding.for_images("direct", torch.zeros(3, 4))
    with pytest.raises(EncodingError, match="2 images were given with 3 indices"):
        encode(torch.ones(2, 4), InputCoding(), 5, indices=torch.arange(3))
