"""A spiking network as a NIR graph, the one form that leaves this layer, and as a file.

Nodes are called after the torch module paths. A sum is several edges into one neuron, dropout
stands in the metadata, and everything else that NIR leaves open does too (see metadata.py).
"""

import copy
from collections.abc import Mapping
from pathlib import Path

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeship.hw_models.atomic import replacing
from spikeship.hw_models.errors import SpikeshipError
from spikeship.training.ann.network import INPUT, Add, Layer, Network
from spikeship.training.ann.sides import sides
from spikeship.training.nir_io.checksum import CHECKSUM, checksum
from spikeship.training.nir_io.metadata import KEY, NetworkMetadata
from spikeship.training.quantization.integer_grid import IntegerGrid
from spikeship.training.quantization.qat import grid_of, in_real_numbers
from spikeship.training.snn.form import check_form, sample_shapes
from spikeship.training.snn.neurons import HeldDropout, Scale, SpikingNeuron
from spikeship.training.snn.spiking_network import SpikingNetwork

OUTPUT = "output"
DT = 1.0

Shape = tuple[int, ...]


class ToNirError(SpikeshipError, ValueError):
    """A spiking network that a NIR graph cannot say, in one line."""


def to_nir(snn: SpikingNetwork) -> nir.NIRGraph:
    """Write a spiking network as a NIR graph that shares nothing with it.

    A population without leak is ``IF`` with r = 1 / dt, one with leak ``LIF`` with
    tau = dt / (1 - leak) and r = tau / dt; dt is 1, arrays have the population's shape. Of a
    network fine-tuned for its integers (``qat``) their real values are written, and their
    scales and exponents in the metadata.

    Raises:
        FormError: a layer that a spiking network cannot have.
        ToNirError: neurons that differ in their reset or decide in the paper's frame, or dropout
            that only some of the readers of a layer see.
    """
    ranges, grid = snn.ranges, grid_of(snn)
    snn = in_real_numbers(snn)
    network = snn.network
    check_form(network, snn.timing)
    shapes = sample_shapes(network)
    nodes: dict[str, nir.NIRNode] = {
        INPUT: nir.Input(input_type={"input": np.array(network.input_shape)})
    }
    edges: list[tuple[str, str]] = []
    for layer in network.layers:
        if isinstance(layer.module, Add | HeldDropout):
            continue
        (source,) = layer.inputs
        entry = node_name(layer.name)
        if isinstance(layer.module, nn.MaxPool2d):
            entry = node_name(taps_name(layer.name))
            nodes[entry] = _taps(layer.module, shapes[source], shapes[layer.name])
            edges.append((entry, node_name(layer.name)))
        node = _node(layer.module, shapes[source], shapes[layer.name])
        nodes[node_name(layer.name)] = node
        edges += [(name, entry) for name in _nodes_behind(network, source)]
    nodes[OUTPUT] = nir.Output(output_type={"output": np.array(shapes[network.output])})
    edges.append((node_name(network.output), OUTPUT))
    metadata = {KEY: _metadata(snn, ranges, grid).to_json()}
    # NIR's own check takes kernels for square and groups for one; ours has been made
    return nir.NIRGraph(nodes=nodes, edges=edges, metadata=metadata, type_check=False)


def node_name(name: str) -> str:
    """Name of a layer's node: the layer's, with what a NIR file cannot hold percent-encoded."""
    if name in (OUTPUT, "."):
        return f"%{ord(name[0]):02X}{name[1:]}"
    return name.replace("%", "%25").replace("/", "%2F")


def taps_name(name: str) -> str:
    """Name of the node that gathers what a max pool takes the largest of."""
    return f"{name}.taps"


def write_nir(path: Path, graph: nir.NIRGraph) -> None:
    """Write a graph to a NIR file, whole or not at all, with a checksum in its metadata.

    Raises:
        OutputError: the file cannot be written.
    """
    graph = copy.copy(graph)
    graph.metadata = {**graph.metadata, CHECKSUM: checksum(graph)}
    with replacing(path) as temporary:
        nir.write(temporary, graph, compression_opts=1)


def _metadata(
    snn: SpikingNetwork,
    ranges: Mapping[str, tuple[float, float]],
    grid: IntegerGrid | None,
) -> NetworkMetadata:
    neurons = snn.neurons
    resets = {neuron.reset for neuron in neurons.values()} or {"subtract"}
    if len(resets) > 1:
        raise ToNirError("neurons differ in their reset; give all the same, subtract or zero")
    (reset,) = resets
    return NetworkMetadata(
        coding=snn.coding,
        num_steps=snn.num_steps,
        reset=reset,
        dt=DT,
        v0={name: neuron.v0.tolist() for name, neuron in neurons.items() if neuron.v0.any()},
        dropout=dict(
            _dropout(snn.network, layer)
            for layer in snn.network.layers
            if isinstance(layer.module, HeldDropout)
        ),
        ranges=ranges,
        data=snn.data,
        provenance=snn.provenance,
        grid=grid,
        timing=snn.timing,
        relays=tuple(
            layer.name for layer in snn.network.layers if isinstance(layer.module, nn.MaxPool2d)
        ),
    )


