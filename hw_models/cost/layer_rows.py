"""A row for every node: its counts, its cores, its busiest core's slots, its energy."""

from collections.abc import Mapping, Sequence
from typing import Any

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.cost.core_energy import COMPONENTS, Component
from spikeship.hw_models.cost.core_work import CoreWork
from spikeship.hw_models.cost.regions import Steps
from spikeship.hw_models.events.counts import LayerRates, Rates
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement import demand
from spikeship.hw_models.placement.placement import Placement


def layer_rows(
    graph: FixedGraph,
    chip: ChipSpec,
    rates: Rates,
    placement: Placement,
    work: CoreWork,
    energies: Mapping[Component, Steps],
) -> tuple[dict[str, Any], ...]:
    """JSON values of every node, in the graph's order.

    ``synops_injected`` are those of its connected operations that no core does: the host computes
    their sums and injects them.
    """
    rows = []
    for rate, placed in zip(rates["layers"], placement.layers, strict=True):
        own = work.of_layer(placed.name)
        slots = work.slots[own].max(axis=0)
        components = {name: float(energies[name][own].sum()) for name in COMPONENTS}
        rows.append(
            {
                "name": rate["name"],
                "neurons": rate["neurons"],
                "cores": len(placed.cores),
                "split": [placed.channel_groups, placed.row_tiles, placed.column_tiles],
                "limit": placed.limit,
                "spikes": rate["spikes"],
                "synops_effective": rate["synops_effective"],
                "synops_connected": rate["synops_connected"],
                "synops_dense": rate["synops_dense"],
                "synops_injected": _injected(graph, chip, rate, float(work.synops[own].sum())),
                "neuron_updates": rate["neuron_updates"],
                "messages_sent": float(work.messages_out[own].sum()),
                "cycles_per_step": float(slots.mean()),
                "cycles_per_step_max": float(slots.max()),
                "energy_j": sum(components.values()),
                "components_j": components,
            }
        )
    return tuple(rows)


def injected_synops(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The whole network's injected operations.

    Effective ones are taken to be the same share of a layer's as connected ones.
    """
    shares = [row["synops_injected"] / max(row["synops_connected"], 1e-300) for row in rows]
    effective = (row["synops_effective"] * share for row, share in zip(rows, shares, strict=True))
    return {
        "effective": sum(effective),
        "connected": sum(row["synops_injected"] for row in rows),
    }


def _injected(graph: FixedGraph, chip: ChipSpec, rate: LayerRates, on_cores: float) -> float:
    """All of a layer's operations, or what its cores leave; spread traffic leaves it roughly."""
    held = [demand.injected(graph, synapse, chip) for synapse in graph.incoming(rate["name"])]
    if not any(held):
        return 0.0
    connected = rate["synops_connected"]
    return connected if all(held) else min(max(connected - on_cores, 0.0), connected)
