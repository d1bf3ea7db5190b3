"""Lemaire et al. 2022: operations, addressing, and memory traffic of every layer.

With theta spikes into a layer in an inference, theta' out of it, T steps, N neurons and a fan-out f
of one spike (a convolution: C_out x kernel, padding included; a dense layer: N), in 32-bit words:

========================  ======================================================  ===========
spiking layer             count                                                   equation
========================  ======================================================  ===========
additions                 theta x f / strides + T N + theta'                      1.4, 2.4
MACs, of a leak           T N                                                     1.3, 2.3
addressing                theta x f additions; 2 theta MACs for a convolution     16, 17
reads of weights          theta x f, and T N of biases                            7, 8
reads of potentials       theta x f + T N                                         9, 10
writes of potentials      theta x f + T N                                         14, 15
reads, writes of FIFOs    theta, theta'                                           5, 13
========================  ======================================================  ===========

The ANN's same layer, with M = N x inputs of a neuron: M MACs and N additions (1.1, 2.1), M reads of
weights and N of biases (6), M reads of inputs for a convolution (3), N_in for a dense layer (4),
N writes (11), and additions for addresses. Equation 2.4 as printed holds a factor N_in too much;
the authors' tool leaves it out, and so does this.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod
from typing import NamedTuple

import numpy as np

from spikeship.hw_models.chips.spec import Level
from spikeship.hw_models.energy_models.incoming import Incoming, Layer, connections
from spikeship.hw_models.energy_models.lemaire_memory import CONSTANTS, PAPER, sram_j
from spikeship.hw_models.energy_models.model import LayerEnergy, ModelEnergy, assembled
from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.graph import (
    AnySynapse,
    Conv,
    Delta,
    FixedGraph,
    Identity,
    Input,
    Neuron,
    Node,
    Sparse,
)

FIFO_WORDS = 1000  # messages that a FIFO between layers holds, as in the paper's experiments
_ADD = CONSTANTS["addition"].value
_MAC = _ADD + CONSTANTS["multiplication"].value


class _Work(NamedTuple):
    """Arithmetic and accesses of one inference."""

    adds: float = 0.0
    macs: float = 0.0
    address_adds: float = 0.0
    address_macs: float = 0.0
    weights: float = 0.0
    biases: float = 0.0
    potentials: float = 0.0
    inputs: float = 0.0
    outputs: float = 0.0


class _Words(NamedTuple):
    """Sizes of the memories that the accesses go to, in 32-bit words."""

    weights: float = 0.0
    biases: float = 0.0
    potentials: float = 0.0
    inputs: float = 0.0
    outputs: float = 0.0


@dataclass(frozen=True)
class Lemaire:
    """Operations and memory traffic by the paper's formulas."""

    name: str = "lemaire"
    source: str = f"{PAPER}; its formulas as the authors' qualia-plugin-snn has them"
    counts: str = (
        "operations, addressing and accesses to 32-bit SRAMs of the layers' own sizes: weights "
        "and potentials for every tap of a spike (padding included), potentials twice more for "
        "every neuron in every step, messages through FIFOs of 1,000"
    )
    leaves_out: tuple[str, ...] = (
        "control, wires, static power; the SRAM curve is drawn through three published sizes",
        "pools: a spike before one counts as one message",
        "numbers for direct input: the paper has spikes only, so its layer is read as the ANN "
        "reads it, in every step",
    )

    def energy(self, graph: FixedGraph, counts: EventCounts) -> ModelEnergy:
        """Joules of one inference; raises CountError for counts of another graph."""

        def at(found: Sequence[Layer], level: Level) -> Sequence[LayerEnergy]:
            return [_row(graph, layer, counts.num_steps, level) for layer in found]

        return assembled(self, graph, counts, at, CONSTANTS, ranged=True)


