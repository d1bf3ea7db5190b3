"""A NIR graph as a spiking network again: ours as it was, others' where they say enough."""

import heapq
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import nir
import numpy as np
import torch
from torch import Tensor, nn

from spikeship.hw_models.errors import SpikeshipError, naming
from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.ann.sides import sides
from spikeship.training.frontends.refusal import Names, plain_name
from spikeship.training.nir_io.checksum import CHECKSUM, checksum
from spikeship.training.nir_io.hdf5 import check_contained
from spikeship.training.nir_io.metadata import KEY, Decay, NetworkMetadata
from spikeship.training.nir_io.to_nir import taps_name
from spikeship.training.quantization.qat import in_integers
from spikeship.training.snn.encoding import InputCoding
from spikeship.training.snn.form import check_form, sample_shapes
from spikeship.training.snn.neurons import HeldDropout, Reset, Scale, SpikingNeuron
from spikeship.training.snn.spiking_network import SpikingNetwork


class FromNirError(SpikeshipError, ValueError):
    """A NIR graph or file that is no spiking network of the known form, in one line."""


def read_nir(path: Path) -> nir.NIRGraph:
    """Read a graph from a NIR file.

    Raises:
        FromNirError: no such file, or not a whole NIR file.
    """
    if not path.is_file():
        raise FromNirError(f"{path}: there is no such file; check the path")
    try:
        check_contained(path)
        # NIR's own check takes kernels for square and groups for one; from_nir makes its own
        graph = nir.read(path, type_check=False)
    except Exception as error:  # damage shows as anything from OSError to AssertionError
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise FromNirError(
            f"{path}: is no NIR file or a damaged one ({reason}); get it again"
        ) from error
    if not isinstance(graph, nir.NIRGraph):
        raise FromNirError(f"{path}: holds a {type(graph).__name__}, not a graph; get it again")
    if graph.metadata.get(CHECKSUM, found := checksum(graph)) != found:
        raise FromNirError(
            f"{path}: its contents do not match their checksum, it is damaged or was changed; get "
            f"it again, or take {CHECKSUM!r} out of its metadata if the change was meant"
        )
    return graph


def load_nir(path: Path) -> SpikingNetwork:
    """Read a spiking network from a NIR file that carries our metadata.

    Raises:
        SpikeshipError: as :func:`read_nir` and :func:`from_nir`, with the file's name.
    """
    graph = read_nir(path)
    with naming(path):
        return from_nir(graph)


def from_nir(
    graph: nir.NIRGraph,
    *,
    coding: InputCoding | None = None,
    num_steps: int | None = None,
    reset: Reset | None = None,
    dt: float | None = None,
    decay: Decay | None = None,
) -> SpikingNetwork:
    """Build the spiking network that a NIR graph describes; the graph stays as it is.

    A graph that carries our metadata needs nothing else; one fine-tuned for its integers is so
    again (``qat``). For any other, give what NIR leaves open; its first weights are taken to be
    for messages.

    Args:
        graph: one input, weighted layers and IF or LIF neurons in turn, and last a dense layer
            before the output; several edges into a neuron are summed.
        coding: how an input becomes messages.
        num_steps: T.
        reset: what a spike does to V.
        dt: length of a step in the graph's unit of time.
        decay: how tau gives the leak; only where there are LIF neurons.

    Returns:
        The network, in eval mode on the CPU.

    Raises:
        FromNirError: something open that is not given, something given that the graph says, or a
            node that has no place here.
        MetadataError: damaged metadata.
        FormError: nodes in an order that is no spiking network's.
        GridError: scales in the metadata that do not fit the nodes.
    """
    given = {"coding": coding, "num_steps": num_steps, "reset": reset, "dt": dt, "decay": decay}
    metadata = _metadata(graph, {key: value for key, value in given.items() if value is not None})
    reader = _Reader(graph, metadata)
    network = reader.network()
    check_form(network, metadata.timing)
    reader.check(network)
    snn = SpikingNetwork(
        network,
        metadata.coding,
        metadata.num_steps,
        ranges=metadata.ranges,
        data=metadata.data,
        provenance=metadata.provenance,
        timing=metadata.timing,
    ).eval()
    return snn if metadata.grid is None else in_integers(snn, metadata.grid)


