"""The optimizer of a run: its groups of parameters, its rates, and decay apart from gradients."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from spikeship.training.fit.config import FitConfig


def make_optimizer(
    model: nn.Module, config: FitConfig, groups: Sequence[dict[str, Any]] | None
) -> Optimizer:
    """Make the optimizer that a config asks for.

    Args:
        model: whose parameters are trained, unless ``groups`` says.
        config: how to train.
        groups: the parameters; each group may have a ``rate_factor`` on the learning rate.
    """
    parameters = _groups(model, config) if groups is None else list(groups)
    rate, decay = config.learning_rate, 0.0 if config.decoupled else config.weight_decay
    if config.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate, weight_decay=decay)
    return torch.optim.SGD(
        parameters,
        lr=rate,
        momentum=config.momentum,
        weight_decay=decay,
        nesterov=config.nesterov,
        # one pass over the weights in place of five
        fused=True,
    )


def _groups(model: nn.Module, config: FitConfig) -> list[dict[str, Any]]:
    """All parameters, batch norm's biases apart where they have a rate of their own."""
    biases = [
        module.bias
        for module in model.modules()
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.bias is not None
    ]
    if config.norm_rate == 1 or not biases:
        return [{"params": list(model.parameters())}]
    apart = {id(bias) for bias in biases}
    others = [value for value in model.parameters() if id(value) not in apart]
    return [{"params": others}, {"params": biases, "rate_factor": config.norm_rate}]


@torch.no_grad()
def shrink(optimizer: Optimizer, config: FitConfig) -> None:
    """Take a decoupled decay off the weights, before the step."""
    for group in optimizer.param_groups:
        rate = group["lr"] / group.get("rate_factor", 1.0)
        weights = [value for value in group["params"] if value.grad is not None]
        torch._foreach_mul_(weights, 1 - config.weight_decay * rate / config.learning_rate)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every group, its own factor included."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_factor", 1.0)
