"""The losses are their papers' formulas, written out here step by step and class by class."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from spikeship.training.finetuning.losses import distillation, tet


def numbers(*shape: int, seed: int) -> Tensor:
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=generator(seed))


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def probabilities(scores: list[float]) -> list[float]:
    parts = [math.exp(score) for score in scores]
    return [part / sum(parts) for part in parts]


@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(1, 6),
    batch=st.integers(1, 4),
    weight=st.floats(0, 1),
    target=st.floats(-3, 3),
)
def test_tet_is_the_mean_over_steps(
    seed: int, steps: int, batch: int, weight: float, target: float
) -> None:
    outputs = numbers(steps, batch, 5, seed=seed)
    labels = torch.randint(5, (batch,), generator=generator(seed))
    each = away = 0.0
    for t in range(steps):
        for sample in range(batch):
            scores = outputs[t, sample].tolist()
            each -= math.log(probabilities(scores)[int(labels[sample])]) / (steps * batch)
            away += sum((score - target) ** 2 for score in scores) / (steps * batch * 5)
    expected = (1 - weight) * each + weight * away
    assert tet(outputs, labels, weight, target).item() == pytest.approx(expected, rel=1e-9)


def test_tet_of_one_step_is_cross_entropy_and_of_several_is_no_less() -> None:
    outputs, labels = numbers(4, 6, 5, seed=1), torch.randint(5, (6,), generator=generator(1))
    mean = outputs.mean(0)
    entropy = torch.nn.functional.cross_entropy(mean, labels).item()
    assert tet(mean.unsqueeze(0), labels, 0.0, 1.0).item() == pytest.approx(entropy, rel=1e-12)
    # cross-entropy is convex in the scores
    assert tet(outputs, labels, 0.0, 1.0).item() > entropy + 0.1


@given(seed=st.integers(0, 10**6), temperature=st.floats(0.5, 20))
def test_distillation_is_the_softened_divergence(seed: int, temperature: float) -> None:
    ours, theirs = numbers(3, 4, seed=seed), numbers(3, 4, seed=seed + 1)
    expected = 0.0
    for sample in range(3):
        p = probabilities([score / temperature for score in theirs[sample].tolist()])
        q = probabilities([score / temperature for score in ours[sample].tolist()])
        expected += sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)) / 3
    found = distillation(ours, theirs, temperature).item()
    assert found == pytest.approx(temperature**2 * expected, rel=1e-7, abs=1e-9)
    shifted = distillation(theirs + 5.0, theirs, temperature).item()
    assert shifted == pytest.approx(0.0, abs=1e-9)


def test_gradients_are_the_differences() -> None:
    labels = torch.tensor([3, 0])
    outputs = numbers(3, 2, 4, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda o: tet(o, labels, 0.2, 1.5), outputs)
    scores, taught = numbers(2, 4, seed=3).requires_grad_(), numbers(2, 4, seed=4)
    assert torch.autograd.gradcheck(lambda s: distillation(s, taught, 3.0), scores)