def _metadata(graph: nir.NIRGraph, given: Mapping[str, Any]) -> NetworkMetadata:
    """The graph's own metadata, or what the caller gave where it has none."""
    text = graph.metadata.get(KEY)
    if text is not None:
        if given:
            raise FromNirError(f"the graph says {', '.join(given)} itself; do not give it")
        return NetworkMetadata.from_json(text)
    wanted = {"coding", "num_steps", "reset", "dt"}
    if any(isinstance(node, nir.LIF) for node in graph.nodes.values()):
        wanted.add("decay")
    if missing := sorted(wanted - set(given)):
        raise FromNirError(
            f"the graph has no metadata of ours and NIR leaves {', '.join(missing)} open; "
            "give what it was made for"
        )
    return NetworkMetadata(**given)


class _Reader:
    """Turns the nodes of one graph into layers."""

    def __init__(self, graph: nir.NIRGraph, metadata: NetworkMetadata) -> None:
        self._nodes: dict[str, nir.NIRNode] = graph.nodes
        self._metadata = metadata
        free = Names([INPUT])
        self._names = {
            node: unquote(node) if KEY in graph.metadata else free.free(plain_name(node, "node"))
            for node in self._nodes
        }
        self._sources: dict[str, list[str]] = {}
        for source, target in graph.edges:
            for end in (source, target):
                if end not in self._nodes:
                    raise FromNirError(
                        f"an edge names {end!r}, which is no node; get the file again"
                    )
            self._sources.setdefault(target, []).append(source)
        self._layers: list[Layer] = []
        self._weighted: set[str] = set()

    def network(self) -> Network:
        """Build all layers, in an order in which each reads only earlier ones."""
        entry, exit_ = self._only(nir.Input), self._only(nir.Output)
        shape = self._nodes[entry].input_type["input"]
        # what a node's readers read: its layer, or the dropout after it
        reads = {entry: self._dropout(INPUT)}
        result: list[str] = []
        taps = {taps_name(name) for name in self._metadata.relays}
        for node in self._order(entry):
            name = self._names[node]
            sources = [reads[source] for source in self._sources[node]]
            if name in taps and len(sources) == 1:
                reads[node] = sources[0]  # the pool behind it is one layer with it
                continue
            if node == exit_:
                result = sources
                continue
            module = self._module(node)
            if len(sources) > 1:
                if not isinstance(module, SpikingNeuron):
                    raise FromNirError(
                        f"node {name!r}: sums {len(sources)} inputs; only a neuron may"
                    )
                sources = [self._sum(name, sources)]
            self._layers.append(Layer(name, module, tuple(sources)))
            if isinstance(module, _WEIGHTED):
                self._weighted.add(name)
            reads[node] = self._dropout(name)
        if not self._layers or result != [self._layers[-1].name]:
            raise FromNirError(
                f"the output reads {', '.join(map(repr, result))} and not just the last layer; "
                "leave out what does not lead to it"
            )
        # float64 stays; whatever else a graph holds becomes float32
        kinds = {p.dtype for layer in self._layers for p in layer.module.parameters()}
        dtype = torch.float64 if kinds == {torch.float64} else torch.float32
        return Network(self._layers, tuple(map(int, shape))).to(dtype)

    def check(self, network: Network) -> None:
        """Check what only a whole network can tell: shapes of neurons, names in the metadata."""
        shapes = sample_shapes(network)
        names = {self._names[node]: content for node, content in self._nodes.items()}
        for name, node in names.items():
            if isinstance(node, nir.IF | nir.LIF):
                has = np.asarray(node.v_threshold).shape
                if has not in ((), shapes[name]):
                    raise FromNirError(
                        f"node {name!r}: has shape {has}, its input has {shapes[name]}; give the "
                        "arrays the population's shape"
                    )
        data = self._metadata
        for entry in ("v0", "ranges", "dropout"):
            if unknown := sorted(set(getattr(data, entry)) - set(names) - {INPUT}):
                raise FromNirError(
                    f"metadata: {entry} speaks of {unknown[0]!r}, which is no node; "
                    "write the graph again"
                )

    def _only(self, kind: type) -> str:
        found = [name for name, node in self._nodes.items() if isinstance(node, kind)]
        if len(found) != 1:
            raise FromNirError(
                f"the graph has {len(found)} {kind.__name__} nodes; a network here has one"
            )
        return found[0]

    def _order(self, entry: str) -> list[str]:
        """Topological order of all but the entry; of several, the first to be a target."""
        waiting = list(dict.fromkeys(target for target in self._sources))
        idle = sorted(set(self._nodes) - set(waiting) - {entry})
        if idle:
            raise FromNirError(f"nothing leads to node {idle[0]!r}; connect it or leave it out")
        place = {node: i for i, node in enumerate(waiting)}
        left = {node: len(set(self._sources[node])) for node in waiting}
        targets: dict[str, list[str]] = {}
        for node in waiting:
            for source in set(self._sources[node]):
                targets.setdefault(source, []).append(node)
        order: list[str] = []
        ready: list[tuple[int, str]] = []
        done = [entry]
        while done:
            for node in targets.get(done.pop(), ()):
                left[node] -= 1
                if left[node] == 0:
                    heapq.heappush(ready, (place[node], node))
            if ready:
                done.append(heapq.heappop(ready)[1])
                order.append(done[-1])
        if len(order) < len(waiting):
            # back from a node that waits, through others that wait, until one comes again
            seen: set[str] = set()
            node = next(node for node in waiting if left[node])
            while node not in seen:
                seen.add(node)
                node = next(source for source in self._sources[node] if left.get(source))
            raise FromNirError(
                f"node {node!r}: is part of a loop; only feed-forward graphs can be read"
            )
        return order

    def _dropout(self, name: str) -> str:
        """Put the dropout that follows a layer behind it; return what its readers read."""
        p = self._metadata.dropout.get(name)
        if p is None:
            return name
        self._layers.append(Layer(f"{name}.dropout", HeldDropout(p), (name,)))
        return self._layers[-1].name

    def _sum(self, neuron: str, sources: list[str]) -> str:
        branches: list[str] = []
        for source in sources:
            if source not in self._weighted:
                skip = Layer(f"{neuron}.skip{len(branches)}", Scale(1.0), (source,))
                self._layers.append(skip)
                source = skip.name
            branches.append(source)
        self._layers.append(Layer(f"{neuron}.sum", Add(), tuple(branches)))
        return self._layers[-1].name

    def _module(self, node: str) -> nn.Module:
        content, name = self._nodes[node], self._names[node]
        if name in self._metadata.relays:
            return self._max_pool(name, node)
        if isinstance(content, nir.IF | nir.LIF):
            return self._neuron(name, content)
        if type(content) not in _MODULES:
            raise FromNirError(
                f"node {name!r}: {type(content).__name__} has no place in a network here; it takes "
                f"{', '.join(kind.__name__ for kind in _MODULES)}, IF and LIF"
            )
        return _MODULES[type(content)](name, content)

    def _max_pool(self, name: str, node: str) -> nn.MaxPool2d:
        sources = self._sources[node]
        taps = self._nodes[sources[0]] if len(sources) == 1 else None
        if not isinstance(taps, nir.Conv2d) or not isinstance(self._nodes[node], nir.IF):
            raise FromNirError(
                f"node {name!r}: is no max pool, of which the metadata speaks; write the graph "
                "again"
            )
        weight = np.asarray(taps.weight)
        if np.any(weight != 2.0) or weight.shape[1] != 1 or np.any(taps.bias):
            raise FromNirError(
                f"node {name!r}: gathers other than a two a tap; write the graph again"
            )
        kernel, stride = sides(weight.shape[2:]), sides(taps.stride)
        return nn.MaxPool2d(kernel, stride, sides(taps.padding), sides(taps.dilation))

    def _neuron(self, name: str, node: Any) -> SpikingNeuron:
        dt = self._metadata.dt
        leak, gain = np.ones(()), dt * np.asarray(node.r, dtype=np.float64)
        if isinstance(node, nir.LIF):
            _require(not np.any(node.v_leak), name, "v_leak is not 0")
            tau = np.asarray(node.tau, dtype=np.float64)
            share = dt / tau
            leak = 1.0 - share if self._metadata.decay == "euler" else np.exp(-share)
            if self._metadata.decay == "exact":
                gain = (1.0 - leak) * np.asarray(node.r, dtype=np.float64)
            else:
                gain = gain / tau
            outside = leak[~((leak >= 0.0) & (leak <= 1.0))]
            _require(not outside.size, name, f"tau gives a leak of {outside[:1].sum():g} a step")
        _require(not np.any(node.v_reset), name, "v_reset is not 0")
        even = np.allclose(gain, gain.flat[0], rtol=1e-6, atol=0.0)
        _require(even and bool(np.all(gain > 0)), name, "r is not uniform")
        threshold = np.asarray(node.v_threshold)
        _require(bool(np.all(threshold > 0)), name, "v_threshold is not positive")
        start = np.array(self._metadata.v0.get(name, 0.0))
        try:
            np.broadcast_to(start, threshold.shape)
        except ValueError:
            raise FromNirError(
                f"node {name!r}: v0 has shape {start.shape}, its neurons {threshold.shape}; give "
                "one for all, or lists that broadcast to them"
            ) from None
        # V per unit of weighted input, 1 in our own graphs
        unit = float(gain.flat[0])
        return SpikingNeuron(
            _fewest(threshold if unit == 1.0 else threshold / unit),
            leak=_fewest(leak),
            v0=torch.as_tensor(start.astype(np.float64) / unit),
            reset=self._metadata.reset,
        )


