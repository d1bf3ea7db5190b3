"""Balancing in one pass against the sequential algorithm, and every other choice of thresholds."""

import copy
import math

import numpy as np
import pytest
import torch
from sequential_balancing import Prefix, sequential_thresholds
from spiking import chain, images, lively, residual
from torch import Tensor, nn

from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.conversion.balance import BalanceError
from spikeship.training.conversion.convert import Start, convert
from spikeship.training.conversion.fold_batchnorm import fold_batchnorm
from spikeship.training.snn.encoding import encode
from spikeship.training.snn.neurons import Reset
from spikeship.training.snn.observe import evaluate
from spikeship.training.snn.spiking_network import SpikingNetwork

STEPS = 20


def thresholds(snn: SpikingNetwork) -> dict[str, float]:
    return {name: float(neuron.threshold) for name, neuron in snn.neurons.items()}


ANNS = {
    "chain": lambda: chain(bias=True),
    "identity skip": residual,
    "strided skip": lambda: residual(strided=True),
}


@pytest.mark.parametrize("kind", ANNS)
def test_thresholds_are_those_of_the_sequential_algorithm(kind: str) -> None:
    ann, x = ANNS[kind](), images(5)
    snn = convert(
        ann,
        x,
        num_steps=STEPS,
        balance_steps=STEPS,
        factor=0.5,
        seed=5,
        batch_size=2,
    )
    messages = encode(x, snn.coding, STEPS, seed=5)
    # one image at a time, so that one forgotten, or read twice, would show
    expected = sequential_thresholds(fold_batchnorm(ann), messages, snn.coding.scale, batch_size=1)
    found = {name: theta / 0.5 for name, theta in thresholds(snn).items()}
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("seed", range(4))
def test_thresholds_of_whole_numbers_are_exactly_those_of_the_sequential_algorithm(
    seed: int, reset: Reset
) -> None:
    ann = whole(chain(), seed)
    generator = torch.Generator().manual_seed(seed)
    messages = torch.randint(-1, 2, (6, STEPS, 2, 8, 8), generator=generator)
    snn = convert(
        ann,
        messages,
        num_steps=STEPS,
        balance_steps=STEPS,
        encoding="spikes",
        factor=1.0,
        reset=reset,
        batch_size=4,
    )
    expected = sequential_thresholds(
        ann, messages.to(torch.int8), 1.0, hard=reset == "zero", batch_size=3
    )
    assert thresholds(snn) == expected
    assert all(theta * 4 == round(theta * 4) for theta in expected.values())


def whole(ann: Network, seed: int) -> Network:
    """The same network with small whole numbers for weights."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in ann.parameters():
            values = torch.randint(-4, 6, parameter.shape, generator=generator)
            parameter.copy_(values.to(parameter))
    return ann


def test_without_bias_the_papers_frame_is_ours_and_the_steps_that_drain() -> None:
    """The paper's code decides on the V of the step before, and counts all frames it runs."""
    ann, x = whole(chain(), 2), torch.randint(-1, 2, (6, 23, 2, 8, 8))
    ours = convert(ann, x[:, :20], num_steps=20, encoding="spikes", factor=0.5)
    prefix = Prefix(ann, ours.coding.scale, thresholds(ours), ann.output, paper=True)
    frames = torch.stack([prefix.step(step) for step in x.to(torch.int8).unbind(1)])
    # four weighted layers: 23 frames are 20 steps and three to drain
    torch.testing.assert_close(frames.sum(0), evaluate(ours, x[:, :20]))
    assert len(frames) == 20 + 3 and frames[:3].abs().max() == 0 < frames[3:].abs().max()


def per_channel(weighted: Tensor) -> Tensor:
    """Weighted input (time, batch, channel, …) as (channel, values)."""
    return weighted.movedim(2, 0).flatten(1)


