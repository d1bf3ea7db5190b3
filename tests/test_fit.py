"""What a run can be asked for: a schedule, clipping, half precision, callbacks, the best epoch."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from training_runs import IMAGES, LABELS, config, loss, model, noisy

from spikeship.training.fit.config import EpochMetrics, FitConfig, FitError
from spikeship.training.fit.loop import fit
from spikeship.training.fit.state import load_state


def _images(indices: Tensor) -> Tensor:
    return IMAGES[indices]


def _fit(network: nn.Module, settings: FitConfig, **options: Any) -> list[EpochMetrics]:
    return fit(network, _images, LABELS, settings, loss, quiet=True, **options)


def test_the_rate_follows_a_cosine_after_the_warmup() -> None:
    settings = FitConfig(epochs=10, learning_rate=2.0, schedule="cosine", warmup=2.0)
    rates = [settings.rate(*at) for at in ((0, 0.5), (1, 0.0), (2, 0.0), (4, 0.0), (6, 0.0))]
    assert rates == pytest.approx([0.5, 1.0, 2.0, 1 + 0.5**0.5, 1.0])
    assert 0 < settings.rate(9, 0.99) < 1e-4
    steps = FitConfig(epochs=10, learning_rate=1.0, warmup=0.5)
    assert [steps.rate(0, 0.25), steps.rate(0, 0.75), steps.rate(5, 0.99)] == [0.5, 1.0, 1.0]
    assert steps.rate(6, 0.01) == 0.1


def test_the_rate_goes_up_and_down_once() -> None:
    settings = FitConfig(epochs=10, learning_rate=2.0, schedule="one-cycle", peak=0.2)
    rates = [settings.rate(*at) for at in ((0, 0.5), (1, 0.0), (2, 0.0), (6, 0.0), (9, 0.5))]
    assert rates == pytest.approx([0.5, 1.0, 2.0, 1.0, 0.125])
    rising = [settings.rate(epoch, part / 8) for epoch in range(10) for part in range(8)]
    top = rising.index(max(rising))
    assert rising[: top + 1] == sorted(rising[: top + 1])
    assert rising[top:] == sorted(rising[top:], reverse=True) and min(rising[1:]) > 0


def _pull(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A loss whose gradient is 1 for every parameter."""
    total = torch.stack([value.sum() for value in network.parameters()]).sum()
    return total, torch.zeros(len(x), 3)


