"""Work of each core in each chip step: what its traffic makes it read, compute and send.

A recording is added up in whole numbers over all images and divided by how many there are at the
end. So every figure is exact to the last bit of that division, and summed over a layer's cores,
operations, updates and spikes are the layer's counts. A message is booked where it is sent in the
step in which it is sent, and where it arrives ``delay`` steps later. What the host injects costs no
core anything but the update of the neuron.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.chips.spec import STORED_AS, ChipSpec, SynapseKind
from spikeship.hw_models.cost.flows import flows
from spikeship.hw_models.cost.mesh import Mesh
from spikeship.hw_models.cost.operations import arriving
from spikeship.hw_models.cost.regions import Regions, Steps, all_regions
from spikeship.hw_models.events.traffic import Traffic, working
from spikeship.hw_models.graph import AnySynapse, Array, FixedGraph
from spikeship.hw_models.placement import demand
from spikeship.hw_models.placement.placement import Core, Placement

_T = TypeVar("_T")


class Kept:
    """The newest part of every synapse and node, good as long as its layers are cut the same.

    It is of one graph, one traffic and one way of storing synapses: use it for no other.
    """

    def __init__(self) -> None:
        self._parts: dict[tuple[str, AnySynapse | str], tuple[object, Any]] = {}

    def part(
        self, kind: str, of: AnySynapse | str, cut: tuple[Regions, ...], count: Callable[[], _T]
    ) -> _T:
        """Return a part, counted anew only where the regions that it depends on are others.

        Args:
            kind: which of its parts.
            of: the synapse, or the node's name.
            cut: the regions it depends on.
            count: counts it.
        """
        key = tuple((one.channels, one.rows, one.columns) for one in cut)
        before = self._parts.get((kind, of))
        if before is not None and before[0] == key:
            kept: _T = before[1]
            return kept
        found = count()
        self._parts[kind, of] = (key, found)
        return found


@dataclass(frozen=True, eq=False)
class CoreWork:
    """Events of every core in every chip step, mean per image; (cores, chip_steps) where not said.

    Attributes:
        cores: the placement's, in its order.
        synops_conv, synops_dense, synops_sparse: operations at stored weights.
        words: 64-bit words of synaptic memory read.
        updates: compartments computed.
        spikes: neurons firing.
        messages_out: messages sent, one for each core that a spike goes to.
        messages_in: messages received, those of the input among them.
        hops_x, hops_y: hops that the messages sent take, E-W and N-S.
        links_x, links_y: messages over each link of the meshes, (links, chip_steps).
        between_chips: messages from chip to chip, (1, chip_steps); they take no hops here.
    """

    cores: tuple[Core, ...]
    synops_conv: Steps
    synops_dense: Steps
    synops_sparse: Steps
    words: Steps
    updates: Steps
    spikes: Steps
    messages_out: Steps
    messages_in: Steps
    hops_x: Steps
    hops_y: Steps
    links_x: Steps
    links_y: Steps
    between_chips: Steps

    @property
    def synops(self) -> Steps:
        """Operations of all kinds."""
        return self.synops_conv + self.synops_dense + self.synops_sparse

    @property
    def slots(self) -> Steps:
        """Serial slots: words read, compartments updated, spikes sent."""
        return self.words + self.updates + self.spikes

    @property
    def tiles(self) -> int:
        """Tiles with a core, over all chips."""
        return len({(core.chip, core.tile) for core in self.cores})

    def of_layer(self, name: str) -> NDArray[np.bool_]:
        """Which cores hold a layer."""
        return np.array([core.layer == name for core in self.cores])

    def reading(self, share: Steps) -> "CoreWork":
        """The same with only a share (cores, chip_steps) of the operations."""
        names = [f"synops_{kind}" for kind in get_args(SynapseKind)]
        read: dict[str, Any] = {name: getattr(self, name) * share for name in names}
        return replace(self, **read)

    def pipelined(self, period: int) -> "CoreWork":
        """The work of one period where a new image follows every ``period`` chip steps."""
        names = [field.name for field in fields(self) if field.name != "cores"]
        folded: dict[str, Any] = {name: _folded(getattr(self, name), period) for name in names}
        return replace(self, **folded)


def core_work(
    graph: FixedGraph,
    placement: Placement,
    chip: ChipSpec,
    traffic: Traffic,
    num_steps: int,
    *,
    active: NDArray[np.float64] | None = None,
    kept: Kept | None = None,
) -> CoreWork:
    """Count the work of every core.

    Args:
        graph: the network.
        placement: its cores.
        chip: the chip it was placed on.
        traffic: what its neurons send, at this T.
        num_steps: T.
        active: share of the images that run each local step, (steps,); all by default.
        kept: of other placements of this graph, counted with the same chip, rules and traffic.

    Raises:
        PlacementError: the placement is not of this graph.
        CountError: the traffic is not of this graph and T.
    """
    traffic.check(graph, num_steps)
    found = _Adding(graph, placement, traffic, num_steps, kept)
    for node in graph.nodes:
        found.add_node(node.name, active)
    for synapse in graph.synapses:
        if not demand.injected(graph, synapse, chip):
            weight = demand.weight_bits(synapse)
            found.add_arriving(
                synapse, demand.synapse_bits(synapse, chip, placement.rules.kernels, weight)
            )
            found.add_sent(synapse)
    return CoreWork(cores=found.cores, **found.means())


class _Adding:
    """Work being added up."""

    def __init__(
        self,
        graph: FixedGraph,
        placement: Placement,
        traffic: Traffic,
        num_steps: int,
        kept: Kept | None,
    ) -> None:
        self.graph, self.num_steps, self.kept = graph, num_steps, kept
        self.sent, self.images = traffic.sums
        self.steps = graph.chip_steps(num_steps)
        self.regions = all_regions(graph, placement)
        self.layers = {layer.name: layer for layer in placement.layers}
        self.cores = tuple(core for layer in placement.layers for core in layer.cores)
        self.index = core_indices(self.regions)
        self.mesh = Mesh.of(self.cores)
        rows = {"links_x": 2 * self.mesh.count, "links_y": 2 * self.mesh.count, "between_chips": 1}
        names = [f.name for f in fields(CoreWork) if f.name != "cores"]
        self.totals = {
            name: np.zeros((rows.get(name, len(self.cores)), self.steps)) for name in names
        }

    def add_node(self, name: str, active: NDArray[np.float64] | None) -> None:
        """Add a node's updates and spikes."""
        own, regions = self.index[name], self.regions[name]
        steps = working(self.graph, name, self.num_steps)
        count = steps.stop - steps.start
        share = np.ones(count) if active is None else active[:count]
        computed = regions.sizes * self.layers[name].compartments
        self.totals["updates"][own, steps] += np.outer(computed, share)
        if name in self.sent:
            sent = self.sent[name]
            spikes = self._part("spikes", name, (regions,), lambda: regions.sums(sent))
            self.totals["spikes"][own] += spikes

    def add_arriving(self, synapse: AnySynapse, bits: int) -> None:
        """Add what a synapse's messages cause at its target, ``bits`` a synapse in memory."""
        own, sent = self.index[synapse.target], self.sent[synapse.source]
        target = self.regions[synapse.target]
        parts = self._part(
            "arriving", synapse, (target,), lambda: arriving(synapse, target, sent, bits)
        )
        for part in parts:
            for name, values in (
                (f"synops_{STORED_AS[type(synapse)]}", part.synops),
                ("words", part.words),
                ("messages_in", part.messages),
            ):
                self._book(name, own, part.delay, values)

    def add_sent(self, synapse: AnySynapse) -> None:
        """Add what sending a synapse's messages takes; the input's come from outside."""
        if synapse.source == self.graph.input.name:
            return
        source, target = synapse.source, synapse.target
        sent, ends = self.sent[source], (self.regions[source], self.regions[target])
        found = self._part("flows", synapse, ends, lambda: flows(synapse, *ends, sent))
        routes = self.mesh.routes(found, self.index[source], self.index[target])
        self.totals["messages_out"] += routes.out @ found.messages
        for name in ("hops_x", "hops_y", "links_x", "links_y", "between_chips"):
            self.totals[name] += getattr(routes, name) @ found.messages

    def means(self) -> dict[str, Steps]:
        """The totals per image; updates are added up per image."""
        for name, total in self.totals.items():
            if name != "updates" and self.images > 1:
                total /= self.images
        return self.totals

    def _part(
        self,
        kind: str,
        of: AnySynapse | str,
        cut: tuple[Regions, ...],
        count: Callable[[], _T],
    ) -> _T:
        return count() if self.kept is None else self.kept.part(kind, of, cut, count)

    def _book(self, name: str, own: Array, delay: int, values: Steps) -> None:
        """Add values of the steps in which messages were sent, ``delay`` steps later."""
        late = values[:, : max(0, self.steps - delay)]
        self.totals[name][own, delay : delay + late.shape[1]] += late


def core_indices(regions: Mapping[str, Regions]) -> dict[str, Array]:
    """By name the cores of every layer, in the order of its regions."""
    found, begin = {}, 0
    for name, one in regions.items():
        found[name] = np.arange(begin, begin + one.count)
        begin += one.count
    return found


def _folded(values: Steps, period: int) -> Steps:
    """Work of steps that lie a period apart, added up: (..., period)."""
    rounds = -(-values.shape[1] // period)
    padded = np.zeros((len(values), rounds * period))
    padded[:, : values.shape[1]] = values
    return np.asarray(padded.reshape(len(values), rounds, period).sum(axis=1))
