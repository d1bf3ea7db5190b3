"""Bounded activations: values, the paper's gradients, and the neuron that they stand for."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spiking import chain, images
from torch import nn

from spikeship.training.ann.activations import QCFS, ClippedReLU
from spikeship.training.ann.network import Layer, Network
from spikeship.training.conversion.convert import convert
from spikeship.training.snn.form import FormError, check_form
from spikeship.training.snn.neurons import SpikingNeuron


@settings(deadline=None, max_examples=60)
@given(
    values=st.lists(st.integers(-3000, 5000), min_size=1, max_size=30),
    level=st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    steps=st.integers(1, 33),
)
def test_qcfs_is_what_a_neuron_that_starts_at_half_sends_in_so_many_steps(
    values: list[int], level: float, steps: int
) -> None:
    # thousandths, moved off the places where the two round a tie their own way
    x = torch.tensor(values, dtype=torch.float64) / 1000 + 1e-6
    with torch.no_grad():
        expected = QCFS(level, steps).double()(x)
    neuron = SpikingNeuron(torch.tensor(level).double(), v0=level / 2)
    sent = neuron(x.expand(steps, 1, -1)).mean(0)[0] * level
    assert torch.allclose(sent, expected, rtol=0, atol=1e-9)


def test_gradients_are_the_papers() -> None:
    # Bu et al. (ICLR 2022): with h the result, dh/dx is 1 and dh/dlevel (h - x) / level between
    # -level / 2L and level - level / 2L; below both are 0, above 0 and 1
    level, steps = 2.0, 4
    x = torch.tensor([-1.0, -0.3, -0.2, 0.3, 0.8, 1.2, 1.7, 1.8, 3.0], dtype=torch.float64)
    inside = (x >= -level / (2 * steps)) & (x < level - level / (2 * steps))
    above = x >= level - level / (2 * steps)
    for place in range(len(x)):
        module = QCFS(level, steps).double()
        point = x[place : place + 1].clone().requires_grad_()
        result = module(point)
        result.sum().backward()
        h = level / steps * float(torch.floor(x[place] * steps / level + 0.5).clamp(0, steps))
        assert result.item() == pytest.approx(h, abs=1e-12)
        assert point.grad is not None and float(point.grad) == float(inside[place])
        slope = (h - float(x[place])) / level if inside[place] else float(above[place])
        assert module.level.grad is not None
        assert float(module.level.grad) == pytest.approx(slope, abs=1e-12)


def test_a_clipped_relu_clips_and_learns_its_level() -> None:
    module = ClippedReLU(1.5)
    x = torch.tensor([-1.0, 0.5, 2.0, 9.0], requires_grad=True)
    module(x).sum().backward()
    assert module(x).tolist() == [0.0, 0.5, 1.5, 1.5]
    assert x.grad is not None and x.grad.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert module.level.grad is not None and float(module.level.grad) == 2.0


@pytest.mark.parametrize("level", [0.0, -1.0, float("nan"), float("inf")])
def test_a_level_must_be_positive(level: float) -> None:
    with pytest.raises(ValueError, match="level must be positive"):
        ClippedReLU(level)
    with pytest.raises(ValueError, match="level must be positive"):
        QCFS(level, 4)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        QCFS(1.0, 0)


def test_bounded_activations_stand_where_a_relu_may() -> None:
    ann = chain()
    layers = [
        Layer(
            layer.name,
            QCFS(1.0, 4) if isinstance(layer.module, nn.ReLU) else layer.module,
            layer.inputs,
        )
        for layer in ann.layers
    ]
    bounded = Network(layers, ann.input_shape).eval()
    check_form(bounded)
    snn = convert(bounded, images(4), num_steps=4, balance="mse")
    assert list(snn.neurons) == ["features.1", "features.5", "relu"]
    learnt = bounded["relu"].module
    assert isinstance(learnt, QCFS)
    with torch.no_grad():
        learnt.level.fill_(-0.25)
    with pytest.raises(FormError, match="layer 'relu': its level is -0.25, not positive"):
        check_form(bounded)