@pytest.mark.parametrize(("balance", "percent"), [("max", 100.0), ("percentile:98.5", 98.5)])
def test_thresholds_per_channel_are_each_channels_own(balance: str, percent: float) -> None:
    ann, x = chain(bias=True), images(10)
    snn = convert(
        ann,
        x,
        num_steps=120,
        balance=balance,
        per_channel=True,
        factor=1.0,
        batch_size=4,
    )
    shapes = {name: tuple(neuron.threshold.shape) for name, neuron in snn.neurons.items()}
    assert shapes == {"features.1": (6, 1, 1), "features.5": (8, 1, 1), "relu": ()}
    with torch.no_grad():
        activities = list(snn.walk(encode(x, snn.coding, 120)))
    for activity in activities[:2]:
        # what the first two layers receive depends on thresholds that the result has too
        expected = np.percentile(per_channel(activity.weighted).double().numpy(), percent, axis=1)
        found = snn.neurons[activity.name].threshold.flatten().tolist()
        assert found == pytest.approx(expected.tolist(), rel=1e-5)


def grouped() -> Network:
    """A grouped convolution of two inputs' skip, a pool, and a dense layer behind them."""
    torch.manual_seed(3)
    layers = [
        Layer("a", nn.Conv2d(2, 6, 3, padding=1), (INPUT,)),
        Layer("relu_a", nn.ReLU(), ("a",)),
        Layer("b", nn.Conv2d(6, 6, 3, padding=1, groups=3), ("relu_a",)),
        Layer("sum", Add(), ("relu_a", "b")),
        Layer("relu_b", nn.ReLU(), ("sum",)),
        Layer("pool", nn.AvgPool2d(2), ("relu_b",)),
        Layer("flatten", nn.Flatten(), ("pool",)),
        Layer("fc", nn.Linear(96, 5), ("flatten",)),
    ]
    return lively(Network(layers, (2, 8, 8)))


@pytest.mark.parametrize("balance", ["max", "percentile:99", "mse"])
def test_channels_of_any_size_convert_alike(balance: str) -> None:
    ann, x = grouped(), images(12)
    same = copy.deepcopy(ann)
    # powers of two, so that nothing is rounded: each channel larger, what reads it smaller
    size = torch.tensor([1.0, 0.5, 0.125, 8.0, 0.25, 4.0]).reshape(-1, 1, 1)
    with torch.no_grad():
        a, b, fc = (same[name].module for name in ("a", "b", "fc"))
        assert isinstance(a, nn.Conv2d) and isinstance(b, nn.Conv2d) and isinstance(fc, nn.Linear)
        a.weight.mul_(size[..., None])
        a.bias.mul_(size.flatten())
        # three groups of two inputs and two outputs
        b.weight.div_(size.reshape(3, 1, 2).expand(3, 2, 2).reshape(6, 2, 1, 1))
        b.weight.mul_(size[..., None])
        b.bias.mul_(size.flatten())
        fc.weight.div_(size.expand(6, 4, 4).flatten())
        assert torch.equal(same(x), ann(x))
    options = {"num_steps": 30, "encoding": "direct", "balance": balance, "per_channel": True}
    one, other = (evaluate(convert(net, x, **options), x) for net in (ann, same))
    # the unit of a layer is its largest worth, which may round another way
    assert torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


def test_a_channel_that_stays_silent_gets_its_layers_largest_threshold() -> None:
    ann, x = chain(), images(6)
    with torch.no_grad():
        conv = ann["features.0"].module
        assert isinstance(conv, nn.Conv2d)
        conv.weight[2] = 0.0
    for balance in ("max", "mse"):
        theta = (
            convert(ann, x, num_steps=8, balance=balance, per_channel=True)
            .neurons["features.1"]
            .threshold.flatten()
        )
        assert theta[2] == theta.max()
        assert len(theta.unique()) == 5


def error(values: np.ndarray, theta: float, steps: int, start: float) -> float:
    """Squared error of activations said in so many steps."""
    part = theta / steps
    said = np.clip(np.floor(values / part + start), 0, steps) * part
    return float(((said - values) ** 2).sum())


