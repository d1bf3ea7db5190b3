"""One chunk of images on its way through a network on a torch device. This file uses torch.

A layer runs all its steps over all images at once; nodes on a loop go step by step. Tensors are
(steps, images, neurons), channels last: a step is one piece of memory, and a delay an offset.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.hw_models import fixed
from spikeship.hw_models.events.counts import LocalCounts, local_steps, working_steps
from spikeship.hw_models.graph import Neuron, Readout, Shape
from spikeship.hw_models.simulator.cpu.recorder import Recorder
from spikeship.hw_models.simulator.torch_device.checks import Phase, Watch, pools_beyond_24_bits
from spikeship.hw_models.simulator.torch_device.counts import per_step
from spikeship.hw_models.simulator.torch_device.network import DeviceNetwork, Feed
from spikeship.hw_models.simulator.torch_device.populations import Kept, Span, State
from spikeship.hw_models.simulator.torch_device.products import integer_type


class DeviceRecorder(Recorder):
    """A recorder that takes tensors."""

    def take(self, name: str, sent: Tensor, states: Kept | None) -> None:
        """Take a node's messages and states, (steps, images, neurons)."""
        self.keep(name, _on_the_host(sent))
        if states is not None:
            self.keep_states(name, _on_the_host(states.potentials), _on_the_host(states.currents))


