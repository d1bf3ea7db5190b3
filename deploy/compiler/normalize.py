"""NIRGraph to populations and branches: pools and scales folded, delays made equal.

A NIR graph is a path of small nodes; the chip knows populations of neurons and the synapses
between them. Each path from one population to the next becomes one ``Branch``: an optional average
pool, an optional weight, and factors, all folded into one weight per message.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import unquote

import nir
import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.errors import DeployError
from spikeship.training.ann.sides import sides
from spikeship.training.nir_io.metadata import NetworkMetadata

Shape = tuple[int, ...]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Branch:
    """One path into a population.

    Attributes:
        name: the weighted layer's name (``source->target`` where an identity has none).
        source: population or input it starts from.
        kind: ``conv``, ``dense`` or ``identity`` (a weight for each neuron on its own).
        weight: real value of one message: (o, i, h, w), (out, in), or the pooled source's shape.
        pool: side of the sum-pool; the 1 / side**2 of the average is in the weight.
        delay: Lava steps, set so that all branches into a population of a pipelined network take
            equally long; in a staged one the least.
    """

    name: str
    source: str
    kind: Literal["conv", "dense", "identity"]
    weight: Floats
    pool: int = 1
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    delay: int = 1

    @property
    def least_delay(self) -> int:
        """Steps that Lava needs for it: one, and one more for a pool before a dense layer."""
        return 2 if self.kind == "dense" and self.pool > 1 else 1


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons, or the readout (``v_threshold`` None), with everything that feeds them.

    ``bias``, ``v_threshold``, ``leak`` (the share of V kept) and ``v0`` broadcast to ``shape``. A
    ``relay`` hands on the largest of what it reads.
    """

    name: str
    shape: Shape
    branches: tuple[Branch, ...]
    bias: Floats
    v_threshold: Floats | None
    leak: Floats
    v0: Floats
    relay: bool = False


@dataclass(frozen=True, eq=False)
class FloatNetwork:
    """The network as populations, in an order in which each is fed by earlier ones."""

    input_shape: Shape
    populations: tuple[Population, ...]
    metadata: NetworkMetadata


def normalize(graph: nir.NIRGraph) -> FloatNetwork:
    """Fold a NIR graph into populations and equalise the delays of their branches.

    The graph is not changed.

    Raises:
        DeployError: a node or a chain of nodes that the chip cannot be given, by name.
    """
    metadata = check(graph)
    walker = _Walker(graph, metadata)
    populations = [walker.population(name) for name in walker.order()]
    delayed = _equalised(populations) if metadata.timing == "pipelined" else _least(populations)
    return FloatNetwork(walker.input_shape, tuple(delayed), metadata)


def _least(populations: list[Population]) -> list[Population]:
    """Populations whose branches take no longer than they must."""
    return [
        replace(
            population,
            branches=tuple(
                replace(branch, delay=branch.least_delay) for branch in population.branches
            ),
        )
        for population in populations
    ]


def _equalised(populations: list[Population]) -> list[Population]:
    depths = {"input": 0}
    result = []
    for population in populations:
        depth = max(depths[b.source] + b.least_delay for b in population.branches)
        depths[population.name] = depth
        branches = tuple(
            replace(branch, delay=depth - depths[branch.source]) for branch in population.branches
        )
        result.append(replace(population, branches=branches))
    return result


