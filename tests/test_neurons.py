"""Neurons against a step-by-step loop that autograd differentiates, and networks of them."""

import weakref
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.snn.encoding import InputCoding
from spikeship.training.snn.neurons import HeldDropout, Reset, Scale, SpikingNeuron
from spikeship.training.snn.spiking_network import SpikingNetwork

SCALAR, PER_CHANNEL = torch.tensor(0.8), torch.tensor([0.5, 0.9, 1.3]).reshape(3, 1, 1)


def loop(
    weighted: Tensor, theta: Tensor, leak: float, v0: float, reset: Reset, slope: str
) -> Tensor:
    """SEMANTICS as one reads it, a step at a time; autograd sees every operation."""
    v = torch.full_like(weighted[0], v0)
    last = torch.full_like(weighted[0], -1000.0)
    spikes = []
    for t, current in enumerate(weighted):
        v = leak * v + current
        fired = (v > theta).to(v.dtype).detach()
        z = v / theta - 1
        if slope == "stdb":
            gradient = 0.3 * torch.exp(-0.01 * (t - last))
        else:
            gradient = 0.3 * torch.clamp(1 - z.detach().abs(), min=0)
        last = torch.where(fired > 0, float(t), last)
        # worth the spike, with the surrogate's slope along z
        spikes.append(fired + gradient * (z - z.detach()))
        v = v - theta * fired if reset == "subtract" else v * (1 - fired)
    return torch.stack(spikes)


@pytest.mark.parametrize("v0", [0.0, 0.4])
@pytest.mark.parametrize("theta", [SCALAR, PER_CHANNEL], ids=["scalar", "per channel"])
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("leak", [1.0, 0.9])
@pytest.mark.parametrize("slope", ["stdb", "linear"])
def test_gradients_are_those_of_the_loop(
    slope: str, leak: float, reset: Reset, theta: Tensor, v0: float
) -> None:
    generator = torch.Generator().manual_seed(1)
    weighted = torch.randn(40, 2, 3, 4, 5, generator=generator, dtype=torch.float64)
    received = torch.randn(weighted.shape, generator=generator, dtype=torch.float64)
    theta = theta.double()
    results = []
    for run in ("loop", "neuron"):
        x = weighted.clone().requires_grad_()
        if run == "loop":
            spikes = loop(x, theta, leak, v0, reset, slope)
        else:
            neuron = SpikingNeuron(theta, leak=leak, v0=v0, reset=reset, surrogate_name=slope)
            spikes = neuron(x)
        torch.autograd.backward(spikes, received)
        results.append((spikes.detach(), x.grad))
    (expected, gradient), (spikes, mine) = results
    assert 0.05 < spikes.mean() < 0.6
    assert torch.equal(spikes, expected)
    assert gradient is not None and mine is not None
    assert gradient.abs().max() > 1e-3
    assert (mine - gradient).abs().max() < 1e-10


def test_gradients_reach_weights_that_lie_channels_last() -> None:
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(12, 2, 6, 6, generator=generator, dtype=torch.float64)
    gradients = []
    for layout in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        conv = nn.Conv2d(2, 4, 3, dtype=torch.float64)
        spikes = SpikingNeuron(torch.tensor(0.3, dtype=torch.float64))(
            conv(images.contiguous(memory_format=layout)).view(4, 3, 4, 4, 4)
        )
        # the sum's gradient comes expanded, without memory of its own
        torch.autograd.backward(spikes.sum())
        assert conv.weight.grad is not None
        gradients.append(conv.weight.grad)
    assert gradients[0].abs().max() > 0
    assert torch.allclose(gradients[0], gradients[1], rtol=0, atol=1e-10)


