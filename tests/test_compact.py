"""Layers that keep bytes for backward: the gradients of those that keep everything."""

import copy

import pytest
import torch
from peers.plain_loop import PlainLoop
from spiking import chain, images, residual
from torch import Tensor, nn

from spikeship.training.ann.network import Network
from spikeship.training.conversion.convert import convert
from spikeship.training.conversion.fold_batchnorm import fold_batchnorm
from spikeship.training.snn import recompute as compact
from spikeship.training.snn.encoding import encode
from spikeship.training.snn.neurons import HeldDropout
from spikeship.training.snn.spiking_network import SpikingNetwork

STEPS = 12


def tuned(ann: Network, surrogate: str = "stdb", dropout: float = 0.0) -> SpikingNetwork:
    """A converted network in training mode, in float64."""
    snn = convert(fold_batchnorm(ann), images(), num_steps=STEPS, seed=1).double().train()
    for module in snn.modules():
        if isinstance(module, HeldDropout):
            module.p = dropout
    for neuron in snn.neurons.values():
        neuron.surrogate_name = surrogate
    return snn


def gradients(model: nn.Module, snn: SpikingNetwork) -> dict[str, Tensor]:
    """Gradients of a loss on the readout, by parameter."""
    snn.zero_grad()
    torch.manual_seed(5)
    messages = encode(images(6), snn.coding, STEPS)
    model(messages).square().sum().backward()
    found = {}
    for name, parameter in snn.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name
        found[name] = parameter.grad.clone()
    return found


@pytest.mark.parametrize("part", [2**22, 4000], ids=["at once", "in parts"])
@pytest.mark.parametrize("ann", [chain(bias=True), residual(), residual(strided=True)])
def test_gradients_are_those_of_a_plain_loop_over_steps(
    ann: Network, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compact, "_PART", part)
    snn = tuned(ann)
    expected = gradients(PlainLoop(snn), snn)
    for name, mine in gradients(snn, snn).items():
        error = (mine - expected[name]).abs().max() / expected[name].abs().max()
        assert error < 1e-10, (name, error)


@pytest.mark.parametrize("surrogate", ["stdb", "linear"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_with_dropout_they_are_those_of_autograd(
    surrogate: str, checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    snn = tuned(chain(bias=True), surrogate, dropout=0.4)
    snn.checkpointing = checkpointing
    monkeypatch.setattr(compact, "_PART", 5000)
    mine = gradients(snn, snn)
    snn.checkpointing = False
    monkeypatch.setattr(
        "spikeship.training.snn.spiking_network.run",
        lambda module, inputs, steps: compact.Value(module(*(value.tensor for value in inputs))),
    )
    expected = gradients(snn, snn)
    for name, gradient in mine.items():
        assert torch.allclose(gradient, expected[name], rtol=1e-9, atol=1e-12), name


def kept(snn: SpikingNetwork) -> int:
    """Bytes autograd keeps for backward."""
    total: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        total[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    alive = []  # so that no address is used twice
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: alive.append(x) or pack(x), lambda x: x
    ):
        snn(encode(images(), snn.coding, STEPS))
    return sum(total.values())


def test_a_step_keeps_a_byte_for_each_neuron_and_step() -> None:
    snn = tuned(chain()).float()
    weights = sum(parameter.nbytes for parameter in snn.parameters())
    neurons = 6 * 64 + 8 * 4 + 20
    # and thresholds, leaks and the masks of dropout, which are as large as one step
    assert kept(snn) - weights < 1.5 * neurons * STEPS * 24
    linear = tuned(chain(), "linear").float()
    assert kept(linear) - weights > 4 * neurons * STEPS * 24
    linear.checkpointing = True
    assert kept(linear) - weights < 1.5 * neurons * STEPS * 24


@pytest.mark.parametrize("checkpointing", [False, True])
def test_bfloat16_autocast_learns_the_same_thing(checkpointing: bool) -> None:
    snn = tuned(chain(bias=True), "linear").float()
    expected = gradients(snn, snn)
    other = copy.deepcopy(snn)
    other.checkpointing = checkpointing
    with torch.autocast("cpu", torch.bfloat16):
        mine = gradients(other, other)
    for name, gradient in mine.items():
        assert gradient.dtype == torch.float32
        cosine = nn.functional.cosine_similarity(gradient.flatten(), expected[name].flatten(), 0)
        assert cosine > 0.9, (name, cosine)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("side", [2, 3, 5])
def test_a_pools_gradient_is_shared_by_its_whole_square(
    side: int, layout: torch.memory_format
) -> None:
    x = torch.zeros(1, 2, 2 * side, side, requires_grad=True)
    pooled = compact._Pool.apply(x, nn.AvgPool2d(side))  # type: ignore[no-untyped-call]
    area = side * side
    sent = torch.tensor([[[[1.0], [2.0]], [[3.0], [4.0]]]]) * area
    pooled.backward(sent.contiguous(memory_format=layout))
    assert x.grad is not None
    squares = x.grad.reshape(2, 2, side, side)
    expected = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[:, :, None, None].expand_as(squares)
    torch.testing.assert_close(squares, expected)
