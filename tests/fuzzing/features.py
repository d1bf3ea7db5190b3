"""What a fuzzed case was made of and what happened in it, so that a run says what it covered."""

import hashlib
from collections.abc import Iterator
from dataclasses import fields

import numpy as np
from graphs import Case

from spikeship.hw_models import fixed
from spikeship.hw_models.graph import (
    Conv,
    Delta,
    Dense,
    FixedGraph,
    Identity,
    Neuron,
    Readout,
    SigmaDelta,
    Sparse,
)
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.reference.interpreter import StateOverflowError


def features(case: Case) -> set[str]:
    """Names of everything a case has, what its run by the reference met included."""
    graph, messages = case.graph, case.messages
    found = {"gated" if graph.gated else "ungated"}
    found |= {name for name, holds in _of_input(graph) if holds}
    for node in graph.nodes:
        found |= {name for name, holds in _of_node(node) if holds}
        if len(graph.incoming(node.name)) > 1:
            found.add("branches")
    order = [graph.input.name, *(node.name for node in graph.nodes)]
    for synapse in graph.synapses:
        found |= {name for name, holds in _of_synapse(synapse) if holds}
        if order.index(synapse.source) >= order.index(synapse.target):
            found.add("recurrent")
    if isinstance(graph.output, Readout):
        found.add("readout")
    try:
        recording = reference.run(graph, messages, strict=False)
    except StateOverflowError:
        return found | {"overflow raised"}
    if any(recording.wraps.values()):
        found |= {"overflow raised", "current wraps"}
    if any(low for low, _ in recording.rails.values()):
        found.add("lower rail met")
    if any(high for _, high in recording.rails.values()):
        found.add("upper rail met")
    neurons = [node.name for node in graph.nodes if not isinstance(node, Readout)]
    if any(recording.nodes[name].any() for name in neurons):
        found.add("spikes")
    if neurons and all(recording.nodes[name].any() for name in neurons):
        found.add("every neuron layer spikes")
    return found


def _of_input(graph: FixedGraph) -> Iterator[tuple[str, bool]]:
    source = graph.input
    yield "flat input", len(source.shape) == 1
    yield "graded input", source.max_message > 1
    yield "signed input", source.signed
    yield "1x1 image", source.shape[1:] == (1, 1)


def _of_node(node: object) -> Iterator[tuple[str, bool]]:
    yield "delta", isinstance(node, Delta)
    yield "sigma-delta", isinstance(node, SigmaDelta)
    if not isinstance(node, Neuron):
        return
    yield "leak", bool(np.any(node.dv))
    yield "kept current", node.du < fixed.DECAY_UNITY - 1
    yield "bias", bool(np.any(node.bias_mant))
    yield "bias exponent", bool(np.any(node.bias_exp))
    yield "V0", bool(np.any(node.v0))
    yield "V0 at a rail", bool(np.any(np.abs(node.v0) == fixed.STATE_RAIL))
    yield "hard reset", node.reset == "zero"
    yield "refractory", node.refractory > 0
    yield "threshold for each neuron", node.vth.size > 1
    yield "threshold 0", bool(np.any(node.vth == 0))
    yield "largest threshold", bool(np.any(node.vth == fixed.VTH_MAX))
    yield node.overflow, True


def _of_synapse(synapse: object) -> Iterator[tuple[str, bool]]:
    yield "identity", isinstance(synapse, Identity)
    if isinstance(synapse, Identity) or not isinstance(synapse, Conv | Dense | Sparse):
        return
    kind = type(synapse).__name__.lower()
    weight = synapse.data if isinstance(synapse, Sparse) else synapse.weight
    yield kind, True
    yield f"pool before {kind}", synapse.pool > 1
    yield "positive exponent", synapse.weight_exp > 0
    yield "negative exponent", synapse.weight_exp < 0
    yield "longer delay", synapse.delay > 2
    yield "fewer than 8 bits", synapse.num_weight_bits < 8
    yield "1 bit", synapse.num_weight_bits == 1
    yield "weight at the edge", bool(np.any(np.abs(weight) >= 254))
    if isinstance(synapse, Dense):
        yield "delays for each synapse", synapse.delays is not None and synapse.delays.size > 1
    if isinstance(synapse, Conv):
        yield "groups", synapse.groups > 1
        yield "stride", max(synapse.stride) > 1
        yield "padding", max(synapse.padding) > 0
        yield "dilation", max(synapse.dilation) > 1


def digest(case: Case) -> bytes:
    """Sixteen bytes that tell cases apart: graph and messages."""
    total = hashlib.blake2b(digest_size=16)
    graph = case.graph
    total.update(f"{graph.gated}{graph.num_steps}{case.messages.shape}".encode())
    total.update(case.messages.tobytes())
    for part in (graph.input, *graph.nodes, *graph.synapses):
        for field in fields(part):
            value = getattr(part, field.name)
            held = value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()
            total.update(field.name.encode() + held)
    return total.digest()
