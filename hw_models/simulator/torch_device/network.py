"""A graph made ready on a torch device: populations, sums and counters. This file uses torch."""

from dataclasses import dataclass

import numpy as np
import torch

from spikeship.hw_models import fixed
from spikeship.hw_models.events.arrivals import arrivals
from spikeship.hw_models.events.counts import local_steps
from spikeship.hw_models.graph import AnySynapse, FixedGraph, parts
from spikeship.hw_models.graph.loops import groups
from spikeship.hw_models.simulator.torch_device.checks import Limit, Phase, beyond_24_bits
from spikeship.hw_models.simulator.torch_device.counts import DeviceTally
from spikeship.hw_models.simulator.torch_device.populations import population
from spikeship.hw_models.simulator.torch_device.products import integer_type, sum_type
from spikeship.hw_models.simulator.torch_device.sums import DeviceSums


@dataclass(frozen=True, eq=False)
class Feed:
    """A synapse of one delay at its target.

    Attributes:
        source: name of the sender.
        lag: steps its messages arrive later.
        sums: what they cause.
        limit: of a sum, None where no sum can pass 24 bits.
    """

    source: str
    lag: int
    sums: DeviceSums
    limit: Limit | None


class DeviceNetwork:
    """Everything of a graph that stays the same from run to run, on its device.

    Args:
        graph: any graph.
        device: where to run it.

    Attributes:
        groups: node names in the order of the run, those on a common loop together.
        populations: by node name.
        feeds: what leads into each node.
        tallies: a counter for each of the graph's arrivals.
        sums_type: by node name, the type that holds all it may be fed in a step.
        last_use: by name of a sender, the place of the last group that reads it.
    """

    def __init__(self, graph: FixedGraph, device: torch.device) -> None:
        self.graph, self.device = graph, device
        self.groups = groups(graph)
        self.populations = {
            node.name: population(node, device, graph.windows.get(node.name))
            for node in graph.nodes
        }
        self.feeds = {node.name: self._feeds(node.name) for node in graph.nodes}
        self.tallies = [DeviceTally(graph, arrival, device) for arrival in arrivals(graph)]
        self.sums_type = {
            name: sum_type(sum(feed.sums.bound for feed in feeds))
            for name, feeds in self.feeds.items()
        }
        self.last_use = {
            feed.source: place
            for place, group in enumerate(self.groups)
            for name in group
            for feed in self.feeds[name]
        }

    def _feeds(self, name: str) -> list[Feed]:
        incoming = self.graph.incoming(name)
        return [self._feed(part) for synapse in incoming for part in parts(synapse)]

    def _feed(self, part: AnySynapse) -> Feed:
        sums = DeviceSums(self.graph, part, self.device)
        limit = None
        if sums.bound > fixed.STATE_RAIL:
            limit = beyond_24_bits(Phase.SUM, f"synapse {part.name!r}: its sum")
        return Feed(part.source, 0 if self.graph.gated else part.delay, sums, limit)

    def chip_step(self, name: str) -> int:
        """The chip's number, from 0, of a node's first step."""
        return self.graph.depths[name] if self.graph.gated else 0

    def image_bytes(self, num_steps: int, *, potentials: bool) -> int:
        """Most that one image's tensors take at once, in bytes."""
        source, steps = self.graph.input, local_steps(self.graph, num_steps)
        size = int(np.prod(source.shape)) * steps
        held = {source.name: size * integer_type(source.max_message).itemsize}
        peak = 2 * held[source.name] + 8 * size  # as it comes, moved, and in torch's order
        for place, group in enumerate(self.groups):
            work = 0
            for name in group:
                node = self.populations[name]
                each = self.sums_type[name].itemsize + 8 * node.copies_sums + 8 * potentials
                work += node.neurons * (steps * each + node.state_bytes)
                held[name] = node.neurons * steps * node.sends.itemsize
            peak = max(peak, work + sum(held.values()))
            held = {name: size for name, size in held.items() if self.last_use.get(name, 0) > place}
        return peak