@pytest.mark.parametrize("start", ["zero", "half"])
@pytest.mark.parametrize("steps", [2, 7])
def test_mse_thresholds_leave_the_smallest_error(steps: int, start: Start) -> None:
    ann, x = fold_batchnorm(residual()), images(40)
    snn = convert(ann, x, num_steps=steps, balance="mse", v0=start, batch_size=7)
    each = convert(ann, x, num_steps=steps, balance="mse", v0=start, per_channel=True)
    share = 0.5 if start == "half" else 0.0

    def check(values: np.ndarray, theta: float) -> None:
        grid = values.max() * np.arange(0.01, 1.0, 0.01)
        best = min(error(values, float(other), steps, share) for other in grid)
        # what is counted in intervals lies a little off
        assert error(values, theta, steps, share) < 1.02 * best

    unit, units = 1.0, 1.0
    with torch.no_grad():
        for layer, _, result in ann.walk(x):
            if layer.name not in snn.neurons:
                continue
            values = result.double().numpy()
            unit *= float(snn.neurons[layer.name].threshold)
            check(values, unit)
            thetas = units * each.neurons[layer.name].threshold.flatten()
            for channel, theta in enumerate(thetas.tolist()):
                check(values[:, channel], theta)
            # the next layer's unit is what the largest spike before it is worth
            units = float(thetas.max())


def bounded(ann: Network, make: type[QCFS] | type[ClippedReLU], *options: int) -> Network:
    """The same network with bounded activations, each with a level of its own."""
    layers = []
    for layer in ann.layers:
        module = layer.module
        if isinstance(module, nn.ReLU):
            module = make(0.8 + 0.3 * len(layers), *options)
        layers.append(Layer(layer.name, module, layer.inputs))
    return Network(layers, ann.input_shape).eval()


def test_analytic_thresholds_are_the_clip_levels_in_units_of_what_comes_before() -> None:
    ann, x = bounded(chain(bias=True), ClippedReLU), images(6)
    snn = convert(ann, x, num_steps=8, balance="analytic")
    unit = 1.0
    for name, neuron in snn.neurons.items():
        level = ann[name].module.level.item()
        assert float(neuron.threshold) * unit == pytest.approx(level, rel=1e-6)
        assert torch.equal(neuron.v0, neuron.threshold / 2)
        unit = level
    whole_v0 = convert(ann, x, num_steps=8, balance="analytic", v0="zero", factor=0.5)
    for name, neuron in whole_v0.neurons.items():
        assert float(neuron.v0) == 0.0
        first = name == "features.1"
        part = float(snn.neurons[name].threshold) * (0.5 if first else 1.0)
        assert float(neuron.threshold) == pytest.approx(part, rel=1e-6)


def test_a_qcfs_network_is_said_best_with_its_own_levels() -> None:
    ann, x = bounded(chain(bias=True), QCFS, 8), images(24)
    with torch.no_grad():
        expected = ann(x)
    errors = {}
    for balance in ("analytic", "max"):
        snn = convert(ann, x, num_steps=8, encoding="direct", balance=balance)
        errors[balance] = float((evaluate(snn, x) / 8 - expected).pow(2).mean())
    assert errors["analytic"] < 0.4 * errors["max"]
    assert errors["analytic"] < 0.15 * float(expected.var())


def test_analytic_thresholds_need_clip_levels() -> None:
    with pytest.raises(BalanceError, match="layer 'features.1': a ReLU has no clip level"):
        convert(chain(), images(2), num_steps=4, balance="analytic")
    with pytest.raises(BalanceError, match="leave per_channel out"):
        ann = bounded(chain(), ClippedReLU)
        convert(ann, images(2), num_steps=4, balance="analytic", per_channel=True)
    with pytest.raises(BalanceError, match="v0 'third' is not known; use zero or half"):
        convert(chain(), images(2), num_steps=4, v0="third")  # type: ignore[arg-type]


def test_half_a_threshold_to_start_with_follows_the_threshold() -> None:
    for options in ({}, {"per_channel": True}, {"balance": "mse"}):
        snn = convert(chain(), images(4), num_steps=6, v0="half", **options)
        for neuron in snn.neurons.values():
            assert torch.equal(neuron.v0, neuron.threshold / 2)
    assert math.isfinite(float(evaluate(snn, images(4)).sum()))
