"""A block of steps: every node run over all of them, the state kept for the next block.

Nothing crosses the layers of a gated graph out of step, and an ungated graph's messages arrive a
known number of steps later: either way a layer runs all steps of a block at once, one product
for many images and steps and one compiled scan. Only nodes on a loop are run step by step.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models import fixed
from spikeship.hw_models.events.arrivals import SENT
from spikeship.hw_models.events.counts import LocalCounts, working_steps
from spikeship.hw_models.events.tally import count_nonzero
from spikeship.hw_models.graph import Conv, Dense, Neuron, Readout
from spikeship.hw_models.graph.layout import from_last, last_shape
from spikeship.hw_models.reference.interpreter import StateOverflowError
from spikeship.hw_models.simulator.cpu.network import CpuNetwork, Feed, Messages, NetworkState
from spikeship.hw_models.simulator.cpu.populations import NOT_KEPT, Met
from spikeship.hw_models.simulator.sums.sums import EXACT_FLOAT32

BLOCK_BYTES = 6 * 2**20  # sums in work: they should not leave the cache
DENSE_BYTES = 4 * BLOCK_BYTES  # here reading the weights costs more


@dataclass(frozen=True, eq=False)
class Block:
    """What some steps gave.

    Attributes:
        scores_by_step: (images, steps, classes), int32.
        counts: events of these steps.
        met: neuron-steps at the rails, and wraps, by node name.
    """

    scores_by_step: NDArray[np.int32]
    counts: LocalCounts
    met: dict[str, Met]


class Keeper:
    """What is to be kept of a run; this one keeps nothing and asks for no states."""

    states = False

    def keep(self, name: str, sent: Messages) -> None:
        """Take a node's messages (images, steps, neurons); they are overwritten later."""

    def keep_states(
        self, name: str, potentials: NDArray[np.int32], currents: NDArray[np.int32]
    ) -> None:
        """Take a node's potentials and currents, where ``states`` is set."""