class Chunk:
    """Some images on their way through the graph.

    Args:
        network: the graph on its device.
        messages: checked, (images, T, *shape); direct input to a staged graph has one step.
        workspace: bytes for intermediate results of the sums.
        recorder: takes what is kept.
    """

    def __init__(
        self,
        network: DeviceNetwork,
        messages: NDArray[np.int64],
        workspace: int,
        recorder: DeviceRecorder | None,
    ) -> None:
        self.network, self.graph, self.device = network, network.graph, network.device
        self.workspace, self.recorder = workspace, recorder
        self.images = len(messages)
        self.num_steps = self.graph.steps_of(messages.shape[1])
        self.watch = Watch()
        self.sent: dict[str, Tensor] = {}
        self.states: dict[str, State] = {}
        self.spikes: dict[str, Tensor] = {}
        self.arrived: dict[int, Tensor] = {}
        self.totals: Tensor | None = None
        self._deliver(self.graph.input.name, self._input(messages), Phase.INPUT_POOL)

    def _input(self, messages: NDArray[np.int64]) -> Tensor:
        """Messages on the device, (steps, images, neurons), silent after their own."""
        source = self.graph.input
        kind = integer_type(source.max_message)
        narrow = torch.from_numpy(messages).to(kind).to(self.device)
        sending = messages.shape[1]
        by_channel = narrow.reshape(self.images, sending, _channels(source.shape), -1)
        moved = by_channel.permute(1, 0, 3, 2).reshape(sending, self.images, -1)
        steps = local_steps(self.graph, self.num_steps)
        silence = moved.new_zeros(steps - sending, *moved.shape[1:])
        return torch.cat([moved, silence]) if len(silence) else moved

    def advance(self, group: list[str]) -> None:
        """Run the nodes of a group over all their steps."""
        network = self.network
        activations = {
            name: self._arrivals(name, [f for f in network.feeds[name] if f.source not in group])
            for name in group
        }
        inner = {name: [f for f in network.feeds[name] if f.source in group] for name in group}
        kept = {name: self._room(activations[name]) for name in group}
        for name in group:
            node = network.populations[name]
            self.states[name] = node.start(self.images)
            self.sent[name] = torch.empty(
                activations[name].shape, dtype=node.sends, device=self.device
            )
        for now in self._strides(group, any(inner.values())):
            for name in group:
                for feed in inner[name]:
                    self._arrive_now(name, feed, activations[name], now.start)
            for name in group:
                self._work(name, activations[name], kept[name], now)
        for name in group:
            self._finish(name, kept[name])

    def _strides(self, group: list[str], loops: bool) -> Iterator[slice]:
        """All steps at once, or one after the other."""
        steps = working_steps(self.graph, group[0], self.num_steps)
        size = 1 if loops else max(1, steps)
        for begin in range(0, steps, size):
            yield slice(begin, begin + size)

    def _arrivals(self, name: str, feeds: list[Feed]) -> Tensor:
        """Sums (steps, images, neurons) that these synapses deliver to a node."""
        steps = working_steps(self.graph, name, self.num_steps)
        shape = (steps, self.images, self.network.populations[name].neurons)
        total = torch.zeros(shape, dtype=self.network.sums_type[name], device=self.device)
        for feed in feeds:
            count = max(0, steps - feed.lag)
            if count:
                sent = self.sent[feed.source][:count]
                self._add(name, feed, total[feed.lag : feed.lag + count], sent, feed.lag)
        return total

    def _arrive_now(self, name: str, feed: Feed, total: Tensor, step: int) -> None:
        if step >= feed.lag:
            sent = self.sent[feed.source][step - feed.lag : step - feed.lag + 1]
            self._add(name, feed, total[step : step + 1], sent, step)

    def _add(self, name: str, feed: Feed, total: Tensor, sent: Tensor, first: int) -> None:
        worst = None
        if feed.limit is not None:
            worst = torch.empty(sent.shape[:2], dtype=torch.int64, device=self.device)
        feed.sums.add_to(
            total.flatten(0, 1),
            sent.flatten(0, 1),
            self.workspace,
            None if worst is None else worst.view(-1),
        )
        if feed.limit is not None and worst is not None:
            self.watch.add(feed.limit, worst.amax(dim=1), self.network.chip_step(name) + first)

    def _work(self, name: str, activation: Tensor, kept: Kept | None, now: slice) -> None:
        here = Kept(kept.potentials[now], kept.currents[now]) if kept else None
        span = Span(self.network.chip_step(name) + now.start, self.watch, here)
        self.network.populations[name].advance(
            self.states[name], activation[now], self.sent[name][now], span
        )

    def _room(self, activation: Tensor) -> Kept | None:
        if self.recorder is None or not self.recorder.states:
            return None
        room = activation.new_empty((2, *activation.shape), dtype=torch.int32)
        return Kept(potentials=room[0], currents=room[1])

    def _finish(self, name: str, kept: Kept | None) -> None:
        sent = self.sent[name]
        if self.recorder is not None:
            self.recorder.take(name, sent, kept)
        if name == self.graph.output.name:
            reads_out = isinstance(self.graph.output, Readout)
            self.totals = sent if reads_out else sent.cumsum(dim=0, dtype=torch.int64)
        self._deliver(name, sent, Phase.POOL)

    def _deliver(self, name: str, sent: Tensor, phase: Phase) -> None:
        """Count what a sender's messages cause, and check their pools."""
        self.sent[name] = sent
        self.spikes[name] = per_step(sent)
        for place, tally in enumerate(self.network.tallies):
            if tally.synapse.source == name:
                self.arrived[place] = tally(sent, self.workspace)
                if tally.pool_bound > fixed.STATE_RAIL and len(sent):
                    limit = pools_beyond_24_bits(phase, tally.synapse.name)
                    self.watch.add(limit, tally.largest_pools(sent), self.network.chip_step(name))

    def forget(self, place: int) -> None:
        """Drop messages that no later group reads."""
        for name in list(self.sent):
            if self.network.last_use.get(name, -1) <= place:
                del self.sent[name]

    def scores(self) -> NDArray[np.int32]:
        """Score after each step of the output's own, (images, steps, classes)."""
        assert self.totals is not None  # set by the last group
        channels = _channels(self.graph.output.shape)
        by_place = self.totals.to(torch.int32).reshape(*self.totals.shape[:2], -1, channels)
        by_step = by_place.permute(1, 0, 3, 2).flatten(2)  # classes in torch's order
        return np.asarray(by_step.contiguous().cpu().numpy())

    def rails(self) -> dict[str, tuple[int, int]]:
        """Neuron-steps at the lower and the upper rail, by name of the neurons."""
        found = {}
        for node in self.graph.nodes:
            if isinstance(node, Neuron):
                lower, upper = self.states[node.name].rails.tolist()
                found[node.name] = (lower, upper)
        return found

    def counts(self) -> LocalCounts:
        """Events in the steps of their senders."""
        counts = LocalCounts.nothing(self.graph, local_steps(self.graph, self.num_steps))
        counts.active[:] = self.images
        _fill(counts.input_spikes, self.spikes[self.graph.input.name])
        for name, total in counts.spikes.items():
            _fill(total, self.spikes[name])
        for place, total in enumerate(counts.arrived):
            _fill(total, self.arrived[place])
        return counts


def _channels(shape: Shape) -> int:
    """Values at one place of a shape: channels, or all of a flat one."""
    return shape[0] if len(shape) == 3 else math.prod(shape)


def _fill(total: NDArray[np.int64], found: Tensor) -> None:
    """Write counts of the first steps; a node that outlives the chip's clock has no more."""
    total[..., : found.shape[-1]] = found.cpu().numpy()


def _on_the_host(values: Tensor) -> NDArray[Any]:
    """Values (steps, images, neurons) as (images, steps, neurons); spikes (int8) as uint8."""
    narrow = values.view(torch.uint8) if values.dtype == torch.int8 else values
    moved: NDArray[Any] = narrow.transpose(0, 1).contiguous().cpu().numpy()
    return moved