def _by_hand(start: float, settings: FitConfig, factor: float) -> float:
    """A weight with a gradient of 1 after all steps, one an epoch, as the docstring has it."""
    weight, speed = start, 0.0
    for epoch in range(settings.epochs):
        rate = settings.rate(epoch, 0.5)
        gradient = 1.0
        if settings.decoupled:
            weight *= 1 - settings.weight_decay * rate / settings.learning_rate
        else:
            gradient += settings.weight_decay * weight
        speed = settings.momentum * speed + gradient
        move = gradient + settings.momentum * speed if settings.nesterov else speed
        weight -= rate * factor * move
    return weight


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("nesterov", [False, True])
def test_weights_move_and_decay_as_said(nesterov: bool, decoupled: bool) -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    with torch.no_grad():
        for value in network.parameters():
            value.fill_(3.0)
    settings = config(
        epochs=5,
        batch_size=50,
        learning_rate=0.1,
        schedule="one-cycle",
        weight_decay=0.05,
        nesterov=nesterov,
        decoupled=decoupled,
        norm_rate=8.0,
    )
    fit(network, _images, LABELS, settings, _pull, quiet=True)
    found = {name: value.item() for name, value in network.named_parameters()}
    plain = pytest.approx(_by_hand(3.0, settings, 1.0), rel=1e-5)
    assert [found[name] for name in ("0.weight", "0.bias", "1.weight")] == [plain] * 3
    assert found["1.bias"] == pytest.approx(_by_hand(3.0, settings, 8.0), rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schedule": "one-cycle", "warmup": 1.0}, "give peak in place of warmup"),
        ({"peak": 1.0}, "peak must lie between 0 and 1"),
        ({"peak": 0.0}, "peak must lie between 0 and 1"),
        ({"averaging": -1.0}, "averaging must not be negative"),
        ({"weight_decay": -1e-4}, "weight_decay must not be negative"),
        ({"weight_decay": float("nan")}, "weight_decay must not be negative"),
        ({"learning_rate": float("inf")}, "learning_rate must be positive"),
        ({"nesterov": True, "momentum": 0.0}, "nesterov needs momentum"),
        ({"decoupled": True, "weight_decay": 1.0}, "below 1 if decoupled"),
        ({"norm_rate": 0.0}, "norm_rate must be positive"),
        ({"schedule": "constant"}, "use 'milestones', 'cosine' or 'one-cycle'"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(FitError, match=reason):
        config(**changes)


def test_each_step_has_its_rate() -> None:
    """With a gradient of 1, plain SGD moves a weight by the rate of each step, and no more."""
    seen: list[tuple[float, float]] = []
    network = nn.Module()
    network.a, network.b = (nn.Parameter(torch.zeros(())) for _ in range(2))

    def one(module: Any, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        seen.append((module.a.item(), module.b.item()))
        return module.a + module.b, torch.zeros(len(x), 3)

    settings = config(
        epochs=2, schedule="cosine", warmup=1, momentum=0.0, weight_decay=0.0, learning_rate=1.0
    )
    groups = [{"params": [network.a]}, {"params": [network.b], "rate_factor": 0.5}]
    fit(network, _images, LABELS, settings, one, quiet=True, parameter_groups=groups)
    seen.append((network.a.item(), network.b.item()))
    moved = [before - after for (before, _), (after, _) in zip(seen, seen[1:], strict=False)]
    rates = [settings.rate(epoch, (step + 0.5) / 4) for epoch in (0, 1) for step in range(4)]
    assert moved == pytest.approx(rates, rel=1e-5)
    assert rates[:4] == [0.125, 0.375, 0.625, 0.875]
    assert [b for _, b in seen] == pytest.approx([a / 2 for a, _ in seen], rel=1e-5)


def test_gradients_are_clipped_to_a_norm() -> None:
    plain = {"epochs": 1, "batch_size": 50, "momentum": 0.0, "weight_decay": 0.0}
    moved = []
    for clip_norm in (None, 1e-3, 1e3):
        network = model(dropout=0.0)
        before = nn.utils.parameters_to_vector(network.parameters()).detach().clone()
        _fit(network, config(**plain, learning_rate=1.0, clip_norm=clip_norm))
        moved.append(before - nn.utils.parameters_to_vector(network.parameters()).detach())
    assert moved[0].norm() > 0.1
    assert moved[1].norm().item() == pytest.approx(1e-3, rel=1e-3)
    torch.testing.assert_close(
        moved[1] / moved[1].norm(), moved[0] / moved[0].norm(), atol=1e-4, rtol=1e-3
    )
    assert torch.equal(moved[2], moved[0])


def test_half_precision_is_that_of_products_alone() -> None:
    kinds = set()

    def watched(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        assert isinstance(network, nn.Sequential)
        kinds.add(network[0](x).dtype)
        return loss(network, x, y)

    curves = []
    for precision in ("32-true", "bf16-mixed"):
        network = model(dropout=0.0)
        settings = config(precision=precision)
        history = fit(network, _images, LABELS, settings, watched, quiet=True)
        assert {value.dtype for value in network.parameters()} == {torch.float32}
        curves.append([entry.loss for entry in history])
    assert kinds == {torch.float32, torch.bfloat16}
    assert curves[0] != curves[1]
    assert curves[0] == pytest.approx(curves[1], rel=2e-2)


def test_callbacks_are_called_where_they_should() -> None:
    told: list[str] = []
    network = model()

    def images_of(indices: Tensor) -> Tensor:
        told.append("batch")
        return noisy(indices)

    def validate() -> float:
        told.append("validate")
        assert not network.training
        return 0.5

    fit(
        network,
        images_of,
        LABELS,
        config(epochs=2),
        loss,
        quiet=True,
        on_epoch=lambda epoch: told.append(f"epoch {epoch}"),
        after_step=lambda: told.append("step"),
        validate=validate,
    )
    epoch = ["batch", "step"] * 4
    assert told == ["epoch 0", *epoch, "validate", "epoch 1", *epoch, "validate"]


@pytest.mark.parametrize(
    ("qualities", "best"),
    [([0.2, 0.9, 0.9, 0.1], 1), ([0.5, 0.5, 0.5, 0.5], 0), ([0.1, 0.2, 0.3, 0.4], 3)],
)
def test_the_best_epochs_weights_are_kept_the_first_of_equal_ones(
    tmp_path: Path, qualities: list[float], best: int
) -> None:
    network, after = model(), []

    def validate() -> float:
        after.append({name: value.clone() for name, value in network.state_dict().items()})
        return qualities[len(after) - 1]

    history = _fit(network, config(), validate=validate, state_path=tmp_path / "state")
    assert [entry.validation for entry in history] == qualities
    for name, value in network.state_dict().items():
        assert torch.equal(after[best][name], value)
    # the run itself stands at its end
    last = load_state(tmp_path / "state").model
    assert all(torch.equal(last[name], value) for name, value in after[-1].items())
    # gone on with after its end, it gives the same
    again = model()
    assert _fit(again, config(), validate=validate, state_path=tmp_path / "state") == history
    assert torch.equal(again[0].weight, network[0].weight)
    with pytest.raises(FitError, match=r"differs in validated\)"):
        _fit(model(), config(), state_path=tmp_path / "state")


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "cosine"},
        {"warmup": 0.5},
        {"clip_norm": 1.0},
        {"precision": "bf16-mixed"},
        {"milestones": (0.5,)},
        {"seed": 6},
    ],
)
def test_what_changes_the_result_makes_another_run(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "state"
    _fit(model(), config(), state_path=path)
    with pytest.raises(FitError, match=rf"differs in {next(iter(changes))}\)"):
        _fit(model(), config(**changes), state_path=path)
    # where metrics go and how often the state is written does not
    _fit(model(), config(checkpoint_every=7, log_dir=str(tmp_path / "logs")), state_path=path)


def test_a_recipe_is_what_decides_as_json() -> None:
    recipe = config(clip_norm=2.0).recipe()
    assert json.loads(json.dumps(recipe)) == recipe
    assert {"device", "checkpoint_every", "log_dir"}.isdisjoint(recipe)
    assert (recipe["clip_norm"], recipe["seed"], recipe["milestones"]) == (2.0, 5, [0.6, 0.8, 0.9])


@pytest.mark.parametrize(
    "changes",
    [{"schedule": "steps"}, {"precision": "16"}, {"checkpoint_every": 0}, {"clip_norm": 0.0}]
    + [{"warmup": -1.0}, {"warmup": 4.0}],
)
def test_impossible_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FitError, match=next(iter(changes))):
        config(**changes)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((1, 8, 8), 1), ((1, 24, 24), 2)],
)
def test_a_network_with_little_work_takes_one_thread(
    size: tuple[int, int, int], expected: int
) -> None:
    """So many weights at 64 places are little work, at 576 they are not."""
    before, seen = torch.get_num_threads(), set()
    network = nn.Sequential(nn.Conv2d(1, 100, 3), nn.Conv2d(100, 30, 3), nn.Flatten())
    network.append(nn.LazyLinear(3))
    pictures = torch.randn(50, *size)
    network(pictures[:1])

    def watched(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        seen.add(torch.get_num_threads())
        return loss(model, x, y)

    torch.set_num_threads(2)
    try:
        fit(network, lambda i: pictures[i], LABELS, config(epochs=1), watched, quiet=True)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {expected}