def _dropout(network: Network, layer: Layer) -> tuple[str, float]:
    assert isinstance(layer.module, HeldDropout)
    (source,) = layer.inputs
    after_dropout = source != INPUT and isinstance(network[source].module, HeldDropout)
    if after_dropout or len(network.consumers(source)) > 1:
        raise ToNirError(
            f"layer {layer.name!r}: drops what only it and not every reader of {source!r} sees; "
            "put one dropout where all read it"
        )
    return source, layer.module.p


def _nodes_behind(network: Network, name: str) -> list[str]:
    """Nodes whose results a layer's reader takes: the branches of a sum, what dropout follows."""
    if name == INPUT:
        return [INPUT]
    layer = network[name]
    if not isinstance(layer.module, Add | HeldDropout):
        return [node_name(name)]
    return [node for source in layer.inputs for node in _nodes_behind(network, source)]


def _node(module: nn.Module, entering: Shape, leaving: Shape) -> nir.NIRNode:
    match module:
        case nn.Conv2d():
            return _conv(module, entering, leaving)
        case nn.Linear() if module.bias is None:
            return nir.Linear(weight=_array(module.weight))
        case nn.Linear():
            return nir.Affine(weight=_array(module.weight), bias=_array(module.bias))
        case nn.AvgPool2d():
            node = nir.AvgPool2d(
                kernel_size=np.array(sides(module.kernel_size)),
                stride=np.array(sides(module.stride)),
                padding=np.array(sides(module.padding)),
            )
            node.input_type = {"input": np.array(entering)}
            node.output_type = {"output": np.array(leaving)}
            return node
        case nn.Flatten():
            # NIR's shapes have no batch axis
            return nir.Flatten(input_type={"input": np.array(entering)}, start_dim=0, end_dim=-1)
        case Scale():
            return nir.Scale(scale=_array(module.factor.expand(leaving)))
        case SpikingNeuron():
            return _neuron(module, leaving)
        case nn.MaxPool2d():
            # neurons that fire where any tap's spike arrives, and forget it
            one = np.ones(leaving, np.float32)
            return nir.IF(r=one / DT, v_threshold=one, v_reset=0 * one)
    raise AssertionError(f"check_form lets no {type(module).__name__} through")


def _conv(conv: nn.Conv2d, entering: Shape, leaving: Shape) -> nir.Conv2d:
    bias = torch.zeros(conv.out_channels).to(conv.weight) if conv.bias is None else conv.bias
    padding = conv.padding if isinstance(conv.padding, str) else tuple(conv.padding)
    node = nir.Conv2d(
        input_shape=entering[1:],
        weight=_array(conv.weight),
        stride=tuple(conv.stride),
        padding=padding,
        dilation=tuple(conv.dilation),
        groups=conv.groups,
        bias=_array(bias),
    )
    node.input_type = {"input": np.array(entering)}
    node.output_type = {"output": np.array(leaving)}
    return node


def _taps(pool: nn.MaxPool2d, entering: Shape, leaving: Shape) -> nir.Conv2d:
    """The windows of a max pool: a convolution of each channel by itself, a two a tap."""
    gather = nn.Conv2d(
        entering[0],
        entering[0],
        sides(pool.kernel_size),
        sides(pool.stride),
        sides(pool.padding),
        sides(pool.dilation),
        groups=entering[0],
        bias=False,
    )
    nn.init.constant_(gather.weight, 2.0)
    return _conv(gather, entering, leaving)


def _neuron(neuron: SpikingNeuron, shape: Shape) -> nir.NIRNode:
    threshold = _array(neuron.threshold.expand(shape))
    zeros = np.zeros_like(threshold)
    kept = neuron.leak.detach().cpu().double().expand(shape).numpy()
    if np.all(kept == 1.0):
        return nir.IF(r=zeros + 1 / DT, v_threshold=threshold, v_reset=zeros)
    # in float64, so that the leak comes back as it was; where all is kept it does as exactly 1
    tau = DT / np.maximum(1.0 - kept, 2.0**-60)
    return nir.LIF(tau=tau, r=tau / DT, v_leak=zeros, v_threshold=threshold, v_reset=zeros.copy())


def _array(tensor: Tensor) -> NDArray[np.floating]:
    return np.array(tensor.detach().cpu().numpy())
