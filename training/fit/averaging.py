"""The running mean of a network's weights while it trains."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """Mean of a network's weights over the steps so far, weighted by exp(-age / ``steps``).

    Batch norm's running statistics are averaged with the weights. The first steps count alike, so
    that where training began is soon forgotten.

    Args:
        model: the network, where it trains.
        steps: the age in steps at which a step's weight has gone down to 1/e.
    """

    def __init__(self, model: nn.Module, steps: float) -> None:
        self._keep = math.exp(-1 / steps)
        self._model = model
        self._count = torch.zeros((), dtype=torch.int64)
        self._mean = {name: value.clone() for name, value in self._values().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        count = int(self._count)
        new = max(1 - self._keep, 1 / (1 + count))
        values = self._values()
        torch._foreach_lerp_(list(self._mean.values()), list(values.values()), new)
        self._count += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the mean, and what it had again afterwards."""
        now = {name: value.clone() for name, value in self._values().items()}
        self._put(self._mean)
        try:
            yield
        finally:
            self._put(now)

    def give(self) -> None:
        """Leave the mean to the model."""
        self._put(self._mean)

    def state_dict(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        return {"count": self._count, **{f"mean/{name}": v for name, v in self._mean.items()}}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what :meth:`state_dict` gave.

        Raises:
            RuntimeError: it is of another network.
        """
        wanted = self.state_dict()
        if {k: v.shape for k, v in wanted.items()} != {k: v.shape for k, v in state.items()}:
            raise RuntimeError("averaged weights of another network")
        for name, value in wanted.items():
            value.copy_(state[name])

    def _values(self) -> dict[str, Tensor]:
        state = self._model.state_dict()
        return {name: value.detach() for name, value in state.items() if value.is_floating_point()}

    @torch.no_grad()
    def _put(self, values: dict[str, Tensor]) -> None:
        for name, value in self._values().items():
            value.copy_(values[name])
