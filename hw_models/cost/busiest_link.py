"""The link of the mesh that decides most of the time, and whose messages it carries."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.cost.core_work import CoreWork, core_indices
from spikeship.hw_models.cost.flows import flows
from spikeship.hw_models.cost.mesh import Link, Mesh
from spikeship.hw_models.cost.regions import all_regions
from spikeship.hw_models.cost.step_time import StepTimes
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement import demand
from spikeship.hw_models.placement.placement import Placement

NAMED = 3  # synapses


@dataclass(frozen=True)
class Load:
    """What one synapse sends over a link: messages a sample."""

    synapse: str
    source: str
    target: str
    messages: float


@dataclass(frozen=True)
class BusiestLink:
    """A link between two routers of a chip.

    Attributes:
        link: which.
        messages: over it in a sample, mean per image.
        loads: the synapses that send most of them, at most ``NAMED``, the busiest first.
    """

    link: Link
    messages: float
    loads: tuple[Load, ...]

    @property
    def ends(self) -> tuple[str, ...]:
        """Layers at either end of those synapses."""
        return tuple(dict.fromkeys(end for one in self.loads for end in (one.source, one.target)))

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {
            "chip": self.link.chip,
            "from": list(self.link.start),
            "to": list(self.link.end),
            "messages": self.messages,
            "synapses": [
                {
                    "name": one.synapse,
                    "source": one.source,
                    "target": one.target,
                    "messages": one.messages,
                }
                for one in self.loads
            ],
        }


def busiest_link(
    graph: FixedGraph,
    placement: Placement,
    chip: ChipSpec,
    traffic: Traffic,
    work: CoreWork,
    times: StepTimes,
) -> BusiestLink | None:
    """Find the link that is the busiest for the longest time, in the steps that links decide.

    Args:
        graph: the network.
        placement: its cores.
        chip: the chip it was placed on.
        traffic: what its neurons send.
        work: of the placement.
        times: its steps'.

    Returns:
        None where a core decides every step.
    """
    decided = times.link > times.compute.max(axis=0)
    if not decided.any():
        return None
    both = np.concatenate(
        [
            work.links_x[:, decided] * chip.time.hop_x.value,
            work.links_y[:, decided] * chip.time.hop_y.value,
        ]
    )
    longest = np.bincount(both.argmax(axis=0), weights=both.max(axis=0), minlength=len(both))
    axis, row = divmod(int(longest.argmax()), len(work.links_x))
    loads = _loads(graph, placement, chip, traffic, work, "xy"[axis], row)
    loads.sort(key=lambda one: -one.messages)
    return BusiestLink(
        link=Mesh.of(work.cores).link("xy"[axis], row),
        messages=float((work.links_x, work.links_y)[axis][row].sum()),
        loads=tuple(one for one in loads[:NAMED] if one.messages > 0),
    )


def _loads(
    graph: FixedGraph,
    placement: Placement,
    chip: ChipSpec,
    traffic: Traffic,
    work: CoreWork,
    axis: str,
    row: int,
) -> list[Load]:
    mesh, regions = Mesh.of(work.cores), all_regions(graph, placement)
    index, (sent, images) = core_indices(regions), traffic.sums
    found = []
    for synapse in graph.synapses:
        source, target = synapse.source, synapse.target
        if source == graph.input.name or demand.injected(graph, synapse, chip):
            continue
        flowing = flows(synapse, regions[source], regions[target], sent[source])
        routes = mesh.routes(flowing, index[source], index[target])
        carried = {"x": routes.links_x, "y": routes.links_y}[axis][[row]]
        # a link carries what the chip's steps hold: all that is sent
        messages = float((carried @ flowing.messages).sum()) / images
        found.append(Load(synapse.name, source, target, messages))
    return found