@given(
    st.lists(st.lists(st.integers(-9, 9), min_size=3, max_size=3), min_size=1, max_size=12),
    st.integers(1, 12),
    st.integers(-5, 5),
    st.sampled_from(["subtract", "zero"]),
)
def test_spikes_are_those_of_whole_numbers(
    currents: list[list[int]], theta: int, v0: int, reset: Reset
) -> None:
    neuron = SpikingNeuron(float(theta), v0=float(v0), reset=reset)
    spikes = neuron(torch.tensor(currents, dtype=torch.float32))
    for place in range(3):
        v, expected = v0, []
        for current in currents:
            v += current[place]
            expected.append(float(v > theta))
            if v > theta:
                v = v - theta if reset == "subtract" else 0
        assert spikes[:, place].tolist() == expected


def test_a_potential_at_the_threshold_does_not_fire() -> None:
    spikes = SpikingNeuron(1.0)(torch.tensor([[1.0], [0.0], [2.0**-20], [0.0]]))
    assert spikes.flatten().tolist() == [0.0, 0.0, 1.0, 0.0]


def test_leak_multiplies_before_the_input_is_added() -> None:
    # V: 1, 0.5 + 0.5 = 1, 0.5 + 0.75 = 1.25 > 1
    spikes = SpikingNeuron(1.0, leak=0.5)(torch.tensor([[1.0], [0.5], [0.75]]))
    assert spikes.flatten().tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("slope", "bytes_each"), [("stdb", 1), ("linear", 4)], ids=["stdb", "linear"]
)
def test_backward_keeps_only_what_it_needs(slope: str, bytes_each: int) -> None:
    kept = 0

    def pack(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    x = torch.randn(10, 8, 50, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        SpikingNeuron(1.0, surrogate_name=slope)(x)
    threshold = leak = v0 = 4
    assert kept == x.numel() * bytes_each + threshold + leak + v0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 0.0}, "threshold must be positive, got 0.0"),
        ({"threshold": torch.tensor([1.0, -2.0])}, "threshold must be positive, got -2.0"),
        ({"threshold": 1.0, "leak": 1.5}, "leak must lie in 0..1, got 1.5"),
        ({"threshold": 1.0, "reset": "soft"}, "reset 'soft' is not known; use subtract or zero"),
        ({"threshold": 1.0, "surrogate_name": "relu"}, "surrogate 'relu' is not known"),
    ],
)
def test_a_neuron_outside_its_limits_is_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("..", r"\.\.")):
        SpikingNeuron(**values)


