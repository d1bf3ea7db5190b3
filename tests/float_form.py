"""The float form of a FixedGraph: real numbers that take every decision the integers take.

Once scales are fixed, float and integer spikes are the same if the float form decides
``V > (vth + 1/128) * scale``, subtracts ``vth * scale``, keeps bias and V0 at multiples of
``scale / 64``, truncates the leak there and clips at the rails. Each part matters; the tests hold
it equal to the reference.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from spikeship.hw_models import fixed
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Dense,
    FixedGraph,
    GradedNode,
    Identity,
    Neuron,
    Node,
    Readout,
    Sparse,
)

UNITS = 2**fixed.STATE_SHIFT
HALF_UNIT = 1 / 128


class FloatForm:
    """A FixedGraph in real numbers, delay-free.

    Args:
        graph: a gated graph with pure integration of the current (du = 4095) and no negative
            weight exponents, which is what ``quantize`` makes.
        dtype: torch.float64 or torch.float32.

    Raises:
        ValueError: a graph that has no such form, by name.
    """

    def __init__(self, graph: FixedGraph, dtype: torch.dtype = torch.float64) -> None:
        if not graph.gated:
            raise ValueError("float form: the graph is ungated; only gated graphs are delay-free")
        for node in graph.nodes:
            if isinstance(node, GradedNode):
                raise ValueError(f"float form: node {node.name!r} sends graded messages")
            if isinstance(node, Neuron) and node.refractory:
                raise ValueError(f"float form: neuron {node.name!r} has refractory steps")
            if isinstance(node, Neuron) and node.du != fixed.DECAY_UNITY - 1:
                raise ValueError(f"float form: neuron {node.name!r} keeps current (du {node.du})")
        for synapse in graph.synapses:
            if isinstance(synapse, Identity):
                raise ValueError(f"float form: synapse {synapse.name!r} is an identity")
            if synapse.weight_exp < 0:
                raise ValueError(f"float form: synapse {synapse.name!r} rounds its sum down")
        self.graph = graph
        self.dtype = dtype

    def run(self, messages: Tensor) -> dict[str, Tensor]:
        """Run messages (images, T, *input shape) through all nodes.

        Returns:
            By name, in local steps (images, T, *shape): spikes 0/1, or the readout's potential in
            real units.
        """
        sent = {self.graph.input.name: messages.to(self.dtype)}
        for node in self.graph.nodes:
            total: Tensor | None = None
            for synapse in self.graph.incoming(node.name):
                part = self._weighted(synapse, sent[synapse.source], node)
                total = part if total is None else total + part
            assert total is not None  # every node of a FixedGraph is fed
            if isinstance(node, Readout):
                bias = self._real(node.bias, node.scale)
                sent[node.name] = (total + bias).cumsum(1)
            else:
                assert isinstance(node, Neuron)  # others are refused above
                sent[node.name] = self._scan(node, total)
        del sent[self.graph.input.name]
        return sent

    def _real(self, units: object, scale: object) -> Tensor:
        return torch.as_tensor(np.asarray(units) * np.asarray(scale), dtype=self.dtype)

    def _weighted(self, synapse: AnySynapse, messages: Tensor, node: Node) -> Tensor:
        images, steps = messages.shape[:2]
        flat = messages.flatten(0, 1)
        if synapse.pool > 1:
            flat = functional.avg_pool2d(flat, synapse.pool, divisor_override=1)
        scale = np.asarray(node.scale).reshape(-1) * 2.0**synapse.weight_exp
        if isinstance(synapse, Conv | Dense):
            column = scale.reshape(-1, *[1] * (synapse.weight.ndim - 1))
            weight = self._real(synapse.weight, column)
        if isinstance(synapse, Conv):
            result = functional.conv2d(
                flat,
                weight,
                stride=synapse.stride,
                padding=synapse.padding,
                dilation=synapse.dilation,
                groups=synapse.groups,
            )
        elif isinstance(synapse, Dense):
            result = flat.flatten(1) @ weight.T
        else:
            assert isinstance(synapse, Sparse)  # others are refused when it is made
            rows = torch.as_tensor(np.repeat(np.arange(synapse.rows), np.diff(synapse.indptr)))
            parts = flat.flatten(1)[:, torch.as_tensor(np.array(synapse.indices))]
            units = torch.zeros(len(flat), synapse.rows, dtype=self.dtype)
            units = units.index_add(1, rows, parts * self._real(synapse.data, 1.0))
            real = self._real(node.scale, 2.0**synapse.weight_exp)
            result = units.reshape(-1, *node.shape) * real
        return result.reshape(images, steps, *node.shape)

    def _scan(self, node: Neuron, weighted: Tensor) -> Tensor:
        scale = self._real(1, node.scale)
        decides = self._real(node.vth + HALF_UNIT, node.scale)
        subtracts = self._real(node.vth, node.scale)
        bias = self._real(node.bias / UNITS, node.scale)
        rail = self._real((fixed.STATE_RAIL / UNITS), node.scale)
        leak = torch.as_tensor((fixed.DECAY_UNITY - node.dv) / fixed.DECAY_UNITY)
        v = self._real(node.v0 / UNITS, node.scale).expand(weighted[:, 0].shape)
        spikes = []
        for step in weighted.unbind(1):
            if node.dv.any():
                # in float64: 23 bits of potential times 12 of leak do not fit float32
                units = torch.round(UNITS * v.double() / scale.double())
                v = (torch.trunc(leak * units) * scale.double() / UNITS).to(self.dtype)
            v = torch.clamp(v + step + bias, -rail, rail)
            fired = v > decides
            after = v - subtracts if node.reset == "subtract" else torch.zeros_like(v)
            v = torch.where(fired, after, v)
            spikes.append(fired.to(self.dtype))
        return torch.stack(spikes, dim=1)
