"""Random FixedGraphs with messages, valid by construction: sizes first, then values that fit.

``cases()`` is the strategy. A plan says which nodes there are and what may lead where; delays are
set once all plans are known (equal along every path where the graph is gated), weights and
exponents before thresholds, so that thresholds lie where the sums can reach.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import graph_values as values
import numpy as np
from hypothesis import strategies as st

from spikeship.hw_models import fixed
from spikeship.hw_models.graph import (
    MAX_GRADED,
    AnySynapse,
    Conv,
    Dense,
    Encoding,
    FixedGraph,
    Identity,
    Input,
    Node,
    Sparse,
)
from spikeship.hw_models.reference import interpreter as reference

Array = values.Array
Shape = values.Shape
LARGEST = 8  # side of a node
WIDE = ((2049,), (5, 29, 29))  # wider than what the simulator's kernels take at a time
MOST_WEIGHTS = 2**20  # of one synapse
LAVA_STEPS = 40
LAVA_NEURONS = 600
WITHIN = fixed.INPUT_LIMIT // 4  # at most four synapses lead into a node
BEYOND = fixed.READOUT_RAIL // 8
LIMITS = (WITHIN,) * 8 + (2**18, 2**20, 2**23, BEYOND)  # of one synapse's sums
IN_READOUT = fixed.STATE_RAIL // 8


@dataclass(frozen=True, eq=False)
class Case:
    """A graph and the messages it is run on."""

    graph: FixedGraph
    messages: Array

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print it in a line: hypothesis warns of long texts, and a warning fails a test."""
        nodes = ", ".join(f"{node.name} {node.shape}" for node in self.graph.nodes)
        printer.text(f"Case({nodes}; messages {self.messages.shape})")


@dataclass(frozen=True)
class _Plan:
    """A node before its numbers are known."""

    name: str
    shape: Shape
    kind: str


@dataclass(frozen=True)
class _Link:
    """A synapse before its weights and its delay are known."""

    source: str
    target: str
    kind: str
    pool: int
    least: int  # delay
    geometry: dict[str, Any] = field(default_factory=dict)


@st.composite
def cases(draw: st.DrawFn, max_nodes: int = 4) -> Case:
    """Graphs of at most ``max_nodes`` nodes, and messages for them."""
    graph = draw(graphs(max_nodes))
    return Case(graph, values.messages(draw, graph.input))


@st.composite
def graphs(draw: st.DrawFn, max_nodes: int = 4) -> FixedGraph:
    """Graphs of at most ``max_nodes`` nodes behind their input."""
    gated = draw(st.booleans())
    source = _input(draw)
    kinds = draw(
        st.sampled_from((("neuron",), ("neuron",), ("sigma_delta", "delta"), ("neuron", "delta")))
    )
    nodes = [_Plan(source.name, source.shape, "input")]
    links: list[_Link] = []
    first = draw(st.sampled_from((None,) * 38 + WIDE))
    for i in range(draw(st.sampled_from((1, *2 * tuple(range(2, max_nodes + 1)))))):
        kind = draw(st.sampled_from(kinds))
        links += _grown(draw, nodes, f"n{i}", kind, None if i else first)
    last = nodes[-1]
    if draw(st.sampled_from((True, True, False))):
        nodes[-1] = _Plan(last.name, last.shape, "readout")
    if not gated:
        links += _loops(draw, nodes[1:])
    synapses = _synapses(draw, nodes, links, gated, source)
    graded = {plan.name for plan in nodes if "delta" in plan.kind}
    made = tuple(_node(draw, plan, synapses, graded) for plan in nodes[1:])
    return FixedGraph(source, made, tuple(s for s, _ in synapses), gated=gated)


def _input(draw: st.DrawFn) -> Input:
    top = draw(st.sampled_from((1, 1, 1, *values.GRADED)))
    encodings: tuple[Encoding, ...] = ("spikes", "poisson") if top == 1 else ("direct", "spikes")
    encoding = draw(st.sampled_from(encodings))
    return Input("input", _shape(draw), encoding, max_message=top, signed=draw(st.booleans()))