def test_dropout_holds_one_mask_for_the_whole_sequence() -> None:
    torch.manual_seed(0)
    dropout = HeldDropout(0.25)
    x = torch.ones(7, 40, 100)
    dropped = dropout(x)
    assert torch.equal(dropped, dropped[:1].expand(7, -1, -1))
    assert set(dropped.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (dropped[0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    # samples and sequences have masks of their own
    assert not torch.equal(dropped[0, 0], dropped[0, 1])
    assert not torch.equal(dropout(x), dropped)
    assert dropout.eval()(x) is x
    with pytest.raises(ValueError, match=r"dropout must lie in 0 <= p < 1, got 1.0"):
        HeldDropout(1.0)


def network() -> Network:
    """Whole-number weights: conv, pool, a sum with an identity and a 1x1 branch, dense."""
    generator = torch.Generator().manual_seed(3)

    def whole(module: nn.Module) -> nn.Module:
        for parameter in module.parameters():
            parameter.data = torch.randint(-3, 4, parameter.shape, generator=generator).float()
        return module

    layers = [
        Layer("conv1", whole(nn.Conv2d(2, 4, 3, padding=1)), (INPUT,)),
        Layer("relu1", SpikingNeuron(4.0), ("conv1",)),
        Layer("pool", nn.AvgPool2d(2), ("relu1",)),
        Layer("drop", HeldDropout(0.5), ("pool",)),
        Layer("conv2", whole(nn.Conv2d(4, 4, 3, padding=1)), ("drop",)),
        Layer("relu2", SpikingNeuron(torch.tensor([3.0, 4, 5, 6])[:, None, None]), ("conv2",)),
        Layer("conv3", whole(nn.Conv2d(4, 4, 3, padding=1)), ("relu2",)),
        Layer("skip", Scale(2.0), ("drop",)),
        Layer("side", whole(nn.Conv2d(4, 4, 1)), ("drop",)),
        Layer("sum", Add(), ("conv3", "skip", "side")),
        Layer("relu3", SpikingNeuron(7.0, reset="zero", v0=2.0), ("sum",)),
        Layer("flatten", nn.Flatten(), ("relu3",)),
        Layer("fc", whole(nn.Linear(64, 5)), ("flatten",)),
    ]
    return Network(layers, (2, 8, 8))


def stepwise(net: Network, messages: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """All layers one step after the other, with state kept from step to step."""
    state: dict[str, Tensor] = {}
    spikes: dict[str, list[Tensor]] = {}
    readout = torch.zeros(len(messages), 5)
    for t in range(messages.shape[1]):
        values = {INPUT: messages[:, t].float()}
        for layer in net.layers:
            inputs = [values[name] for name in layer.inputs]
            module = layer.module
            if isinstance(module, SpikingNeuron):
                v = state.get(layer.name, torch.full_like(inputs[0], module.v0)) + inputs[0]
                fired = (v > module.threshold).float()
                zeroed = v * (1 - fired)
                state[layer.name] = (
                    zeroed if module.reset == "zero" else v - module.threshold * fired
                )
                spikes.setdefault(layer.name, []).append(fired)
                values[layer.name] = fired
            else:
                values[layer.name] = module(*inputs)
        readout += values[net.output]
    return {name: torch.stack(steps) for name, steps in spikes.items()}, readout


@torch.no_grad()
def test_a_network_does_at_once_what_steps_do() -> None:
    net = network().eval()
    snn = SpikingNetwork(net, InputCoding(), 9).eval()
    messages = torch.randint(-1, 2, (3, 9, 2, 8, 8), generator=torch.Generator().manual_seed(4))
    spikes, readout = stepwise(net, messages)
    seen = {activity.name: activity for activity in snn.walk(messages)}
    assert list(seen) == ["relu1", "relu2", "relu3", "fc"]
    for name in ("relu1", "relu2", "relu3"):
        sent = seen[name].spikes
        assert sent is not None
        assert 0.02 < sent.mean() < 0.9
        # quarters and whole numbers, so the sums are exact
        assert torch.equal(sent, spikes[name])
    assert seen["fc"].spikes is None
    assert torch.equal(snn(messages), readout)
    assert torch.equal(seen["fc"].weighted.sum(0), readout)


def test_a_walk_holds_no_weighted_input_once_its_neuron_has_fired() -> None:
    snn = SpikingNetwork(network(), InputCoding(), 4)
    walk = snn.walk(torch.ones(1, 4, 2, 8, 8))
    _, weighted, spikes = next(walk)
    gone = weakref.ref(weighted)
    del weighted
    next(walk)
    assert gone() is None


def test_messages_of_another_shape_are_refused() -> None:
    snn = SpikingNetwork(network(), InputCoding(), 4)
    with pytest.raises(ValueError, match=r"shape \(1, 2, 8, 8\), the network takes \(batch, time"):
        snn(torch.zeros(1, 2, 8, 8))
    with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
        SpikingNetwork(network(), InputCoding(), 0)


def test_a_learnt_threshold_has_a_floor_and_no_ceiling() -> None:
    """A thousandth of the smallest it began with; what lies above stays as it is."""
    neuron = SpikingNeuron(torch.tensor([2.0, 4.0, 8.0, 4.0]))
    neuron.learn(threshold=True)
    with torch.no_grad():
        neuron.threshold.copy_(torch.tensor([-1.0, 0.0, 0.5, 1e6]))
    neuron.constrain()
    assert neuron.threshold.tolist() == pytest.approx([2e-3, 2e-3, 0.5, 1e6])