class _Walker:
    """Finds the populations of a graph and the paths between them."""

    def __init__(self, graph: nir.NIRGraph, metadata: NetworkMetadata) -> None:
        # to_nir escapes what a file's node names may not hold; a layer keeps its own name here
        self.nodes: Mapping[str, Any] = {unquote(k): node for k, node in graph.nodes.items()}
        self.metadata = metadata
        self.sources: dict[str, list[str]] = {name: [] for name in self.nodes}
        for begin, end in graph.edges:
            for name in (unquote(begin), unquote(end)):
                if name not in self.nodes:
                    raise DeployError(f"edge {begin!r} -> {end!r}: there is no node {name!r}")
            if unquote(begin) in self.sources[unquote(end)]:
                raise DeployError(f"edge {begin!r} -> {end!r}: appears twice; remove one")
            self.sources[unquote(end)].append(unquote(begin))
        self.input = next(n for n, node in self.nodes.items() if type(node) is nir.Input)
        self.output = next(n for n, node in self.nodes.items() if type(node) is nir.Output)
        shape = next(iter(self.nodes[self.input].input_type.values()))
        self.input_shape: Shape = tuple(int(n) for n in np.asarray(shape).reshape(-1))
        self.shapes: dict[str, Shape] = {"input": self.input_shape}

    def order(self) -> list[str]:
        """Names of the populations (the output node stands for the readout), sources first."""
        done: list[str] = []
        busy: dict[str, bool] = {}  # whether a node that was met still waits for its sources
        waiting = [(self.output, False)]
        while waiting:
            name, sources_done = waiting.pop()
            if sources_done:
                busy[name] = False
                if self._is_population(name):
                    done.append(name)
            elif busy.get(name):
                raise DeployError(
                    f"node {name!r}: lies on a loop; only feed-forward networks are taken"
                )
            elif name not in busy:
                busy[name] = True
                waiting.append((name, True))
                waiting += [(source, False) for source in reversed(self.sources[name])]
        return done

    def _is_population(self, name: str) -> bool:
        return type(self.nodes[name]) in (nir.IF, nir.LIF, nir.Output)

    def population(self, name: str) -> Population:
        """Fold all paths into one population; sources must have been folded before."""
        if not self.sources[name]:
            raise DeployError(f"node {name!r}: nothing feeds it; connect it or remove it")
        folds = [self._fold(source, name) for source in self.sources[name]]
        branches = tuple(fold.branch() for fold in folds)
        shapes = {fold.shape for fold in folds}
        if len(shapes) != 1:
            raise DeployError(f"node {name!r}: its branches differ in shape: {sorted(shapes)}")
        shape = shapes.pop()
        bias: Floats = sum((fold.bias for fold in folds), np.zeros((1,) * len(shape)))
        node = self.nodes[name]
        if type(node) is nir.Output:
            label = branches[0].name
            self.shapes[label] = shape
            return Population(label, shape, branches, bias, None, np.ones(()), np.zeros(()))
        self.shapes[name] = shape
        gain = self._gain(node)
        if not np.allclose(node.r, gain, rtol=1e-5, atol=0.0):
            raise DeployError(
                f"node {name!r}: r must be {np.min(gain):g} (a weighted input of 1 raises V by 1), "
                f"got {np.min(node.r):g}..{np.max(node.r):g}; fold it into the weights"
            )
        if np.any(np.asarray(node.v_reset)) or np.any(np.asarray(getattr(node, "v_leak", 0.0))):
            raise DeployError(f"node {name!r}: v_reset and v_leak must be 0 for the chip")
        threshold = _fitted(node.v_threshold, shape, f"node {name!r}: v_threshold")
        v0 = _fitted(self.metadata.v0.get(name, 0.0), shape, f"node {name!r}: v0")
        leak = _fitted(self._leak(name), shape, f"node {name!r}: tau")
        relay = name in self.metadata.relays
        return Population(name, shape, branches, bias, threshold, leak, v0, relay)

    def _leak(self, name: str) -> Floats:
        node = self.nodes[name]
        if type(node) is nir.IF:
            return np.ones(())
        part = self.metadata.dt / np.asarray(node.tau, dtype=np.float64)
        return np.exp(-part) if self.metadata.decay == "exact" else 1.0 - part

    def _gain(self, node: Any) -> Floats:
        """The r at which a weighted input of 1 raises V by 1 in a step."""
        dt = self.metadata.dt
        if type(node) is nir.IF:
            return np.ones(()) / dt
        tau = np.asarray(node.tau, dtype=np.float64)
        return -1.0 / np.expm1(-dt / tau) if self.metadata.decay == "exact" else tau / dt

    def _fold(self, begin: str, end: str) -> "_Fold":
        """Walk back from ``end`` to the population the path starts from, and fold it."""
        path = [begin]
        while not self._is_population(path[0]) and path[0] != self.input:
            before = self.sources[path[0]]
            if len(before) != 1:
                raise DeployError(
                    f"node {path[0]!r}: has {len(before)} inputs; only neurons may add branches"
                )
            path.insert(0, before[0])
        start, *steps = path
        source = "input" if start == self.input else start
        fold = _Fold(source, self.shapes[source], end)
        for name in steps:
            fold.take(name, self.nodes[name])
        if fold.weighted is None and type(self.nodes[end]) is nir.Output:
            raise DeployError(
                f"node {end!r}: is fed by {source!r} without a weighted layer; the readout needs "
                "a Linear or Conv2d before it"
            )
        return fold


