"""An independent quantized ANN in float64: what a staged graph has to equal, count for count.

Written from the rule alone (levels of a clipped activation), with torch's functions and no
arithmetic of Spikeship's: no time, no shifts, no rounding of the quantizer.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Identity, Neuron, Readout, Sparse


@dataclass(frozen=True)
class Counts:
    """Counts of every population, (images, *shape), and the logits."""

    counts: Mapping[str, NDArray[np.int64]]
    logits: NDArray[np.int64]


def quantized_ann(graph: FixedGraph, messages: NDArray[Any]) -> Counts:
    """What the classifier with ``T + 1`` levels computes; messages (images, steps, *shape)."""
    levels = graph.num_steps
    assert levels is not None
    # direct input once; spikes as how many there are
    values = {graph.input.name: torch.tensor(messages.sum(axis=1), dtype=torch.float64)}
    for node in graph.nodes:
        feeds = [synapse for synapse in graph.synapses if synapse.target == node.name]
        if isinstance(node, Neuron) and node.relay:
            (feed,) = feeds
            values[node.name] = _largest(feed, values[feed.source], node.shape)
            continue
        total = sum(_weighted(feed, values[feed.source], node.shape) for feed in feeds)
        total = total + torch.tensor(np.broadcast_to(node.v0, node.shape) / _unit(node))
        if isinstance(node, Readout):
            logits = total
            break
        assert isinstance(node, Neuron)
        threshold = torch.tensor(np.broadcast_to(node.vth, node.shape).astype(np.float64))
        # a level for every threshold that is passed, not met
        values[node.name] = (torch.ceil(total / threshold) - 1).clamp(0, levels)
    counts = {
        name: value.numpy().astype(np.int64)
        for name, value in values.items()
        if name != graph.input.name
    }
    return Counts(counts, logits.numpy().astype(np.int64))


def _unit(node: Any) -> float:
    return 1.0 if isinstance(node, Readout) else 64.0


def _weighted(feed: Any, value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if feed.pool > 1:
        value = functional.avg_pool2d(value, feed.pool, divisor_override=1)
    if isinstance(feed, Conv):
        weight = torch.tensor(feed.weight.astype(np.float64))
        total = functional.conv2d(
            value, weight, None, feed.stride, feed.padding, feed.dilation, feed.groups
        )
    elif isinstance(feed, Identity):
        total = value
    else:
        total = value.flatten(1) @ torch.tensor(_matrix(feed)).T
    return (total * 2.0**feed.weight_exp).reshape(len(value), *shape)


def _matrix(feed: Dense | Sparse) -> NDArray[np.float64]:
    if isinstance(feed, Dense):
        return feed.weight.astype(np.float64)
    matrix = np.zeros((feed.rows, feed.columns))
    rows = np.repeat(np.arange(feed.rows), np.diff(feed.indptr))
    matrix[rows, feed.indices] = feed.data
    return matrix


def _largest(feed: Any, value: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
    if isinstance(feed, Conv):
        side = feed.weight.shape[2:]
        padded = functional.pad(value, (feed.padding[1],) * 2 + (feed.padding[0],) * 2)
        return functional.max_pool2d(padded, side, feed.stride)
    taps = torch.tensor(_matrix(feed) != 0)
    flat = value.flatten(1)[:, None, :].expand(-1, len(taps), -1)
    return torch.where(taps, flat, torch.zeros(())).amax(-1).reshape(len(value), *shape)
