"""Small ANNs that tests convert, and the digits classifier that they fine-tune."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from spikeship.hw_models.events.counts import LayerCounts, count_events
from spikeship.hw_models.graph import FixedGraph
from spikeship.training.ann.network import INPUT, Add, Layer, Network


def images(count: int = 24, seed: int = 0) -> Tensor:
    """Smooth signed images, (count, 2, 8, 8)."""
    noise = torch.randn(count, 2, 8, 8, generator=torch.Generator().manual_seed(seed))
    return nn.functional.avg_pool2d(noise, 3, 1, 1) * 3


def chain(bias: bool = False, seed: int = 0) -> Network:
    """conv - ReLU - dropout - pool - conv - ReLU - flatten - dense - ReLU - dropout - dense."""
    torch.manual_seed(seed)
    layers = [
        Layer("features.0", nn.Conv2d(2, 6, 3, padding=1, bias=bias), (INPUT,)),
        Layer("features.1", nn.ReLU(), ("features.0",)),
        Layer("features.2", nn.Dropout(0.25), ("features.1",)),
        Layer("features.3", nn.AvgPool2d(2), ("features.2",)),
        Layer("features.4", nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=bias), ("features.3",)),
        Layer("features.5", nn.ReLU(), ("features.4",)),
        Layer("flatten", nn.Flatten(), ("features.5",)),
        Layer("hidden", nn.Linear(32, 20, bias=bias), ("flatten",)),
        Layer("relu", nn.ReLU(), ("hidden",)),
        Layer("dropout", nn.Dropout(0.5), ("relu",)),
        Layer("classes", nn.Linear(20, 5, bias=bias), ("dropout",)),
    ]
    return lively(Network(layers, (2, 8, 8)))


def residual(strided: bool = False, seed: int = 0) -> Network:
    """Two convs with batch norm and a skip, identity or strided 1x1, into a sum; then dense."""
    torch.manual_seed(seed)
    stride = 2 if strided else 1
    layers = [
        Layer("stem", nn.Conv2d(2, 6, 3, padding=1, bias=False), (INPUT,)),
        Layer("stem_bn", nn.BatchNorm2d(6), ("stem",)),
        Layer("stem_relu", nn.ReLU(), ("stem_bn",)),
        Layer("conv1", nn.Conv2d(6, 6, 3, stride, 1, bias=False), ("stem_relu",)),
        Layer("bn1", nn.BatchNorm2d(6), ("conv1",)),
        Layer("relu1", nn.ReLU(), ("bn1",)),
        Layer("conv2", nn.Conv2d(6, 6, 3, padding=1, bias=False), ("relu1",)),
        Layer("bn2", nn.BatchNorm2d(6), ("conv2",)),
        *([Layer("down", nn.Conv2d(6, 6, 1, 2), ("stem_relu",))] if strided else []),
        Layer("sum", Add(), ("down" if strided else "stem_relu", "bn2")),
        Layer("relu2", nn.ReLU(), ("sum",)),
        Layer("pool", nn.AvgPool2d(4 // stride), ("relu2",)),
        Layer("flatten", nn.Flatten(), ("pool",)),
        Layer("fc", nn.Linear(24, 5), ("flatten",)),
    ]
    return lively(Network(layers, (2, 8, 8)))


@torch.no_grad()
def lively(network: Network) -> Network:
    """Weights large enough to matter, biases of both signs, batch norm that has seen something."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                module.bias.normal_(0.0, 0.2)
        elif isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0.0, 0.3)
            module.running_var.uniform_(0.5, 2.0)
            module.weight.uniform_(0.7, 1.4)
            module.bias.normal_(0.0, 0.2)
    return network.eval()


def counts_of(
    graph: FixedGraph, spikes: Mapping[str, Tensor], messages: Tensor
) -> tuple[LayerCounts, ...]:
    """Events of float spikes (time, images, ...) by node name, as those of a graph's nodes."""
    steps = messages.shape[1]
    recorded = {}
    for name, sent in spikes.items():
        local = sent.transpose(0, 1).numpy().astype(np.int8)
        depth = graph.depths[name]
        chip = np.zeros((len(local), graph.chip_steps(steps), *local.shape[2:]), np.int8)
        chip[:, depth : depth + steps] = local
        recorded[name] = chip
    return count_events(graph, recorded, messages.numpy()).layers
