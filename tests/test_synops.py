"""Synaptic operations in training are the ones that the integers count."""

import numpy as np
import pytest
import torch
from spiking import chain, counts_of, images, residual
from torch import Tensor, nn

from spikeship.deploy.compiler.quantize import quantize
from spikeship.hw_models.events.fanout import fanout
from spikeship.training.ann.network import INPUT, Layer, Network
from spikeship.training.conversion.convert import convert
from spikeship.training.finetuning.synops import synops
from spikeship.training.nir_io.to_nir import to_nir
from spikeship.training.snn.encoding import encode
from spikeship.training.snn.neurons import Scale
from spikeship.training.snn.spiking_network import SpikingNetwork

STEPS = 9


def grouped() -> Network:
    """Two pools in a row, then a grouped, dilated convolution that reaches not every pixel."""
    torch.manual_seed(5)
    layers = [
        Layer("stem", nn.Conv2d(2, 4, 3, padding=2, bias=False), (INPUT,)),
        Layer("relu", nn.ReLU(), ("stem",)),
        Layer("crop", nn.Conv2d(4, 4, 3, bias=False), ("relu",)),
        Layer("relu1", nn.ReLU(), ("crop",)),
        Layer("pool", nn.AvgPool2d(2), ("relu1",)),
        Layer("wide", nn.Conv2d(4, 6, (2, 1), (2, 3), dilation=(2, 1), groups=2), ("pool",)),
        Layer("relu2", nn.ReLU(), ("wide",)),
        Layer("flatten", nn.Flatten(), ("relu2",)),
        Layer("fc", nn.Linear(12, 5), ("flatten",)),
    ]
    return Network(layers, (2, 8, 8))


@torch.no_grad()
def sparse(ann: Network) -> SpikingNetwork:
    """Convert; a third of the weights become zero, no other so small that integers lose it."""
    snn = convert(ann, images(6), num_steps=STEPS)
    torch.manual_seed(1)
    for layer in snn.network.layers:
        if isinstance(layer.module, nn.Conv2d | nn.Linear):
            weight = layer.module.weight
            size = 0.5 + torch.rand_like(weight) / 2
            weight.copy_(size * weight.sign() * (torch.rand_like(weight) > 0.3))
        elif isinstance(layer.module, Scale):
            layer.module.factor.fill_(0.75)
    for neuron in snn.neurons.values():
        neuron.threshold.fill_(1.5)
    return snn


def unscaled(snn: SpikingNetwork) -> SpikingNetwork:
    """Leave out factors on skips, so that sums read neurons themselves."""
    scales = {
        layer.name: layer.inputs[0]
        for layer in snn.network.layers
        if isinstance(layer.module, Scale)
    }
    layers = [
        Layer(layer.name, layer.module, tuple(scales.get(name, name) for name in layer.inputs))
        for layer in snn.network.layers
        if layer.name not in scales
    ]
    assert scales
    return SpikingNetwork(Network(layers, snn.network.input_shape), snn.coding, snn.num_steps)


@torch.no_grad()
def spikes_of(snn: SpikingNetwork, messages: Tensor) -> dict[str, Tensor]:
    return {name: spikes for name, _, spikes in snn.walk(messages) if spikes is not None}


@pytest.mark.parametrize(
    "snn",
    [
        sparse(chain()),
        sparse(residual()),
        unscaled(sparse(residual())),
        sparse(residual(strided=True)),
        sparse(grouped()),
    ],
    ids=["chain", "identity skip", "bare skip", "strided skip", "grouped"],
)
def test_they_are_what_the_integers_count(snn: SpikingNetwork) -> None:
    graph = quantize(to_nir(snn))
    messages = encode(images(5, seed=3), snn.coding, STEPS)
    spikes = spikes_of(snn, messages)
    layers = counts_of(graph, spikes, messages)
    effective = connected = dense = 0
    for node, counts in zip(graph.nodes, layers, strict=True):
        fed_by = {synapse.source for synapse in graph.incoming(node.name)}
        if fed_by == {"input"}:
            continue
        assert "input" not in fed_by
        effective += int(counts.effective.sum())
        connected += int(counts.connected.sum())
        dense += counts.dense
    assert 0 < effective < connected < dense * 5
    events = {name: s.sum((0, 1)).requires_grad_() for name, s in spikes.items()}
    ours = synops(snn.network, events)
    assert ours.item() == effective
    assert synops(snn.network, events, connected=True).item() == connected
    all_firing = {name: torch.full_like(e, STEPS) for name, e in events.items()}
    assert synops(snn.network, all_firing, connected=True).item() == dense
    # a spike more costs what the integers' fan-out says
    ours.backward()
    for name, event in events.items():
        reached = sum(
            fanout(graph, synapse)[0] for synapse in graph.synapses if synapse.source == name
        )
        assert event.grad is not None
        np.testing.assert_array_equal(event.grad.numpy(), reached)


def test_a_corner_costs_less_and_low_precision_counts_alike() -> None:
    """By hand: a 3x3 convolution with padding reaches 9 taps inside and 4 at a corner."""
    layers = [
        Layer("stem", nn.Conv2d(1, 3, 1), (INPUT,)),
        Layer("relu", nn.ReLU(), ("stem",)),
        Layer("conv", nn.Conv2d(3, 700, 3, padding=1), ("relu",)),
        Layer("relu1", nn.ReLU(), ("conv",)),
        Layer("flatten", nn.Flatten(), ("relu1",)),
        Layer("fc", nn.Linear(700 * 16, 2), ("flatten",)),
    ]
    network = Network(layers, (1, 4, 4))
    events = {"relu": torch.zeros(3, 4, 4), "relu1": torch.zeros(700, 4, 4)}
    events["relu"][1, 2, 2] = 2
    events["relu"][0, 0, 3] = 1
    with torch.autocast("cpu", torch.bfloat16):
        assert synops(network, events).item() == 2 * 9 * 700 + 4 * 700
    with torch.no_grad():
        network["conv"].module.weight[:, 1] = 0.0  # type: ignore[index, operator]
    assert synops(network, events).item() == 4 * 700
