"""The scan: compiled against plain, both against a loop that autograd differentiates."""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from spikeship.hw_models import fixed
from spikeship.training.snn import scan as scans
from spikeship.training.snn.scan import Rule, scan
from spikeship.training.snn.surrogates import SURROGATES, PotentialSurrogate, surrogate

STEPS, BATCH, SHAPE = 20, 2, (3, 4, 5)
ENGINES: dict[str, Any] = {"plain": scans._Plain, "compiled": scans._Compiled}


@pytest.fixture(params=list(ENGINES))
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(scans, "_engine", lambda *_: ENGINES[request.param])
    yield request.param


def loop(weighted: Tensor, theta: Tensor, leak: Tensor, v0: Tensor, rule: Rule) -> Tensor:
    """The formulas a step at a time; autograd sees every operation."""
    slope = surrogate(rule.surrogate_name)
    u = v0.expand(weighted.shape[1:])
    last = torch.full_like(weighted[0], -1000.0)
    spikes = []
    for t, current in enumerate(weighted):
        v = leak * u + current
        z = v / theta - 1
        fires = (v > theta).detach()
        if isinstance(slope, PotentialSurrogate):
            steep = slope.slope(z.detach())
        else:
            steep = 0.3 * torch.exp(-0.01 * (t - last))
            last = torch.where(fires, float(t), last)
        s = fires + steep * (z - z.detach())
        spikes.append(s)
        passed = s if rule.attached else fires.to(v.dtype)
        u = v * (1 - passed) if rule.hard else v - theta * passed
    return torch.stack(spikes)


def numbers(seed: int, kind: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Weighted input, its gradient's cotangent, thresholds, leaks and V0 of each channel."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(STEPS, BATCH, *SHAPE, generator=draw, dtype=torch.float64)
    cotangent = torch.randn(x.shape, generator=draw, dtype=torch.float64)
    theta, leak, v0 = (torch.rand(3, 1, 1, generator=draw, dtype=torch.float64) for _ in range(3))
    return tuple(part.to(kind) for part in (x, cotangent, theta + 0.5, 0.5 + leak / 2, 0.3 * v0))


RULES = [
    Rule(hard, name, attached)
    for hard, name, attached in itertools.product([False, True], SURROGATES, [False, True])
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_spikes_and_gradients_are_those_of_the_loop(engine: str, rule: Rule) -> None:
    x, cotangent, theta, leak, v0 = numbers(1)
    results = []
    for run in (loop, lambda *arguments: scan(*arguments)[0]):
        given_to = [part.clone().requires_grad_() for part in (x, theta, leak)]
        spikes = run(*given_to, v0, rule)
        torch.autograd.backward(spikes, cotangent)
        results.append((spikes.detach(), *(part.grad for part in given_to)))
    (expected, *gradients), (spikes, *mine) = results
    assert 0.05 < spikes.mean() < 0.6
    assert torch.equal(spikes, expected)
    for gradient, own in zip(gradients, mine, strict=True):
        assert gradient is not None and own is not None
        assert own.shape == gradient.shape
        assert gradient.abs().max() > 1e-2
        assert (own - gradient).abs().max() < 1e-10 * gradient.abs().max()


@pytest.mark.parametrize("name", list(SURROGATES))
@pytest.mark.parametrize("layout", ["contiguous", "channels last"])
def test_compiled_float32_gives_the_spikes_of_the_plain_one(name: str, layout: str) -> None:
    x, cotangent, theta, leak, v0 = numbers(2, torch.float32)
    if layout == "channels last":
        x = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).view(x.shape)
    found = {}
    for key, way in ENGINES.items():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scans, "_engine", lambda *_, way=way: way)
            given_to = x.clone().requires_grad_()
            spikes, fired = scan(given_to, theta, leak, v0, Rule(surrogate_name=name))
            spikes.backward(cotangent)
            assert torch.equal(fired, spikes)
            found[key] = spikes.detach(), given_to.grad
    assert torch.equal(found["plain"][0], found["compiled"][0])
    gradients = [found[key][1] for key in ENGINES]
    assert gradients[0] is not None and gradients[1] is not None
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)


