"""NeuroBench's own metric, run on the torch layers of a network."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from neurobench.metrics.workload import SynapticOperations
from neurobench.models import TorchModel

from ledgers.events import Events
from ledgers.torch_layers import DTYPE, Network, SynapseLayers


@dataclass(frozen=True)
class Operations:
    """What the metric holds: whole numbers, over all images."""

    acs: int
    macs: int
    dense: int


@torch.no_grad()
def neurobench(
    found: Sequence[Events], *, fold: bool = True
) -> tuple[tuple[Operations, ...], Operations]:
    """Count with NeuroBench's hooks and ``SynapticOperations``.

    Args:
        found: every synapse object's events.
        fold: count spikes, with pools in the weights; else pooled messages, with
            ``nn.AvgPool2d`` before the layers, as such a network is usually written.

    Returns:
        Operations of each synapse object, and of the network in one call.
    """
    graph = found[0].graph
    network = Network(graph, fold=fold)
    model = TorchModel(network)
    model.register_hooks()
    model([_rows(one) for one in found])
    data = (torch.empty(len(found[0].messages)),)
    every = list(model.connection_hooks)
    whole = _count(model, data)
    by_synapse = []
    for layers in network.synapses:
        assert isinstance(layers, SynapseLayers)
        mine = set(layers.parts)
        model.connection_hooks = [hook for hook in every if hook.layer in mine]
        by_synapse.append(_count(model, data))
    model.connection_hooks = every
    model.cleanup_hooks()
    return tuple(by_synapse), whole


def _rows(one: Events) -> torch.Tensor:
    """Messages (images * T, *source shape)."""
    return torch.as_tensor(one.messages.reshape(one.steps, *one.messages.shape[2:]), dtype=DTYPE)


def _count(model: TorchModel, data: tuple[torch.Tensor]) -> Operations:
    metric = SynapticOperations()
    metric(model, None, data)
    return Operations(metric.AC, metric.MAC, metric.total_synops)
