"""Rounding in a network that trains: the quantizer's numbers, gradients straight through."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.graph.weight_grid import WeightGrid
from spikeship.training.quantization.rounding import WeightRounding, bias_units

Floats = NDArray[np.float64]


def nearest(units: Floats, held: Floats, bits: int) -> Floats:
    """Nearest of all weights that Lava holds beside weights of the signs that are held."""
    mixed = bool(np.any(units < 0) and np.any(units > 0))
    if mixed and not (np.any(held < 0) or np.any(held > 0)):
        return np.zeros_like(units)  # both signs are lost
    points = np.arange(-256.0, 256.0)
    step = 1 << (8 - bits + (held.min() < 0 < held.max()))
    legal = [
        point
        for point in points[points % step == 0]
        if fixed.fits_weights(np.unique([point, held.min(), held.max()]).astype(int), bits)
        and (point == 0 or (held.min() < 0 if point < 0 else held.max() > 0))
    ]
    # of two as near as each other the even multiple of the step, as np.rint has it
    order = np.array(sorted(legal, key=lambda point: point // step % 2))
    distance = np.abs(units[..., None] - order)
    return np.asarray(order[distance.argmin(axis=-1)])


@settings(max_examples=100)
@given(
    seed=st.integers(0, 10**6),
    bits=st.integers(2, 8),
    exponent=st.integers(0, 3),
    side=st.integers(1, 3),
    signs=st.sampled_from(["both", "positive", "negative", "nearly negative", "nearly positive"]),
)
def test_weights_round_as_the_quantizers(
    seed: int, bits: int, exponent: int, side: int, signs: str
) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.normal(size=(4, 3, 2, 2)).astype(np.float32)
    if signs != "both":
        weight = np.abs(weight) * (1 if signs.endswith("positive") else -1)
    if signs.startswith("nearly"):
        weight[0, 0, 0, 0] = 1e-6 * (-1 if signs == "nearly positive" else 1)
    factor = 1.0 / side**2
    grid = WeightGrid.of(weight, bits)
    scale = grid.least_scale(weight.astype(np.float64) * factor) * rng.uniform(0.9, 1.5, 4)
    column = scale.reshape(4, 1, 1, 1) / 2.0**exponent
    units = weight.astype(np.float64) * factor / column / 2.0**exponent
    expected = grid.hold(units)
    np.testing.assert_array_equal(expected, nearest(units, expected, bits))
    assert fixed.fits_weights(expected.astype(np.int64), bits)
    tensor = torch.from_numpy(weight)
    scales = torch.from_numpy(scale / 2.0**exponent)
    rounding = WeightRounding(tensor, bits, scales, exponent, factor, 1.0)
    np.testing.assert_array_equal(rounding.units(tensor).numpy(), expected)


def test_gradients_pass_but_not_beyond_the_ends() -> None:
    weight = torch.tensor([[0.3, 5.04, 5.1, -5.04, -5.1]])
    scale = torch.tensor([0.01], dtype=torch.float64)
    rounding = WeightRounding(weight, 8, scale, 0, 0.25, 1.0)
    units = rounding(weight)
    np.testing.assert_array_equal(units.detach().numpy(), [[8, 126, 128, -126, -128]])
    wide = torch.tensor([[0.3, 50.0, 50.0, -50.0, -50.0]], requires_grad=True)
    units = rounding(wide)
    np.testing.assert_array_equal(units.detach().numpy(), [[8, 254, 254, -256, -256]])
    units.backward(torch.tensor([[1.0, 1.0, -1.0, 1.0, -1.0]]))
    assert wide.grad is not None  # the weight units of a real one: 0.25 / 0.01
    np.testing.assert_allclose(wide.grad.numpy(), [[25.0, 25.0, 0.0, 0.0, -25.0]])


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8),
    st.floats(1e-4, 10.0),
)
def test_a_rounded_bias_is_rounded_to_itself(bias: list[float], scale: float) -> None:
    scales = np.full(len(bias), scale)
    once = bias_units(np.array(bias), scales)
    kept = (once * scales).astype(np.float32).astype(np.float64)  # as a file holds it
    np.testing.assert_array_equal(bias_units(kept, scales), once)