def test_bfloat16_input_is_summed_in_float32(engine: str) -> None:
    # 256 + 1 is not a bfloat16 number; a potential held as one would stay at 256
    x = torch.tensor([256.0, 1.0, 1.0, 1.0], dtype=torch.bfloat16).reshape(4, 1, 1)
    x.requires_grad_()
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    spikes, _ = scan(x, torch.tensor(258.5), one, zero, Rule())
    assert spikes.dtype == torch.bfloat16
    assert spikes.flatten().tolist() == [0.0, 0.0, 0.0, 1.0]
    spikes.sum().backward()
    assert x.grad is not None and x.grad.dtype == torch.bfloat16 and bool(x.grad.any())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.integers(-(2**17), 2**17), min_size=3, max_size=3), min_size=1, max_size=9
    ),
    st.integers(1, 2**15),
    st.integers(0, 4096),
    st.integers(-(2**22), 2**22),
    st.integers(-4000, 4000),
    st.booleans(),
)
def test_integers_decide_as_the_chips_arithmetic(
    currents: list[list[int]], vth: int, dv: int, v0: int, bias: int, hard: bool
) -> None:
    keeps = torch.tensor((fixed.DECAY_UNITY - dv) / fixed.DECAY_UNITY)
    weighted = torch.tensor(currents, dtype=torch.float32)[:, None] + bias / 64
    # beside the compiled scan, which serves the CPU, the plain one
    for way in ENGINES.values():
        rule = Rule(hard=hard, integers=True)
        spikes, _, _ = way.forward(
            weighted,
            torch.tensor(float(vth)),
            keeps,
            torch.tensor(v0 / 64),
            rule,
            send=True,
            keep_spikes=False,
            keep_potentials=False,
        )
        for place in range(3):
            v = v0
            for t, current in enumerate(currents):
                kept = fixed.decay(np.int64(v), dv)
                free = int(kept) + (current[place] << 6) + bias
                v = max(-fixed.STATE_RAIL, min(fixed.STATE_RAIL, free))
                fires = v > vth << 6
                assert spikes[t, 0, place].item() == fires
                if fires:
                    v = 0 if hard else v - (vth << 6)


def test_a_population_wider_than_a_block_on_several_threads() -> None:
    threads = torch.get_num_threads()
    x = torch.randn(6, 3, 5000, generator=torch.Generator().manual_seed(0))
    theta = torch.linspace(0.2, 2.0, 5000)
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    found = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            given_to = x.clone().requires_grad_()
            spikes, _ = scan(given_to, theta, one, zero, Rule())
            spikes.square().sum().backward()
            found.append((spikes.detach(), given_to.grad))
    finally:
        torch.set_num_threads(threads)
    expected = scans._Plain.forward(
        x, theta, one, zero, Rule(), send=True, keep_spikes=False, keep_potentials=False
    )[0]
    for spikes, gradient in found:
        assert torch.equal(spikes, expected)
        assert gradient is not None and found[0][1] is not None
        assert torch.equal(gradient, found[0][1])


def test_potentials_computed_again_give_the_same_gradients(engine: str) -> None:
    x, cotangent, theta, leak, v0 = numbers(3)
    gradients, kept = [], []
    for again in (None, lambda: x):
        given_to = x.clone().requires_grad_()
        total = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            spikes, _ = scan(given_to, theta, leak, v0, Rule(surrogate_name="atan"), again)
        spikes.backward(cotangent)
        gradients.append(given_to.grad)
        kept.append(total)
    assert gradients[0] is not None and gradients[1] is not None
    assert torch.equal(gradients[0], gradients[1])
    assert kept[0] - kept[1] == x.nbytes


@pytest.mark.parametrize("rule", [RULES[0], RULES[3], RULES[-1]], ids=str)
@pytest.mark.parametrize(("side", "kind"), [(2, torch.float32), (3, torch.float64)])
def test_spikes_averaged_as_they_are_made(rule: Rule, side: int, kind: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(4)
    shape = (STEPS, 3, 5, 2 * side, 3 * side)
    x = torch.randn(shape, generator=draw, dtype=kind).flatten(0, 1)
    x = x.contiguous(memory_format=torch.channels_last).view(shape)
    theta = torch.rand(5, 1, 1, generator=draw, dtype=kind) + 0.5
    leak, v0 = torch.tensor(0.9, dtype=kind), torch.tensor(0.1, dtype=kind)
    cotangent = torch.randn(STEPS, 3, 5, 2, 3, generator=draw, dtype=kind)
    found = []
    for pool in (1, side):
        given_to = [part.clone().requires_grad_() for part in (x, theta, leak)]
        values, fired = scan(*given_to, v0, rule, None, pool)
        if pool == 1:
            values = torch.nn.functional.avg_pool2d(values.flatten(0, 1), side)
            values = values.view(cotangent.shape)
        torch.autograd.backward(values, cotangent)
        again = scans.pooled(fired, side, kind)
        assert torch.equal(again, values)
        found.append((values.detach(), *(part.grad for part in given_to)))
    assert found[0][0].mean() > 0.02
    assert torch.equal(found[0][0], found[1][0])
    for expected, mine in zip(found[0][1:], found[1][1:], strict=True):
        assert expected is not None and mine is not None
        torch.testing.assert_close(mine, expected, rtol=1e-5, atol=1e-6)


def test_pooling_asks_for_channels_that_lie_together() -> None:
    x = torch.zeros(2, 1, 3, 4, 4)
    assert not scans.can_pool(x, "linear")
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    with pytest.raises(ValueError, match=r"shape \(2, 1, 3, 4, 4\) cannot be pooled"):
        scan(x, one, one, zero, Rule(), None, 2)