def _shape(draw: st.DrawFn) -> Shape:
    if draw(st.booleans()):
        return (draw(st.integers(1, 12)),)
    pool = draw(st.sampled_from((1, 1, 2, 3)))  # one of this side fits
    sides = st.integers(1, LARGEST // pool).map(lambda n: n * pool)
    return (draw(st.integers(1, 4)), draw(sides), draw(sides))


def _grown(
    draw: st.DrawFn, nodes: list[_Plan], name: str, kind: str, wanted: Shape | None
) -> list[_Link]:
    """Add a node behind the last one, fed by it and perhaps by earlier ones too."""
    link, shape = _link(draw, nodes[-1], name, wanted)
    links = [link]
    for _ in range(draw(st.sampled_from((0, 0, 1, 2)))):
        more = _link(draw, draw(st.sampled_from(nodes)), name, shape)[0]
        if any(link.least == 0 for link in links):  # Lava connects two ports once
            more = replace(more, least=max(1, more.least))
        links.append(more)
    nodes.append(_Plan(name, shape, kind))
    return links


def _loops(draw: st.DrawFn, nodes: list[_Plan]) -> list[_Link]:
    """Synapses that lead back, or from a node to itself."""
    spiking = [plan for plan in nodes if plan.kind != "readout"]
    links = []
    for _ in range(draw(st.sampled_from((0, 0, 1, 2))) if spiking else 0):
        source = draw(st.integers(0, len(spiking) - 1))
        target = spiking[draw(st.integers(0, source))]
        links.append(_link(draw, spiking[source], target.name, target.shape)[0])
    return links


def _link(draw: st.DrawFn, source: _Plan, target: str, shape: Shape | None) -> tuple[_Link, Shape]:
    """A kind of synapse that leads from a shape to a shape, or to any where it is None."""
    pool = draw(st.sampled_from(_pools(source.shape)))
    pooled = (source.shape[0], *(n // pool for n in source.shape[1:]))
    size = int(np.prod(pooled))
    small = shape is None or size * int(np.prod(shape)) <= MOST_WEIGHTS
    kinds = ["dense", "sparse"] if small else []
    axes: list[list[Shape]] = []
    if len(pooled) == 3 and (shape is None or len(shape) == 3):
        axes = [_axis(pooled[i], shape[i] if shape else None) for i in (1, 2)]
        kinds += ["conv"] * 3 if all(axes) else []
    if shape is None or size == int(np.prod(shape)):
        kinds += ["skip"] + ["identity"] * (pool == 1)
    kind = draw(st.sampled_from(kinds or ["dense"]))
    geometry: dict[str, Any] = {}
    if kind == "conv":
        geometry, shape = _geometry(draw, pooled, shape, axes)
    elif kind in ("skip", "identity"):
        shape = shape or pooled
    else:
        shape = shape or _shape(draw)
    least = 2 if kind == "dense" and pool > 1 else 1
    if kind == "identity" and source.kind == "input" and shape == source.shape:
        least = draw(st.integers(0, 1))
    return _Link(source.name, target, kind, pool, least, geometry), shape


def _pools(shape: Shape) -> tuple[int, ...]:
    if len(shape) == 1:
        return (1,)
    return (1, 1, *(k for k in (2, 3) if shape[1] % k == 0 and shape[2] % k == 0))


def _axis(size: int, wanted: int | None) -> list[Shape]:
    """Every (kernel, stride, padding, dilation) that turns a side of ``size`` to the wanted one."""
    found = []
    for kernel, stride, padding, dilation in np.ndindex(4, 3, 3, 2):
        kernel, stride, dilation = kernel + 1, stride + 1, dilation + 1
        span = size + 2 * padding - dilation * (kernel - 1) - 1
        if span >= 0 and wanted in (None, span // stride + 1):
            found.append((kernel, stride, padding, dilation))
    return found


def _geometry(
    draw: st.DrawFn, pooled: Shape, shape: Shape | None, axes: list[list[Shape]]
) -> tuple[dict[str, Any], Shape]:
    ways = [draw(st.sampled_from(axis)) for axis in axes]
    fits = [g for g in (1, 2, 3, 4) if pooled[0] % g == 0 and (shape is None or shape[0] % g == 0)]
    groups = draw(st.sampled_from(fits))
    out = shape[0] if shape else groups * draw(st.integers(1, 2))
    kernel, stride, padding, dilation = zip(*ways, strict=True)
    sides = (
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, (k, s, p, d) in zip(pooled[1:], ways, strict=True)
    )
    fields = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    weight = (out, pooled[0] // groups, *kernel)
    return {"weight": weight, "fields": fields}, (out, *sides)


def _synapses(
    draw: st.DrawFn, nodes: list[_Plan], links: list[_Link], gated: bool, source: Input
) -> list[tuple[AnySynapse, int]]:
    """Weights, exponents and delays; with each synapse the bound of what it lets arrive."""
    plans = {plan.name: plan for plan in nodes}
    message = {source.name: source.max_message}
    drawn: list[tuple[_Link, dict[str, Any], int]] = []
    for plan in nodes[1:]:
        incoming = [link for link in links if link.target == plan.name]
        limit = draw(st.sampled_from(LIMITS))
        if plan.kind != "neuron":
            limit = min(limit, IN_READOUT)
        if plan.kind == "readout":
            limit = IN_READOUT
        total = 0
        for link in incoming:
            largest = min(message.get(link.source, 1) * link.pool**2, MAX_GRADED)
            fields, bound = _fields(draw, link, plans, largest, limit)
            drawn.append((link, fields, bound))
            total += bound
        message[plan.name] = min(total, MAX_GRADED) if "delta" in plan.kind else 1
    delays = _delays(draw, nodes, [(link, fields) for link, fields, _ in drawn], gated)
    return [
        (_KINDS[link.kind](**fields, delay=delay), bound)
        for (link, fields, bound), delay in zip(drawn, delays, strict=True)
    ]


_KINDS: dict[str, Any] = {
    "dense": Dense,
    "conv": Conv,
    "sparse": Sparse,
    "skip": Sparse,
    "identity": Identity,
}


def _fields(
    draw: st.DrawFn, link: _Link, plans: dict[str, _Plan], message: int, limit: int
) -> tuple[dict[str, Any], int]:
    """Fields of one synapse but its delay; its sums stay within the limit for this message."""
    name = f"{link.source}->{link.target}"
    common: dict[str, Any] = {"name": name, "source": link.source, "target": link.target}
    if link.kind == "identity":
        return common, message
    shape = plans[link.source].shape
    columns = int(np.prod(shape)) // link.pool**2
    rows = int(np.prod(plans[link.target].shape))
    size = link.geometry["weight"] if link.kind == "conv" else (rows, columns)
    if link.kind == "skip":
        size = (columns, 1)
    weight, bits = values.weights(draw, size)
    exponent = draw(st.sampled_from((0, 0, 0, 0, 1, 3, 7, -1, -2, -4, -8)))
    if link.kind == "conv" and draw(st.booleans()):
        exponent = 0
    exponent, bound = _fit(weight, exponent, message, limit)
    weight, bits = values.held(weight, bits)
    common |= {"pool": link.pool, "weight_exp": exponent, "num_weight_bits": bits}
    if link.kind == "conv":
        return common | link.geometry["fields"] | {"weight": weight}, bound
    if link.kind == "dense":
        return common | {"weight": weight}, bound
    if link.kind == "skip":
        stored = np.eye(columns, dtype=bool)
        data = weight[:, 0]
    else:
        # zeros may be stored or not
        stored = (weight != 0) | (draw(values.seeds).random(weight.shape) < 0.2)
        data = weight[stored]
    matrix = {
        "data": data,
        "indices": np.nonzero(stored)[1],
        "indptr": np.concatenate([[0], np.cumsum(stored.sum(axis=1))]),
        "columns": columns,
    }
    return common | matrix, bound


def _fit(weight: Array, exponent: int, message: int, limit: int) -> tuple[int, int]:
    """Lower the exponent, then thin the weights in place, until sums stay within the limit."""

    def bound() -> int:
        reach = int(np.abs(weight.reshape(len(weight), -1)).sum(axis=1).max()) * message
        return int(-fixed.shift(np.array(-reach), exponent))

    while bound() > limit and exponent > -8:
        exponent -= 1
    keep = weight[0].size
    while bound() > limit:
        keep //= 2
        weight.reshape(len(weight), -1)[:, keep:] = 0
    return exponent, bound()


def _delays(
    draw: st.DrawFn,
    nodes: list[_Plan],
    links: list[tuple[_Link, dict[str, Any]]],
    gated: bool,
) -> list[int]:
    """A delay for each synapse; where the graph is gated, equal along every path into a node."""
    extra = st.sampled_from((0, 0, 0, 1, 3))
    least = [
        max(link.least, 2 if link.kind == "conv" and fields["weight_exp"] else 0)
        for link, fields in links
    ]
    if not gated:
        for link, fields in links:
            if link.kind == "dense" and draw(st.booleans()):
                fields["delays"] = _per_synapse(draw, *fields["weight"].shape)
        return [
            min(n + draw(extra), fixed.DELAY_MAX - int(fields.get("delays", np.zeros(1)).max()))
            for n, (_, fields) in zip(least, links, strict=True)
        ]
    depth = {nodes[0].name: 0}
    for plan in nodes[1:]:
        arrivals = [
            depth[link.source] + n
            for (link, _), n in zip(links, least, strict=True)
            if link.target == plan.name
        ]
        depth[plan.name] = max(arrivals) + draw(extra)
    delays = [depth[link.target] - depth[link.source] for link, _ in links]
    for i, (link, fields) in enumerate(links):
        if link.kind == "dense" and delays[i] > least[i] and draw(st.booleans()):
            fields["delays"] = np.full((1, 1), delays[i] - least[i])
            delays[i] = least[i]
    return delays


def _per_synapse(draw: st.DrawFn, rows: int, columns: int) -> Array:
    # few that differ: each is a product of its own
    some = draw(st.sampled_from(((0, 1), (0, 1, 2), (2, 5), (0, fixed.SYNAPSE_DELAY_MAX))))
    shape = draw(st.sampled_from(((1, 1), (rows, 1), (1, columns), (rows, columns))))
    return draw(values.seeds).choice(np.array(some), shape)


def _node(
    draw: st.DrawFn, plan: _Plan, synapses: list[tuple[AnySynapse, int]], graded: set[str]
) -> Node:
    if plan.kind == "readout":
        return values.readout(draw, plan.name, plan.shape)
    incoming = [(s, bound) for s, bound in synapses if s.target == plan.name]
    steps = [_grid(synapse) for synapse, _ in incoming]
    reach = values.Reach(
        bound=sum(bound for _, bound in incoming),
        step=min(steps),
        proved=not any(synapse.source in graded for synapse, _ in incoming),
    )
    return _NEURONS[plan.kind](draw, plan.name, plan.shape, reach)


_NEURONS: dict[str, Any] = {
    "neuron": values.neuron,
    "delta": values.delta,
    "sigma_delta": values.sigma_delta,
}


def _grid(synapse: AnySynapse) -> int:
    """Spacing of a synapse's sums."""
    if isinstance(synapse, Identity):
        return 1
    held = synapse.data if isinstance(synapse, Sparse) else synapse.weight
    step = fixed.weight_step(held, synapse.num_weight_bits)
    return max(1, int(fixed.shift(np.array(step), synapse.weight_exp)))


def for_lava() -> st.SearchStrategy[Case]:
    """Cases that real Lava runs in a second or two: few nodes, images and steps."""
    return cases(3).map(_trimmed).filter(_runs_to_the_end)


def _trimmed(case: Case) -> Case:
    # an ungated graph takes a fresh network for each image
    return Case(case.graph, case.messages[: 2 if case.graph.gated else 1])


def _runs_to_the_end(case: Case) -> bool:
    neurons = sum(int(np.prod(node.shape)) for node in case.graph.nodes)
    steps = case.graph.chip_steps(case.messages.shape[1])
    if steps > LAVA_STEPS or neurons > LAVA_NEURONS:
        return False
    try:
        reference.run(case.graph, case.messages, strict=False)
    except reference.StateOverflowError:
        return False
    return True
