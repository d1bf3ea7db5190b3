"""Placement: which block of which layer lies on which core, and what does not fit."""

from dataclasses import dataclass
from typing import Literal, get_args

from spikeship.hw_models.errors import SpikeshipError

LimitName = Literal[
    "none",
    "neurons",
    "synaptic memory",
    "state memory",
    "input axons",
    "output axons",
    "weight bits",
    "delay",
    "graded messages",
    "firing windows",
    "cores",
    "time",
    "given",
]
AxonRule = Literal["population", "single"]
Kernels = Literal["shared", "unshared"]
Range = tuple[int, int]
MEMORY: tuple[LimitName, ...] = ("synaptic memory", "state memory")


class PlacementError(SpikeshipError, ValueError):
    """A placement that cannot be read, or does not belong to the graph it is used with."""


@dataclass(frozen=True)
class Rules:
    """How a placement counts where published mappings differ.

    Attributes:
        axons: ``population``: the neurons of one core at one position, all its channels, share an
            axon into a convolution, and all neurons of a core share one into a dense synapse.
            ``single``: every source neuron has an axon of its own.
        kernels: ``shared``: a core stores the weights of the channels it holds once.
            ``unshared``: it stores them for every neuron.

    Raises:
        PlacementError: another word.
    """

    axons: AxonRule = "population"
    kernels: Kernels = "shared"

    def __post_init__(self) -> None:
        for name, choices in (("axons", AxonRule), ("kernels", Kernels)):
            value = getattr(self, name)
            if value not in get_args(choices):
                raise PlacementError(
                    f"rules: {name} is {value!r}, not one of {', '.join(get_args(choices))}"
                )


@dataclass(frozen=True)
class Core:
    """A block of one layer's neurons, on a core of its own.

    Attributes:
        layer: name of the node.
        channels, rows, columns: half-open ranges of its neurons; a flat node of N neurons has
            channels 0..N, one row and one column.
        chip: index of its chip.
        tile: x (E-W) and y (N-S) of its router in the chip's mesh.
        compartments: compartments its neurons take.
        synapse_bits: bits of synaptic memory.
        state_bits: bits of state and counters.
        input_axons: axons that end here.
        output_axons: axons that start here, one for each core a message goes to.
    """

    layer: str
    channels: Range
    rows: Range
    columns: Range
    chip: int
    tile: tuple[int, int]
    compartments: int
    synapse_bits: int
    state_bits: int
    input_axons: int
    output_axons: int

    @property
    def neurons(self) -> int:
        """Neurons it holds."""
        sides = (self.channels, self.rows, self.columns)
        size = 1
        for low, high in sides:
            size *= high - low
        return size

    @property
    def loads(self) -> dict[LimitName, int]:
        """What it takes of every limit that a core may have."""
        return {
            "neurons": self.compartments,
            "synaptic memory": self.synapse_bits,
            "input axons": self.input_axons,
            "output axons": self.output_axons,
            "state memory": self.synapse_bits + self.state_bits,
        }


@dataclass(frozen=True)
class PlacedLayer:
    """The cores of one node: its channels in groups times its positions in tiles.

    Attributes:
        name: name of the node.
        channel_groups: pieces its channels (or features) are cut into.
        row_tiles, column_tiles: pieces its rows and columns are cut into.
        compartments: compartments that one of its neurons takes.
        limit: which limit of a core forced that many cores; ``none`` where one core is enough,
            ``time`` where spare cores made the layer faster, ``given`` for a number from the user.
        cores: groups in order, in them rows, in them columns.
    """

    name: str
    channel_groups: int
    row_tiles: int
    column_tiles: int
    compartments: int
    limit: LimitName
    cores: tuple[Core, ...]


@dataclass(frozen=True)
class Misfit:
    """A limit that a layer breaks, however it is split.

    Attributes:
        layer: name of the node; empty where it is the whole network.
        limit: the limit.
        need: what it would take.
        have: what there is, in the limit's unit.
        change: the smallest change with which it fits, as a request.
        assumed: whether the limit itself is an assumption.
    """

    layer: str
    limit: LimitName
    need: int
    have: int
    change: str
    assumed: bool = False

    def __str__(self) -> str:
        return self.line()

    def line(self, chip: str = "the chip") -> str:
        """Layer, chip, limit, need and change in one line."""
        where = f"layer {self.layer!r}" if self.layer else "the network"
        limit = f"{self.limit} (an assumed limit)" if self.assumed else self.limit
        return (
            f"{where} does not fit {chip}: {limit}: it needs {self.need:,} where there are "
            f"{self.have:,}; {self.change}"
        )


@dataclass(frozen=True)
class Placement:
    """The cores of a whole graph.

    Attributes:
        chip: name of the chip.
        rules: how axons and kernels were counted.
        layers: one a node, in the graph's order; layers share no core.
        chips: chips that hold them.
        misfits: what does not fit. A layer whose compartments or memory cannot fit is split until
            no core takes more than it must; axons that cannot fit are left aside in its split.
        assumptions: what the count takes for granted or leaves out.
        injected: synapses whose weighted input the host injects: no chip holds them.
    """

    chip: str
    rules: Rules
    layers: tuple[PlacedLayer, ...]
    chips: int
    misfits: tuple[Misfit, ...]
    assumptions: tuple[str, ...]
    injected: tuple[str, ...] = ()

    def __repr__(self) -> str:
        fits = "" if self.fits else ", does not fit"
        return (
            f"<Placement on {self.chip}: {len(self.layers)} layers, {self.cores} cores, "
            f"{self.chips} chips{fits}>"
        )

    @property
    def cores(self) -> int:
        """Cores of all layers."""
        return sum(len(layer.cores) for layer in self.layers)

    @property
    def fits(self) -> bool:
        """Whether every layer keeps every limit."""
        return not self.misfits

    @property
    def reasons(self) -> tuple[str, ...]:
        """What does not fit, a line each."""
        return tuple(misfit.line(self.chip) for misfit in self.misfits)
