"""ChipSpec: what a chip holds and what each event costs, every number with its source."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from spikeship.hw_models.errors import InputError
from spikeship.hw_models.graph import Conv, Dense, Identity, Neuron, Node, Sparse

Kind = Literal["measured", "simulated", "fitted", "stated", "assumed"]
Level = Literal["low", "value", "high"]
SynapseKind = Literal["conv", "dense", "sparse"]

# how a synapse is stored, which decides what an operation costs
STORED_AS: Mapping[type, SynapseKind] = MappingProxyType(
    {Conv: "conv", Dense: "dense", Sparse: "sparse", Identity: "sparse"}
)


@dataclass(frozen=True)
class Constant:
    """A quantity with its spread and where it comes from.

    Attributes:
        value: the figure used.
        low, high: the spread of published figures around it.
        unit: SI unit of all three.
        source: who says so, and how the three were chosen where sources differ.
        kind: how the source came by it.
    """

    value: float
    low: float
    high: float
    unit: str
    source: str
    kind: Kind

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high:
            raise InputError(
                f"constant of {self.source!r}: {self.value} must lie in {self.low}..{self.high} "
                "and not below 0; correct the range"
            )

    def at(self, level: Level) -> float:
        """Return the figure at the low end, the value used, or the high end."""
        return {"low": self.low, "value": self.value, "high": self.high}[level]


@dataclass(frozen=True)
class Limit:
    """The most of something that a chip or core holds, and who says so."""

    value: int
    unit: str
    source: str
    kind: Kind


@dataclass(frozen=True)
class EventCosts:
    """What one event costs a core or its router: all in joules, or all in seconds.

    Attributes:
        synop_conv, synop_dense, synop_sparse: one synaptic operation, by how its synapses are
            stored.
        neuron_update: one compartment computed for one step.
        spike_out: one neuron firing.
        message_out: sending its spike to one core.
        message_in: receiving a spike on one core.
        hop_x, hop_y: a spike's way from one tile to the next, E-W and N-S; in seconds, how long
            it keeps the link.
    """

    synop_conv: Constant
    synop_dense: Constant
    synop_sparse: Constant
    neuron_update: Constant
    spike_out: Constant
    message_out: Constant
    message_in: Constant
    hop_x: Constant
    hop_y: Constant

    def synop(self, kind: SynapseKind) -> Constant:
        """Return the cost of an operation at a synapse stored this way."""
        stored = {"conv": self.synop_conv, "dense": self.synop_dense, "sparse": self.synop_sparse}
        return stored[kind]


@dataclass(frozen=True)
class Host:
    """What host and embedded processors take for one inference, beside the neuron cores.

    Attributes:
        seconds: an inference's time outside the chip's steps.
        joules: its energy.
        num_steps: T of all inferences that these were measured on, where nothing tells a constant
            an inference from a constant a step; None where they are known to be an inference's.
    """

    seconds: Constant
    joules: Constant
    num_steps: int | None = None


@dataclass(frozen=True)
class ChipSpec:
    """A chip: limits, costs, and what every estimate for it has to say.

    Attributes:
        name: name on the command line.
        cores_per_chip: neuron cores of a chip.
        cores_per_tile: cores that share a router.
        mesh_width: routers of the chip's mesh from east to west.
        compartments_per_core: neuron compartments of a core.
        soft_reset_compartments: compartments that a neuron with soft reset takes (hard reset and
            accumulating readouts take one).
        synaptic_memory: bits of a core that hold synapses.
        core_memory: bits of a core that synapses and the neurons' state share; None where a
            compartment brings its own state.
        input_axons, output_axons: per core.
        weight_bits: largest width of a weight.
        max_delay: steps by which a synapse can delay beyond the usual next step.
        message_bits: payload of a spike; 1 where a spike carries no number.
        kernel_rule: how the weights of a convolution are taken to be stored.
        energy: joules an event.
        time: seconds an event.
        barriers: ``(tiles, seconds)``: end-of-step barrier for up to that many tiles, ascending.
        static_power: watts of one chip whatever it does.
        host: time and energy beside the neuron cores; None where nothing was measured.
        notes: assumptions that every estimate for this chip repeats.
    """

    name: str
    cores_per_chip: Limit
    cores_per_tile: Limit
    mesh_width: Limit
    compartments_per_core: Limit
    soft_reset_compartments: Limit
    synaptic_memory: Limit
    core_memory: Limit | None
    input_axons: Limit
    output_axons: Limit
    weight_bits: Limit
    max_delay: Limit
    message_bits: Limit
    kernel_rule: str
    energy: EventCosts
    time: EventCosts
    barriers: tuple[tuple[int, Constant], ...]
    static_power: Constant
    host: Host | None
    notes: tuple[str, ...]

    @property
    def graded(self) -> bool:
        """Whether spikes carry numbers, and so signs."""
        return self.message_bits.value > 1

    @property
    def windows(self) -> bool:
        """Whether firing can wait for a step: microcode does it, and comes with graded spikes."""
        return self.graded

    def compartments(self, node: Node) -> int:
        """Compartments that one neuron of this node takes."""
        soft = isinstance(node, Neuron) and node.reset == "subtract"
        return self.soft_reset_compartments.value if soft else 1

    def barrier(self, tiles: int) -> Constant:
        """Seconds of the barrier over this many tiles.

        Between two rows of the table the larger one, beyond it the last.
        """
        for most, constant in self.barriers:
            if tiles <= most:
                return constant
        return self.barriers[-1][1]
