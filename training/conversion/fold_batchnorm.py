"""Folding batch norm into the convolution before it."""

import copy

import torch
from torch import nn

from spikeship.hw_models.errors import SpikeshipError
from spikeship.training.ann.network import Layer, Network


class FoldError(SpikeshipError, ValueError):
    """Batch norm that cannot be folded, in one line: which, why, and what to do."""


def fold_batchnorm(network: Network) -> Network:
    """Give the same network, as it computes in eval mode, without batch norm.

    With mean m, variance v, factor g and offset b of each channel, ``k = g / sqrt(v + eps)``:
    the weights become ``W * k`` and the bias ``(bias - m) * k + b``. The convolution keeps its
    name. The given network stays as it is; the new one shares nothing with it.

    Raises:
        FoldError: batch norm that does not follow a Conv2d which only it reads; all by name.
    """
    by_name = {layer.name: layer for layer in network.layers}
    problems: list[str] = []
    folded: dict[str, str] = {}
    modules: dict[str, nn.Module] = {}
    for layer in network.layers:
        norm = layer.module
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        (source,) = layer.inputs
        conv = by_name[source].module if source in by_name else None
        others = [repr(reader.name) for reader in network.consumers(source) if reader is not layer]
        if norm.running_mean is None:
            problems.append(f"{layer.name!r} keeps no running statistics")
        elif not isinstance(conv, nn.Conv2d):
            problems.append(f"{layer.name!r} follows {source!r}, which is no convolution")
        elif others:
            problems.append(f"{layer.name!r} follows {source!r}, which {others[0]} reads too")
        else:
            folded[layer.name] = source
            modules[source] = _folded(conv, norm)
    if problems:
        raise FoldError(
            f"batch norm cannot be folded: {'; '.join(problems)}; put each, with running "
            "statistics, right behind a convolution of its own"
        )
    layers = [
        Layer(
            layer.name,
            modules.get(layer.name) or copy.deepcopy(layer.module),
            tuple(folded.get(source, source) for source in layer.inputs),
        )
        for layer in network.layers
        if layer.name not in folded
    ]
    return Network(layers, network.input_shape).train(network.training)


@torch.no_grad()
def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    assert norm.running_mean is not None and norm.running_var is not None
    # in float64, so that only the last rounding differs from the unfolded network
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    offset = torch.zeros_like(factor)
    if norm.affine:
        factor, offset = factor * norm.weight.double(), norm.bias.double()
    bias = offset if conv.bias is None else offset + conv.bias.double() * factor
    bias = bias - norm.running_mean.double() * factor
    result = copy.deepcopy(conv)
    weight = conv.weight.double() * factor.reshape(-1, 1, 1, 1)
    result.weight = nn.Parameter(weight.to(conv.weight))
    result.bias = nn.Parameter(bias.to(conv.weight))
    return result
