"""Threshold balancing: each neuron's largest weighted input on calibration images.

Rathi et al. (ICLR 2020) run every prefix of the network again for every layer. A layer depends on
none after it, so one pass in layer order, each layer for all steps at once, finds the same.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.training.form import sample_shapes
from spikeship.training.network import INPUT, Network
from spikeship.training.neurons import Reset, SpikingNeuron
from spikeship.training.observe import fitting_batch

# weighted input is held from measuring a threshold to applying it up to so many bytes
_HELD_BYTES = 2**30


class BalanceError(ValueError):
    """A balance that is not known or a neuron that cannot be balanced, in one line."""


class Calibration:
    """Calibration messages on their way through a network, one neuron at a time.

    Holds what each sender sent for all images, one byte a value, until its last reader has it.

    Args:
        network: the network; its weights may change until a neuron that they feed is balanced.
        messages: int8, shape (images, T, *input_shape).
        balance: ``max``, or ``percentile:P`` with 0 < P <= 100 over all steps, neurons and images.
        reset: what a spike does to V.
        batch_size: images run at once; by default what memory allows.

    Raises:
        BalanceError: an unknown balance.
    """

    def __init__(
        self, network: Network, messages: Tensor, balance: str, reset: Reset, batch_size: int | None
    ) -> None:
        self._network = network.eval()
        self._percent = _percent(balance)
        self._reset: Reset = reset
        parts = torch.split(messages, batch_size or fitting_batch(network, messages.shape[1]))
        self._parts = range(len(parts))
        self._samples = messages.shape[0] * messages.shape[1]
        self._shapes = sample_shapes(network)
        self._sent = {INPUT: [part.transpose(0, 1) for part in parts]}
        self._reads = {
            layer.name: self._senders(layer.name)
            for layer in network.layers
            if isinstance(layer.module, SpikingNeuron)
        }

    @torch.no_grad()
    def threshold(self, name: str) -> float:
        """Balance a neuron on its weighted input, and let it fire with what is found, leak 1.

        Neurons are to be asked for once each, in the network's order.

        Raises:
            BalanceError: the threshold would not be positive.
        """
        like = next(self._network.parameters())
        count = self._samples * math.prod(self._shapes[name])
        largest = _Largest(self._percent, count)
        holds = count * like.element_size() <= _HELD_BYTES
        held: list[Tensor] = []
        for part in self._parts:
            weighted = self._weighted(name, part)
            largest.add(weighted)
            if holds:
                held.append(weighted)
        theta = largest.value()
        if not theta > 0:
            raise BalanceError(
                f"neuron {name!r}: the weighted input it is balanced on is {theta:g}, not "
                "positive; use balance 'max', other calibration images, or retrain"
            )
        wanted = set().union(*(reads for later, reads in self._reads.items() if later != name))
        if name in wanted:
            neuron = SpikingNeuron(like.new_tensor(theta), reset=self._reset)
            self._sent[name] = [
                neuron(held[part] if holds else self._weighted(name, part)).to(torch.int8)
                for part in self._parts
            ]
        del self._reads[name]
        self._sent = {sender: sent for sender, sent in self._sent.items() if sender in wanted}
        return theta

    def _weighted(self, name: str, part: int) -> Tensor:
        """Weighted input of a neuron for one part of the images, shape (time, batch, …)."""
        like = next(self._network.parameters())
        sent = {sender: self._sent[sender][part] for sender in self._reads[name]}
        folded = {sender: spikes.flatten(0, 1).to(like) for sender, spikes in sent.items()}
        value = self._value(self._network[name].inputs[0], folded)
        return value.view(*next(iter(sent.values())).shape[:2], *value.shape[1:])

    def _value(self, name: str, known: dict[str, Tensor]) -> Tensor:
        if name in known:
            return known[name]
        layer = self._network[name]
        result: Tensor = layer.module(*(self._value(source, known) for source in layer.inputs))
        return result

    def _senders(self, name: str) -> set[str]:
        """Neurons, and the input, whose messages reach a neuron without another between."""
        senders: set[str] = set()
        for source in self._network[name].inputs:
            if source == INPUT or isinstance(self._network[source].module, SpikingNeuron):
                senders.add(source)
            else:
                senders |= self._senders(source)
        return senders


class _Largest:
    """A percentile of values that come in parts, exact, holding only those above it.

    Between ranks it is interpolated, as by ``numpy.percentile``.
    """

    def __init__(self, percent: float, count: int) -> None:
        rank = percent / 100 * (count - 1)
        self._keep = count - math.floor(rank)
        self._between = rank - math.floor(rank)
        self._values: NDArray[Any] = np.empty(0)

    def add(self, values: Tensor) -> None:
        """Take in a part of the values."""
        new = values.detach().cpu().numpy().ravel()
        if len(self._values) == self._keep:
            new = new[new > self._values.min()]
        both = np.concatenate([self._values, new])
        if len(both) > self._keep:
            both = np.partition(both, -self._keep)[-self._keep :]
        self._values = both

    def value(self) -> float:
        """Return the percentile of all values taken in."""
        low, high = np.sort(self._values)[[0, min(1, len(self._values) - 1)]]
        return float(low + self._between * (high - low))


def _percent(balance: str) -> float:
    """Percentile that a balance asks for; ``max`` is the hundredth."""
    kind, _, value = balance.partition(":")
    try:
        percent = 100.0 if balance == "max" else float(value)
    except ValueError:
        percent = math.nan
    if not (balance == "max" or kind == "percentile") or not 0 < percent <= 100:
        raise BalanceError(
            f"balance {balance!r} is not known; use max, or percentile:P with 0 < P <= 100"
        )
    return percent