def _row(graph: FixedGraph, layer: Layer, steps: int, level: Level) -> LayerEnergy:
    node = graph.node(layer.name)
    assert not isinstance(node, Input)  # layers are nodes that receive
    neurons = layer.rates["neurons"]
    words = _Words(
        biases=_bias_words(node), potentials=neurons, inputs=FIFO_WORDS, outputs=FIFO_WORDS
    )
    parts = [_joules(_of_neurons(node, layer, steps), words, level)]
    ann = _Work(adds=neurons, biases=neurons if words.biases else 0, outputs=neurons)
    ann_parts = [_joules(ann, words._replace(outputs=neurons), level)]
    for one in layer.incoming:
        held = words._replace(weights=_stored(one.synapse))
        image = held._replace(inputs=one.sources / one.synapse.pool**2)
        dense = _dense_pass(graph, one)
        ann_parts.append(_joules(dense, image, level))
        if one.graded:
            every_step = _Work(*(steps * count for count in dense))
            parts.append(_joules(every_step, image, level))
        else:
            parts.append(_joules(_of_spikes(one, neurons), held, level))
    components = {name: sum(part[name] for part in parts) for name in parts[0]}
    return LayerEnergy(layer.name, components, sum(sum(part.values()) for part in ann_parts))


def _of_neurons(node: Node, layer: Layer, steps: int) -> _Work:
    """What neurons do whatever arrives, and their spikes (the second terms of 1.4, 7, 9, 14)."""
    updates = steps * layer.rates["neurons"]
    leaks = isinstance(node, Neuron) and bool(node.dv.any())
    spikes = layer.rates["spikes"]
    return _Work(
        adds=updates + spikes,
        macs=updates if leaks else 0,
        biases=updates if _bias_words(node) else 0,
        potentials=2 * updates,
        outputs=spikes,
    )


def _of_spikes(one: Incoming, neurons: int) -> _Work:
    """What the spikes of one source cause (the first terms of 1.4, 7 to 10, 14 to 17)."""
    synapse, taps = one.synapse, one.messages
    if isinstance(synapse, Conv):
        out, _, *kernel = synapse.weight.shape
        share = out // synapse.groups
        met = share * prod(ceil(k / s) for k, s in zip(kernel, synapse.stride, strict=True))
        taps *= share * prod(kernel)
        adds, address_macs = one.messages * met, 2 * one.messages
    else:
        taps *= _row_fanout(synapse, neurons)
        adds, address_macs = taps, 0.0
    return _Work(
        adds=adds,
        address_adds=taps,
        address_macs=address_macs,
        weights=taps,
        potentials=2 * taps,
        inputs=one.messages,
    )


def _dense_pass(graph: FixedGraph, one: Incoming) -> _Work:
    """One pass of the same layer in an ANN, its neurons apart (1.1, 2.1, 3, 4, 6, 16, 17)."""
    macs = connections(graph, one.synapse)
    pooled = one.sources / one.synapse.pool**2
    if isinstance(one.synapse, Conv):
        out, _, *kernel = one.synapse.weight.shape
        outputs = prod(graph.node(one.synapse.target).shape)
        addresses = pooled + outputs + out * prod(kernel)
        return _Work(macs=macs, address_adds=addresses, weights=macs, inputs=macs)
    return _Work(macs=macs, address_adds=macs, weights=macs, inputs=pooled)


def _joules(work: _Work, words: _Words, level: Level) -> dict[str, float]:
    return {
        "operations": work.adds * _ADD + work.macs * _MAC,
        "addressing": work.address_adds * _ADD + work.address_macs * _MAC,
        "weights": work.weights * sram_j(words.weights, level)
        + work.biases * sram_j(words.biases, level),
        "potentials": work.potentials * sram_j(words.potentials, level),
        "messages": work.inputs * sram_j(words.inputs, level)
        + work.outputs * sram_j(words.outputs, level),
    }


def _row_fanout(synapse: AnySynapse, neurons: int) -> float:
    """Synapses that a message of a layer without kernel reaches, on the average."""
    if isinstance(synapse, Sparse):
        return synapse.data.size / synapse.columns
    return 1.0 if isinstance(synapse, Identity) else float(neurons)


def _stored(synapse: AnySynapse) -> int:
    if isinstance(synapse, Sparse):
        return int(synapse.data.size)
    return 0 if isinstance(synapse, Identity) else int(synapse.weight.size)


def _bias_words(node: Node) -> int:
    """Biases stored: one a channel, none where all are 0."""
    biased = not isinstance(node, Delta) and bool(np.any(node.bias))
    return int(node.shape[0]) if biased else 0