def _require(holds: bool, name: str, reason: str) -> None:
    if not holds:
        raise FromNirError(
            f"node {name!r}: {reason}; neurons here have v_leak and v_reset 0, and r gives "
            "all of a population one gain"
        )


def _fewest(values: Any) -> Tensor:
    """The fewest values that say the same: one, one a channel, or all."""
    tensor = torch.from_numpy(np.array(values))
    if bool((tensor == tensor.reshape(-1)[0]).all()):
        return tensor.reshape(-1)[0].clone()
    if tensor.ndim == 3 and bool((tensor == tensor[:, :1, :1]).all()):
        return tensor[:, :1, :1].clone()
    return tensor


def _conv(name: str, node: Any) -> nn.Conv2d:
    weight = torch.from_numpy(np.array(node.weight))
    padding = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
    groups = int(node.groups)
    # NIR's convolutions always hold a bias; one of zeros alone is read as none
    conv = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        sides(weight.shape[2:]),
        stride=sides(node.stride),
        padding=padding if isinstance(padding, str) else sides(padding),
        dilation=sides(node.dilation),
        groups=groups,
        bias=bool(np.any(node.bias)),
    )
    _fill(conv, weight, node.bias)
    return conv


def _dense(name: str, node: Any) -> nn.Linear:
    weight = torch.from_numpy(np.array(node.weight))
    if weight.ndim != 2:
        raise FromNirError(f"node {name!r}: weight has shape {tuple(weight.shape)}; give (out, in)")
    bias = getattr(node, "bias", None)
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bool(np.any(bias)))
    _fill(linear, weight, bias)
    return linear


def _pool(name: str, node: Any) -> nn.AvgPool2d:
    return nn.AvgPool2d(sides(node.kernel_size), sides(node.stride), sides(node.padding))


def _flatten(name: str, node: Any) -> nn.Flatten:
    if node.start_dim != 0 or node.end_dim != -1:
        raise FromNirError(
            f"node {name!r}: flattens axes {node.start_dim}..{node.end_dim}; NIR's shapes have no "
            "batch axis, so give 0..-1"
        )
    return nn.Flatten()


def _scale(name: str, node: Any) -> Scale:
    return Scale(_fewest(node.scale))


def _fill(module: nn.Conv2d | nn.Linear, weight: Tensor, bias: Any) -> None:
    module.weight = nn.Parameter(weight)
    if module.bias is not None:
        module.bias = nn.Parameter(torch.from_numpy(np.array(bias)))


_WEIGHTED = (nn.Conv2d, nn.Linear, Scale)

_MODULES: dict[type, Callable[[str, Any], nn.Module]] = {
    nir.Conv2d: _conv,
    nir.Linear: _dense,
    nir.Affine: _dense,
    nir.AvgPool2d: _pool,
    nir.Flatten: _flatten,
    nir.Scale: _scale,
}
