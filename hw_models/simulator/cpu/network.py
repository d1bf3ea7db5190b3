"""A graph made ready for many batches on CPUs, and the state of its nodes over some images.

``block.py`` runs it, a block of steps at a time.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.events.arrivals import arrivals
from spikeship.hw_models.events.tally import Tally
from spikeship.hw_models.graph import AnySynapse, FixedGraph, parts
from spikeship.hw_models.graph.loops import groups
from spikeship.hw_models.simulator.cpu.populations import State, population
from spikeship.hw_models.simulator.sums.sums import Sums

Messages = NDArray[Any]


@dataclass(eq=False)
class NetworkState:
    """State of all nodes over some images.

    Attributes:
        images: how many.
        step: steps run so far.
        num_steps: T of the sample, None for a stream.
        populations: by node name.
        late: by name of a sender its last messages, (images, longest delay, neurons).
        score: of a network without readout, spikes so far.
    """

    images: int
    step: int
    num_steps: int | None
    populations: dict[str, State]
    late: dict[str, Messages]
    score: NDArray[np.int64]

    def keep(self, chosen: NDArray[np.bool_]) -> None:
        """Go on with some of the images only."""
        self.images = int(np.count_nonzero(chosen))
        self.populations = {
            name: tuple(part[chosen] for part in state) for name, state in self.populations.items()
        }
        self.late = {name: messages[chosen] for name, messages in self.late.items()}
        self.score = self.score[chosen]


@dataclass(frozen=True, eq=False)
class Feed:
    """A synapse of one delay at its target.

    Attributes:
        source: name of the sender.
        lag: steps its messages arrive later.
        sums: the synapse.
    """

    source: str
    lag: int
    sums: Sums


class CpuNetwork:
    """A graph made ready for many batches. Threads may share it; each brings its own buffers.

    Args:
        graph: any graph.
        strict: whether a sum or a current beyond 24 bits is an error; else it wraps.
    """

    def __init__(self, graph: FixedGraph, *, strict: bool = True) -> None:
        self.graph, self.strict = graph, strict
        self.populations = {
            node.name: population(node, strict=strict, window=graph.windows.get(node.name))
            for node in graph.nodes
        }
        self.groups = groups(graph)
        self.feeds = {node.name: self._feeds_of(node.name) for node in graph.nodes}
        self.tallies = [Tally(graph, arrival) for arrival in arrivals(graph)]
        self.longest: dict[str, int] = {}
        for feeds in self.feeds.values():
            for feed in feeds:
                self.longest[feed.source] = max(feed.lag, self.longest.get(feed.source, 0))

    def _feeds_of(self, name: str) -> list[Feed]:
        return [
            self._feed(part) for synapse in self.graph.incoming(name) for part in parts(synapse)
        ]

    def _feed(self, part: AnySynapse) -> Feed:
        return Feed(
            source=part.source,
            lag=0 if self.graph.gated else part.delay,
            sums=Sums(self.graph, part),
        )

    @property
    def bytes_per_step(self) -> int:
        """Bytes that one image's messages take in one step."""
        given = int(np.prod(self.graph.input.shape)) * np.dtype(self._sends_input()).itemsize
        sent = [each.neurons * np.dtype(each.sends).itemsize for each in self.populations.values()]
        return int(given + sum(sent))

    def start(self, images: int, num_steps: int | None = None) -> NetworkState:
        """State at the start of a sample of T = ``num_steps`` steps, or of a stream."""
        late = {}
        for name, longest in self.longest.items():
            if longest:
                shape = (images, longest, int(np.prod(self.graph.node(name).shape)))
                late[name] = np.zeros(shape, self._sends(name))
        return NetworkState(
            images=images,
            step=0,
            num_steps=num_steps,
            populations={name: each.start(images) for name, each in self.populations.items()},
            late=late,
            score=np.zeros((images, self.populations[self.graph.output.name].neurons), np.int64),
        )

    def _sends(self, name: str) -> Any:
        if name == self.graph.input.name:
            return self._sends_input()
        return self.populations[name].sends

    def _sends_input(self) -> Any:
        source = self.graph.input
        if source.max_message > np.iinfo(np.int8).max:
            return np.int32
        return np.int8 if source.signed else np.uint8

    def messages(self, values: NDArray[Any]) -> Messages:
        """Input messages (images, steps, *shape) as the engine takes them, flat, channels last.

        Direct input that is the same in every step comes back as one step.
        """
        source = self.graph.input
        still = source.encoding == "direct" and self.graph.gated and values.shape[1] > 1
        if still and np.array_equal(values[:, 1:], values[:, :-1]):
            values = values[:, :1]
        if len(source.shape) == 3:
            values = np.moveaxis(values, -3, -1)
        flat = np.ascontiguousarray(values, self._sends(source.name))
        return flat.reshape(*values.shape[:2], -1)

    def loops(self, name: str) -> bool:
        """Whether a node feeds itself."""
        return any(feed.source == name for feed in self.feeds[name])
