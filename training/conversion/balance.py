"""Threshold balancing: each neuron's largest weighted input on calibration images.

Rathi et al. (ICLR 2020) run every prefix of the network again for every layer. A layer depends on
none after it, so one pass in layer order, each layer for all steps at once, finds the same.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.hw_models.errors import SpikeshipError
from spikeship.training.ann.network import Network
from spikeship.training.conversion.passage import Passage
from spikeship.training.conversion.units import MessageScale
from spikeship.training.snn.neurons import SpikingNeuron


class BalanceError(SpikeshipError, ValueError):
    """A balance that is not known or a neuron that cannot be balanced, in one line."""


@dataclass(frozen=True)
class Balance:
    """How thresholds are chosen.

    Attributes:
        kind: ``firing`` (a percentile of the weighted input that firing neurons cause), ``mse``
            or ``analytic`` (both from the ANN alone, see thresholds.py).
        percent: the percentile, 0 < percent <= 100; 100 is the largest.
        per_channel: whether each channel of a convolution has a threshold of its own.
    """

    kind: Literal["firing", "mse", "analytic"]
    percent: float = 100.0
    per_channel: bool = False

    @classmethod
    def parse(cls, text: str, *, per_channel: bool = False) -> "Balance":
        """Read ``max``, ``percentile:P``, ``mse`` or ``analytic``.

        Raises:
            BalanceError: anything else, or ``analytic`` per channel.
        """
        if text == "analytic" and per_channel:
            raise BalanceError(
                "balance 'analytic' takes each layer's one clip level; leave per_channel out, or "
                "use balance mse"
            )
        match text.partition(":"):
            case ("max", "", ""):
                return cls("firing", 100.0, per_channel)
            case ("mse" | "analytic" as kind, "", ""):
                return cls(kind, per_channel=per_channel)
            case ("percentile", ":", value):
                try:
                    percent = float(value)
                except ValueError:
                    percent = math.nan
                if 0 < percent <= 100:
                    return cls("firing", percent, per_channel)
        raise BalanceError(
            f"balance {text!r} is not known; use max, or percentile:P with 0 < P <= 100, or mse, "
            "or analytic"
        )


class Firing:
    """Thresholds from what neurons receive that fire with the thresholds before them.

    Args:
        passage: the calibration messages on their way through the network.
        network: the network they pass through.
        balance: which percentile, and whether per channel.
        neuron: makes the neurons that fire meanwhile from their threshold.
    """

    def __init__(
        self,
        passage: Passage,
        network: Network,
        balance: Balance,
        neuron: Callable[[Tensor], SpikingNeuron],
    ) -> None:
        self._passage = passage
        self._like = next(network.parameters())
        self._balance = balance
        self._neuron = neuron

    @torch.no_grad()
    def threshold(self, name: str) -> MessageScale:
        """Balance a neuron on its weighted input, and let it fire with that threshold.

        Neurons are to be asked for once each, in the network's order.

        Raises:
            BalanceError: the threshold would not be positive.
        """
        received = self._passage.receive(name, again=self._passage.reads(name))
        channels, *sides = self._passage.shape(name)
        groups = channels if self._balance.per_channel and sides else 1
        largest = _largest(self._balance.percent, groups, received.count // groups)
        for weighted in received:
            largest.add(weighted)
        theta = positive(name, largest.value(), "the weighted input it is balanced on")
        like = self._like
        self._passage.send(name, self._neuron(torch.as_tensor(theta).to(like)), received)
        return theta


def positive(name: str, found: NDArray[Any], what: str) -> MessageScale:
    """Return a layer's one threshold, or those of its channels with shape (channel, 1, 1).

    A silent channel, which has none, gets the layer's largest.

    Raises:
        BalanceError: no threshold is positive.
    """
    top = float(found.max())
    if not top > 0:
        raise BalanceError(
            f"neuron {name!r}: {what} is {top:g}, not positive; use balance 'max', more "
            "steps or other calibration images, or retrain"
        )
    if len(found) == 1:
        return top
    return torch.from_numpy(np.where(found > 0, found, top)).reshape(-1, 1, 1)


class _Maxima:
    """Largest value of each group (channel) of values that come in parts."""

    def __init__(self, groups: int) -> None:
        self._groups = groups
        self._values = np.full(groups, -math.inf)

    def add(self, values: Tensor) -> None:
        """Take in values of shape (time, batch, channel, …)."""
        new = values.max() if self._groups == 1 else values.amax((0, 1, 3, 4))
        self._values = np.maximum(self._values, new.double().cpu().numpy())

    def value(self) -> NDArray[Any]:
        """Return the largest of all values taken in, one a group."""
        return self._values


class _Percentiles:
    """A percentile of each group of values that come in parts, exact, holding only those above it.

    Between ranks it is interpolated, as by ``numpy.percentile``.
    """

    def __init__(self, percent: float, groups: int, count: int) -> None:
        rank = percent / 100 * (count - 1)
        self._keep = count - math.floor(rank)
        self._between = rank - math.floor(rank)
        self._values: list[NDArray[Any]] = [np.empty(0)] * groups

    def add(self, values: Tensor) -> None:
        """Take in values of shape (time, batch, channel, …)."""
        groups = len(self._values)
        rows = values.unsqueeze(0) if groups == 1 else values.movedim(2, 0)
        for group, row in enumerate(rows):
            new = row.detach().cpu().numpy().ravel()
            before = self._values[group]
            if len(before) == self._keep:
                new = new[new > before.min()]
            both = np.concatenate([before, new])
            if len(both) > self._keep:
                both = np.partition(both, -self._keep)[-self._keep :]
            self._values[group] = both

    def value(self) -> NDArray[Any]:
        """Return the percentile of all values taken in, one a group."""
        found = []
        for values in self._values:
            low, high = np.sort(values)[[0, min(1, len(values) - 1)]]
            found.append(float(low + self._between * (high - low)))
        return np.array(found)


def _largest(percent: float, groups: int, count: int) -> _Maxima | _Percentiles:
    return _Maxima(groups) if percent == 100 else _Percentiles(percent, groups, count)