class _Fold:
    """Folds the nodes of one path, in order, into one branch."""

    def __init__(self, source: str, shape: Shape, end: str) -> None:
        self.source, self.shape, self.end = source, shape, end
        self.pool = 1
        self.factor: Floats = np.ones((1,) * len(shape))
        self.weighted: Branch | None = None
        self.bias: Floats = np.zeros(1)

    def take(self, name: str, node: Any) -> None:
        """Fold one node.

        Raises:
            DeployError: the node's kind is unknown, or it may not stand here.
        """
        kind = type(node)
        if kind not in _FOLDS:
            known = ", ".join(sorted(k.__name__ for k in (*_FOLDS, nir.IF, nir.LIF)))
            raise DeployError(f"node {name!r}: {kind.__name__} cannot run on the chip; use {known}")
        _FOLDS[kind](self, name, node)

    def take_pool(self, name: str, node: Any) -> None:
        """Fold a pool: its side, and an average's divisor into the factor."""
        kernel, stride = _numbers(node.kernel_size, name), _numbers(node.stride, name)
        side, padding = kernel[0], _numbers(node.padding, name)
        if kernel != stride or kernel[0] != kernel[1] or padding != (0, 0):
            raise DeployError(
                f"node {name!r}: a pool folds only with a square kernel equal to its stride and "
                f"no padding, got kernel {kernel}, stride {stride}, padding {padding}"
            )
        if self.weighted is not None or len(self.shape) != 3:
            raise DeployError(
                f"node {name!r}: a pool must come right after neurons (or the input), before the "
                "weighted layer; move it there"
            )
        channels, height, width = self.shape
        if height % side or width % side:
            raise DeployError(
                f"node {name!r}: a {side}x{side} pool does not divide {height}x{width}; pad the "
                "input so that it does"
            )
        if type(node) is nir.AvgPool2d:
            self.factor = self.factor / side**2
        self.pool *= side
        self.shape = (channels, height // side, width // side)

    def take_flatten(self, name: str, node: Any) -> None:
        """Flatten messages in torch's order."""
        if self.weighted is not None:
            raise DeployError(
                f"node {name!r}: flattens between a weighted layer and its neurons; put the "
                "neurons first"
            )
        whole = np.broadcast_to(self.factor, self.shape)
        self.factor = self.factor.reshape(1) if self.factor.size == 1 else whole.reshape(-1)
        self.shape = (int(np.prod(self.shape)),)

    def take_scale(self, name: str, node: Any) -> None:
        """Fold a factor into what comes after it, or into the weighted layer before it."""
        scale = _fitted(node.scale, self.shape, f"node {name!r}: scale")
        if self.weighted is None:
            self.factor = self.factor * scale
            return
        rows = self._per_channel(scale, name)
        weight = self.weighted.weight
        column = rows.reshape(-1, *[1] * (weight.ndim - 1))
        self.weighted = replace(self.weighted, weight=weight * column)
        self.bias = self.bias * rows.reshape(-1, *[1] * (len(self.shape) - 1))

    def take_conv(self, name: str, node: Any) -> None:
        """Fold a convolution with the factor of each of its input channels."""
        self._refuse_second(name)
        weight = np.asarray(node.weight, dtype=np.float64)
        groups, (out, per_group, *kernel) = int(node.groups), weight.shape
        if len(self.shape) != 3 or self.shape[0] != per_group * groups:
            raise DeployError(
                f"node {name!r}: expects (channel, height, width) messages of "
                f"{per_group * groups} channels, gets shape {self.shape}"
            )
        geometry = {
            key: _numbers(getattr(node, key), name) for key in ("stride", "padding", "dilation")
        }
        factor = self._per_channel(self.factor, name).reshape(groups, per_group)
        self.weighted = Branch(
            name=name,
            source=self.source,
            kind="conv",
            weight=weight * factor.repeat(out // groups, axis=0)[:, :, None, None],
            pool=self.pool,
            stride=geometry["stride"],
            padding=geometry["padding"],
            dilation=geometry["dilation"],
            groups=groups,
        )
        sides = (
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(self.shape[1:], kernel, *geometry.values(), strict=True)
        )
        self.shape = (out, *sides)
        bias = np.asarray(node.bias, dtype=np.float64).reshape(-1)
        self.bias = np.broadcast_to(bias, (out,)).reshape(out, 1, 1)

    def take_linear(self, name: str, node: Any) -> None:
        """Fold a Linear or Affine layer with the factor of each of its inputs."""
        self._refuse_second(name)
        weight = np.asarray(node.weight, dtype=np.float64)
        if len(self.shape) != 1 or weight.shape[1] != self.shape[0]:
            raise DeployError(
                f"node {name!r}: expects {weight.shape[1]} flat inputs, gets shape {self.shape}; "
                "flatten before it"
            )
        self.weighted = Branch(
            name=name,
            source=self.source,
            kind="dense",
            weight=weight * np.broadcast_to(self.factor, self.shape),
            pool=self.pool,
        )
        self.shape = (len(weight),)
        bias = node.bias if type(node) is nir.Affine else 0.0
        self.bias = np.broadcast_to(np.asarray(bias, dtype=np.float64), self.shape)

    def branch(self) -> Branch:
        """Return what was folded; an identity where no weighted layer was met."""
        if self.weighted is not None:
            return self.weighted
        return Branch(
            name=f"{self.source}->{self.end}",
            source=self.source,
            kind="identity",
            weight=np.array(np.broadcast_to(self.factor, self.shape)),
            pool=self.pool,
        )

    def _per_channel(self, values: Floats, name: str) -> Floats:
        table = np.broadcast_to(values, self.shape).reshape(self.shape[0], -1)
        if np.any(table != table[:, :1]):
            raise DeployError(
                f"node {name!r}: would scale pixels of one channel apart; give one factor a channel"
            )
        return np.array(table[:, 0])

    def _refuse_second(self, name: str) -> None:
        if self.weighted is not None:
            raise DeployError(
                f"node {name!r}: follows {self.weighted.name!r} with no neurons between them; "
                "merge the two layers or put an activation between"
            )


_FOLDS = {
    nir.AvgPool2d: _Fold.take_pool,
    nir.SumPool2d: _Fold.take_pool,
    nir.Flatten: _Fold.take_flatten,
    nir.Scale: _Fold.take_scale,
    nir.Conv2d: _Fold.take_conv,
    nir.Linear: _Fold.take_linear,
    nir.Affine: _Fold.take_linear,
}


def _numbers(value: Any, name: str) -> tuple[int, int]:
    if isinstance(value, str):
        raise DeployError(f"node {name!r}: padding {value!r} is not a number; write it out")
    return sides(value)


def _fitted(value: Any, shape: Shape, what: str) -> Floats:
    """Give an array as many axes as ``shape``; a vector is taken as one value a channel."""
    array = np.asarray(value, dtype=np.float64)
    if array.size == 1:
        return array.reshape((1,) * len(shape))
    if array.shape == (shape[0],):
        array = array.reshape(-1, *[1] * (len(shape) - 1))
    try:
        np.broadcast_to(array, shape)
    except ValueError:
        raise DeployError(f"{what} has shape {array.shape}, its neurons {shape}") from None
    for axis in range(array.ndim):  # NIR says every neuron's value; keep one where all are equal
        one = array.take([0], axis)
        if np.array_equal(np.broadcast_to(one, array.shape), array):
            array = one
    return array


def check(graph: nir.NIRGraph) -> NetworkMetadata:
    """Return the graph's metadata after checking that it answers every question.

    NIR says neither reset rule, input coding, time step nor number of steps; ours stand in the
    metadata that ``convert`` writes.

    Raises:
        DeployError: the metadata is missing or damaged, or the graph has not one input and output.
    """
    text: Any = (graph.metadata or {}).get("spikeship")
    if text is None:
        raise DeployError(
            "graph: its metadata says neither reset, encoding nor time steps; read it with "
            "spikeship.training.nir_io.from_nir, giving them, and write it again"
        )
    try:
        metadata = NetworkMetadata.from_json(text)
    except ValueError as error:
        raise DeployError(f"graph: its spikeship metadata is damaged: {error}") from error
    for kind in (nir.Input, nir.Output):
        found = [name for name, node in graph.nodes.items() if type(node) is kind]
        if len(found) != 1:
            raise DeployError(
                f"graph: has {len(found)} {kind.__name__} nodes ({', '.join(found) or 'none'}); "
                "a classifier has one"
            )
    return metadata
