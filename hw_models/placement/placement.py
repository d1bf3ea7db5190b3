"""Placement: which block of which layer lies on which core, and what does not fit."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from spikeship.hw_models.placement.contradiction import contradiction

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
    "cores",
    "time",
    "given",
]
AxonRule = Literal["population", "single"]
Kernels = Literal["shared", "unshared"]
Range = tuple[int, int]
MEMORY: tuple[LimitName, ...] = ("synaptic memory", "state memory")

FORMAT, VERSION = "spikeship placement", 1


class PlacementError(ValueError):
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
        chip: index of its chip. tile: x (E-W) and y (N-S) of its router in the chip's mesh.
        compartments: compartments its neurons take.
        synapse_bits: bits of synaptic memory. state_bits: bits of state and counters.
        input_axons: axons that end here. output_axons: axons that start here, one for each core
            a message goes to.
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
            ``time`` where spare cores made the layer faster, ``given`` where the number was said.
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
        limit: the limit. need: what it would take. have: what there is, in the limit's unit.
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

    def to_json(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and strings, with the format's version."""
        return {"format": FORMAT, "version": VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, data: Any) -> "Placement":
        """Read what :meth:`to_json` gave, after JSON made lists of its tuples.

        Raises:
            PlacementError: it is something else, of another version, or damaged.
        """
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise PlacementError("no placement: 'format' is missing; write it with to_json")
        if type(data.get("version")) is not int or data["version"] != VERSION:
            raise PlacementError(
                f"placement of version {data.get('version')!r}, where this reads {VERSION}; place "
                "the network anew"
            )
        found = cls(
            chip=_get(data, "chip", str),
            rules=_rules(_get(data, "rules", Mapping)),
            layers=tuple(_layer(each) for each in _get(data, "layers", list | tuple)),
            chips=_count(data, "chips"),
            misfits=tuple(_misfit(each) for each in _get(data, "misfits", list | tuple)),
            assumptions=_texts(data, "assumptions"),
            injected=_texts(data, "injected"),
        )
        wrong = contradiction(found)
        if wrong is not None:
            raise PlacementError(f"damaged placement: {wrong}; place the network anew")
        return found


def _get(data: Any, key: str, kind: Any) -> Any:
    if not isinstance(data, Mapping) or not isinstance(data.get(key), kind):
        raise PlacementError(
            f"damaged placement: {key!r} is missing or of a wrong kind; place the network anew"
        )
    return data[key]


def _count(data: Any, key: str) -> int:
    value = _get(data, key, int)
    if isinstance(value, bool) or value < 0:
        raise PlacementError(f"damaged placement: {key!r} is {value!r}; place the network anew")
    return int(value)


def _texts(data: Any, key: str) -> tuple[str, ...]:
    values = _get(data, key, list | tuple)
    if not all(isinstance(value, str) for value in values):
        raise PlacementError(f"damaged placement: {key!r} is no list of strings; place anew")
    return tuple(values)


def _choice(data: Any, key: str, choices: Any) -> Any:
    value = _get(data, key, str)
    if value not in get_args(choices):
        raise PlacementError(
            f"damaged placement: {key!r} is {value!r}, not one of {', '.join(get_args(choices))}"
        )
    return value


def _pair(data: Any, key: str) -> tuple[int, int]:
    values = _get(data, key, list | tuple)
    if len(values) != 2 or not all(type(value) is int and value >= 0 for value in values):
        raise PlacementError(f"damaged placement: {key!r} is {values!r}, not two counts")
    return (values[0], values[1])


def _range(data: Any, key: str) -> Range:
    low, high = _pair(data, key)
    if low >= high:
        raise PlacementError(f"damaged placement: {key!r} is {low}..{high}, an empty range")
    return (low, high)


def _rules(data: Any) -> Rules:
    return Rules(_choice(data, "axons", AxonRule), _choice(data, "kernels", Kernels))


def _layer(data: Any) -> PlacedLayer:
    return PlacedLayer(
        name=_get(data, "name", str),
        channel_groups=_count(data, "channel_groups"),
        row_tiles=_count(data, "row_tiles"),
        column_tiles=_count(data, "column_tiles"),
        compartments=_count(data, "compartments"),
        limit=_choice(data, "limit", LimitName),
        cores=tuple(_core(each) for each in _get(data, "cores", list | tuple)),
    )


def _core(data: Any) -> Core:
    return Core(
        layer=_get(data, "layer", str),
        channels=_range(data, "channels"),
        rows=_range(data, "rows"),
        columns=_range(data, "columns"),
        chip=_count(data, "chip"),
        tile=_pair(data, "tile"),
        compartments=_count(data, "compartments"),
        synapse_bits=_count(data, "synapse_bits"),
        state_bits=_count(data, "state_bits"),
        input_axons=_count(data, "input_axons"),
        output_axons=_count(data, "output_axons"),
    )


def _misfit(data: Any) -> Misfit:
    return Misfit(
        layer=_get(data, "layer", str),
        limit=_choice(data, "limit", LimitName),
        need=_count(data, "need"),
        have=_count(data, "have"),
        change=_get(data, "change", str),
        assumed=_get(data, "assumed", bool),
    )
