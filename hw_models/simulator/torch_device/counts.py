"""Counting events on a torch device, so that messages need not leave it.

This file uses torch. What is counted is ``engine/tally.py``'s, in 64-bit integers.
"""

import numpy as np
import torch
from torch import Tensor

from spikeship.hw_models.events.arrivals import (
    ARRIVING,
    CONNECTED,
    EFFECTIVE,
    KINDS,
    POOLED,
    SENT,
    Arrival,
)
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.graph.layout import per_neuron
from spikeship.hw_models.simulator.torch_device.checks import magnitude
from spikeship.hw_models.simulator.torch_device.products import integer_type
from spikeship.hw_models.simulator.torch_device.sums import sum_pool


class DeviceTally:
    """Counts what messages cause.

    Args:
        graph: the graph.
        arrival: one of its arrivals.
        device: where to count.

    Attributes:
        synapse: the synapse object.
        pool_bound: largest magnitude of a pooled message, 0 without a pool.
    """

    def __init__(self, graph: FixedGraph, arrival: Arrival, device: torch.device) -> None:
        self.synapse = synapse = arrival.synapse
        shape = graph.node(synapse.source).shape
        effective, connected = (
            per_neuron(part, shape) for part in (arrival.effective, arrival.connected)
        )
        reach = np.zeros((KINDS, effective.size), np.int64)  # of POOLED: counted apart
        reach[EFFECTIVE], reach[CONNECTED], reach[ARRIVING] = effective, connected, connected > 0
        reach[SENT] = 1
        self.reach = torch.from_numpy(reach).to(device)
        self.shape, self.pool, self.pools = shape, synapse.pool, POOLED in arrival.kinds
        self.pool_bound = graph.max_message(synapse) if synapse.pool > 1 else 0
        self.pool_type = integer_type(self.pool_bound)

    def __call__(self, messages: Tensor, workspace: int) -> Tensor:
        """Count messages (steps, images, neurons), channels last, in so many bytes of workspace.

        Returns:
            int64 (KINDS, steps) on the device, summed over the images; kinds that the arrival
            does not count mean nothing.
        """
        found = torch.zeros(KINDS, len(messages), dtype=torch.int64, device=messages.device)
        size = max(1, workspace // (self.reach.numel() * self.reach.itemsize))
        for begin in range(0, len(messages), size):
            block = slice(begin, begin + size)
            events = torch.count_nonzero(messages[block], dim=1)
            found[:, block] = (self.reach[:, None] * events).sum(dim=2)
        if self.pool == 1:
            found[POOLED] = found[ARRIVING]
        elif self.pools:
            for t, sent in enumerate(messages):
                found[POOLED, t] = self._leading(sent)
        return found

    def largest_pools(self, messages: Tensor) -> Tensor:
        """Largest magnitude of a pooled message in each step, int64 (steps,)."""
        return torch.stack([magnitude(self._pooled(sent), kept=0) for sent in messages])

    def _leading(self, sent: Tensor) -> Tensor:
        """How many pooled messages are not zero and lead anywhere."""
        channels, height, width = self.shape
        leads = self.reach[ARRIVING].view(height, width, channels)[:: self.pool, :: self.pool]
        return torch.count_nonzero(self._pooled(sent).ne(0).logical_and_(leads))

    def _pooled(self, sent: Tensor) -> Tensor:
        channels, height, width = self.shape
        return sum_pool(sent.view(-1, height, width, channels), self.pool, self.pool_type)


def per_step(messages: Tensor) -> Tensor:
    """Messages (steps, images, neurons) that are not zero, int64 (steps,)."""
    return torch.count_nonzero(messages.flatten(1), dim=1)