@dataclass
class Buffers:
    """Memory that is used again block after block, one set a thread."""

    held: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    def take(self, name: str, shape: tuple[int, ...], dtype: Any) -> Messages:
        """Return an array of this shape; its contents are left from before."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        if name not in self.held or self.held[name].size < size:
            self.held[name] = np.empty(size, np.uint8)
        taken: Messages = self.held[name][:size].view(dtype).reshape(shape)
        return taken


def advance(
    network: CpuNetwork,
    state: NetworkState,
    messages: Messages,
    steps: int,
    *,
    keeper: Keeper | None = None,
    buffers: Buffers | None = None,
) -> Block:
    """Run some steps, the state changed in place.

    Args:
        network: the graph made ready.
        state: of these images.
        messages: from ``CpuNetwork.messages``: (images, steps or 1, neurons), one step standing for
            every step.
        steps: how many.
        keeper: takes every node's activity.
        buffers: memory to work in; results do not share it.

    Raises:
        StateOverflowError: a sum or a state left its width.
    """
    run = _Run(network, state, steps, keeper or Keeper(), buffers or Buffers())
    run.receive(messages)
    for group in network.groups:
        if len(group) == 1 and not network.loops(group[0]):
            run.fold(group[0])
        else:
            run.step_by_step(group)
    state.step += steps
    return Block(run.scores(), run.counts, run.met)


@dataclass(frozen=True, eq=False)
class _Room:
    """Where a node writes: messages, potentials and currents, (images, steps, neurons)."""

    sent: Messages
    potentials: NDArray[np.int32]
    currents: NDArray[np.int32]


class _Run:
    """One block of steps under way."""

    def __init__(
        self, network: CpuNetwork, state: NetworkState, steps: int, keeper: Keeper, buffers: Buffers
    ) -> None:
        self.network, self.graph = network, network.graph
        self.state, self.steps = state, steps
        self.keeper, self.buffers = keeper, buffers
        self.sent: dict[str, Messages] = {}  # with the late messages in front
        self.counts = LocalCounts.nothing(network.graph, steps)
        self.counts.active[:] = state.images
        self.met = {name: Met() for name in network.populations}

    def receive(self, messages: Messages) -> None:
        """Take the input's messages of this block."""
        name = self.graph.input.name
        self.sent[name] = messages
        if name in self.state.late:
            self.sent[name] = np.concatenate([self.state.late[name], messages], axis=1)
        self._count(name, messages, slice(0, self.steps), self.counts.input_spikes)
        self._remember(name)

    def fold(self, name: str) -> None:
        """Run a node over all steps of the block, a part that stays in cache at a time."""
        room = self._room(name)
        own = self._own_steps(name)
        for past in (room.sent, room.potentials, room.currents):
            past[:, own:] = 0
        for rows, when in self._blocks(name, own):
            self._advance(name, room, rows, when)
            self._count(name, room.sent[rows, when], when, self.counts.spikes.get(name))
        self._done(name, room)

    def step_by_step(self, group: list[str]) -> None:
        """Run nodes on a loop, one step of all of them after the other."""
        rooms = {name: self._room(name) for name in group}
        everyone, always = slice(0, self.state.images), slice(0, self.steps)
        for t in range(self.steps):
            for name, room in rooms.items():
                self._advance(name, room, everyone, slice(t, t + 1))
        for name, room in rooms.items():
            self._count(name, room.sent, always, self.counts.spikes.get(name))
            self._done(name, room)

    def scores(self) -> NDArray[np.int32]:
        """Score after each step; see Simulation."""
        name = self.graph.output.name
        sent = from_last(self.sent[name][:, self._lead(name) :], self.graph.output.shape)
        sent = sent.reshape(*sent.shape[:2], -1)
        if isinstance(self.graph.output, Readout):
            return sent.astype(np.int32)
        total = sent.cumsum(axis=1, dtype=np.int64) + self.state.score[:, None]
        self.state.score = total[:, -1].copy()
        return total.astype(np.int32)

    def _room(self, name: str) -> "_Room":
        """Where a node writes this block, its messages behind the late ones of the last block."""
        node, lead = self.network.populations[name], self._lead(name)
        shape = (self.state.images, self.steps, node.neurons)
        self.sent[name] = self.buffers.take(
            name, (self.state.images, lead + self.steps, node.neurons), node.sends
        )
        if lead:
            self.sent[name][:, :lead] = self.state.late[name]
        states = [np.empty(shape, np.int32) if self.keeper.states else NOT_KEPT for _ in range(2)]
        return _Room(self.sent[name][:, lead:], *states)

    def _advance(self, name: str, room: "_Room", images: slice, steps: slice) -> None:
        """Run a node over some steps of some images."""
        met = self.network.populations[name].advance(
            tuple(part[images] for part in self.state.populations[name]),
            self._activation(name, images, steps),
            room.sent[images, steps],
            chip_step=self._chip_step(name, steps.start),
            potentials=room.potentials[images, steps] if self.keeper.states else NOT_KEPT,
            currents=room.currents[images, steps] if self.keeper.states else NOT_KEPT,
        )
        self.met[name] = self.met[name].plus(met)

    def _done(self, name: str, room: "_Room") -> None:
        self.keeper.keep(name, room.sent)
        if self.keeper.states:
            self.keeper.keep_states(name, room.potentials, room.currents)
        self._remember(name)

    def _count(
        self, name: str, sent: Messages, steps: slice, total: NDArray[np.int64] | None
    ) -> None:
        """Count messages of some steps (one may stand for all), and what they cause."""
        found = None
        for tally, arrived in zip(self.network.tallies, self.counts.arrived, strict=True):
            if tally.source == name:
                found = tally(sent)
                arrived[:, steps] += found
        if total is not None:
            total[steps] += count_nonzero(sent) if found is None else found[SENT]

    def _remember(self, name: str) -> None:
        """Keep the messages that are still under way."""
        lead = self._lead(name)
        if lead:
            self.state.late[name] = self.sent[name][:, -lead:].copy()

    def _lead(self, name: str) -> int:
        return self.network.longest.get(name, 0)

    def _own_steps(self, name: str) -> int:
        """Steps of this block that a node runs; a stream has no last one."""
        if self.state.num_steps is None:
            return self.steps
        left = working_steps(self.graph, name, self.state.num_steps) - self.state.step
        return min(self.steps, max(0, left))

    def _chip_step(self, name: str, local: int) -> int:
        depth = self.graph.depths[name] if self.graph.gated else 0
        return self.state.step + local + depth

    def _blocks(self, name: str, own: int) -> Iterator[tuple[slice, slice]]:
        """Cut images x steps into parts whose sums fit the cache: whole images, else steps."""
        synapses = self.graph.incoming(name)
        inputs = [int(np.prod(self.graph.node(synapse.source).shape)) for synapse in synapses]
        width = max(4 * self.network.populations[name].neurons, *inputs)
        dense = any(isinstance(synapse, Dense) for synapse in synapses)
        rows = max(1, (DENSE_BYTES if dense else BLOCK_BYTES) // width)
        images = max(1, rows // max(1, own))
        steps = own if images > 1 else min(rows, own)
        for image in range(0, self.state.images, images):
            some = slice(image, min(image + images, self.state.images))
            for begin in range(0, own, max(1, steps)):
                yield some, slice(begin, min(begin + steps, own))

    def _activation(self, name: str, images: slice, steps: slice) -> Messages:
        """Sums (images, steps, neurons) that arrive at a node; one step where all are the same."""
        arrived = [self._arriving(feed, images, steps) for feed in self.network.feeds[name]]
        total = arrived[0]
        if len(arrived) > 1:
            most = max(part.shape[1] for part in arrived)
            if any(part.dtype != np.float32 for part in arrived) or (
                sum(feed.sums.largest for feed in self.network.feeds[name]) >= EXACT_FLOAT32
            ):
                arrived = [part.astype(np.int32) for part in arrived]
            total = np.repeat(arrived[0], most // arrived[0].shape[1], axis=1)
            for part in arrived[1:]:
                total += part
        return total

    def _arriving(self, feed: Feed, images: slice, steps: slice) -> Messages:
        sent = self.sent[feed.source]
        if sent.shape[1] > 1 or self.steps == 1:
            shift = self._lead(feed.source) - feed.lag
            sent = sent[:, steps.start + shift : steps.stop + shift]
        sent = sent[images]
        count, lasting = sent.shape[:2]
        rows = np.ascontiguousarray(sent).reshape(
            count * lasting, *last_shape(self.graph.node(feed.source).shape)
        )
        sums = feed.sums(rows)
        if feed.sums.largest > fixed.STATE_RAIL:
            sums = self._in_24_bits(feed, sums, steps.start)
        return sums.reshape(count, lasting, -1)

    def _in_24_bits(self, feed: Feed, sums: Messages, local: int) -> Messages:
        synapse = feed.sums.synapse
        if not self.network.strict and isinstance(self.graph.node(synapse.target), Neuron):
            if not isinstance(synapse, Conv) or synapse.delay > 1:
                return sums  # Lava's matrices do not wrap, its convolutions do
            wrapped = fixed.wrap_sum(sums.astype(np.int64)).astype(np.int32)
            wraps = int(np.count_nonzero(wrapped != sums))
            self.met[synapse.target] = self.met[synapse.target].plus(Met(wraps=wraps))
            return wrapped
        worst = int(np.abs(sums).max(initial=0))
        if worst > fixed.STATE_RAIL:
            raise StateOverflowError(
                f"synapse {synapse.name!r}: its sum reaches {worst} from chip step "
                f"{self._chip_step(synapse.target, local) + 1} on, beyond the "
                f"{fixed.STATE_RAIL} that 24 bits hold; use a larger scale"
            )
        return sums
