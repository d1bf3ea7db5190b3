"""Layers of a described network."""

from dataclasses import dataclass
from typing import Literal, get_args

from spikeship.deploy.validation.fields import Fields, RowError

Connect = Literal["dense", "conv", "sparse"]


@dataclass(frozen=True)
class Layer:
    """One layer, or ``copies`` parallel chains of ``depth`` equal layers.

    Attributes:
        name: name of the layer.
        shape: (neurons,) or (channels, height, width).
        sources: the layers, or ``input``, that feed it; the ends of all chains of those.
        connect: how.
        depth, copies: length and number of the chains; 1 and 1 for a plain layer.
        cores: cores of each of its layers; None where they are not known.
        rate: spikes a neuron and step; None for the row's.
        kernel, stride, padding, groups: of a convolution.
        pool: side of the sum-pool before it.
        fan_in: synapses of each neuron of a sparse layer.
        weight_bits: width of the weights.
    """

    name: str
    shape: tuple[int, ...]
    sources: tuple[str, ...]
    connect: Connect
    depth: int = 1
    copies: int = 1
    cores: int | None = None
    rate: float | None = None
    kernel: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    pool: int = 1
    fan_in: int = 0
    weight_bits: int = 8


FIELDS = {
    "name", "shape", "from", "connect", "depth", "copies", "cores", "rate", "kernel", "stride",
    "padding", "groups", "pool", "fan_in", "weight_bits",
}  # fmt: skip
ONLY_OF: dict[str, Connect] = {
    "kernel": "conv", "stride": "conv", "padding": "conv", "groups": "conv", "fan_in": "sparse",
}  # fmt: skip


def read_layer(at: Fields, before: list[Layer], most_bits: int) -> Layer:
    """Read a layer.

    Args:
        at: its fields.
        before: the layers that stand before it, which may feed it.
        most_bits: width of a weight on the row's chip.

    Raises:
        RowError: a field is damaged, or does not apply to how the layer is connected.
    """
    at.keys(FIELDS)
    known = {"input", *(layer.name for layer in before)}
    name = at.text("name")
    if name in known:
        raise RowError(f"{at.where}: the name {name!r} is taken; layers need names of their own")
    sources = at.data.get("from")
    if (
        not isinstance(sources, list)
        or not sources
        or not all(isinstance(s, str) and s in known for s in sources)
    ):
        raise at.fail("from", f"a list of names among {', '.join(sorted(known))}")
    connect = at.choice("connect", get_args(Connect), "dense")
    for field, kind in ONLY_OF.items():
        if field in at.data and connect != kind:
            raise RowError(
                f"{at.where}: {field!r} is of a {kind} layer, and this one is {connect}: leave it "
                "out"
            )
    shape = at.sizes("shape", (1, 3))
    if connect == "conv" and len(shape) != 3:
        raise at.fail("shape", "[channels, height, width] for a convolution")
    return Layer(
        name=name,
        shape=shape,
        sources=tuple(sources),
        connect=connect,
        depth=at.count("depth", 1, most=1000),
        copies=at.count("copies", 1, most=1000),
        cores=at.count("cores", None) if "cores" in at.data else None,
        rate=at.number("rate", most=1, zero=True),
        kernel=at.pair("kernel", (3, 3)),
        stride=at.pair("stride", (1, 1)),
        padding=at.pair("padding", (0, 0), least=0),
        groups=at.count("groups", 1),
        pool=at.count("pool", 1),
        fan_in=at.count("fan_in", None) if connect == "sparse" else 0,
        weight_bits=at.count("weight_bits", 8, most=most_bits),
    )
