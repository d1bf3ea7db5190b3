"""What an estimate says it takes for granted, and when."""

from dataclasses import replace

import numpy as np
import pytest
from placements import flat, halves, layer, network, on_one_core, placement

from spikeship.hw_models import chips
from spikeship.hw_models.estimate import estimate
from spikeship.hw_models.events.counts import count_events
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Neuron
from spikeship.hw_models.placement.placement import Placement


def said(where: Placement, hidden: int) -> str:
    graph = network(hidden)
    counts = count_events(
        graph, {"h": np.zeros((1, 5, hidden), np.int8)}, np.ones((1, 3, 3), np.int8)
    )
    chip = chips.get(where.chip)
    found = estimate(graph, counts, chip, placement=where, sensitivity=False)
    return "\n".join(found.assumptions)


def on_tiles(chip: str, tiles: int, of_chips: int = 1) -> Placement:
    """As many cores of the hidden layer, each on a tile of its own."""
    per_chip = tiles // of_chips
    places = [(i // per_chip, (i % per_chip % 8, i % per_chip // 8)) for i in range(tiles)]
    hidden = layer("h", flat(halves(tiles, tiles)), places)
    return placement(chips.get(chip), hidden, layer("out", flat([(0, 2)]), [places[0]]))


@pytest.mark.parametrize(
    ("chip", "tiles", "of_chips", "beyond", "across", "one"),
    [
        ("loihi1", 29, 1, False, False, False),
        ("loihi1", 30, 1, True, False, False),
        ("loihi1", 32, 2, True, True, False),
        ("loihi1", 4, 2, False, True, False),
        ("loihi2", 32, 1, False, False, True),
        ("loihi2", 32, 2, False, True, True),
    ],
)
def test_a_barrier_beyond_what_is_published_is_said(
    chip: str, tiles: int, of_chips: int, beyond: bool, across: bool, one: bool
) -> None:
    words = said(on_tiles(chip, tiles, of_chips), tiles)
    text = f"the largest published barrier is over 29 tiles; the {tiles} here"
    assert (text in words) == beyond
    over_all = f"across chips is not public: that of one chip is taken for all {of_chips}"
    assert (over_all in words) == across
    assert ("one barrier is taken however many tiles loihi2 uses" in words) == one
    assert ("the barrier grows with the tiles" in words) != one


def test_the_barriers_are_those_of_the_fit() -> None:
    rows = [(tiles, round(one.value * 1e6, 3)) for tiles, one in chips.get("loihi1").barriers]
    assert rows == [(1, 0.6), (2, 1.0), (4, 1.4), (29, 1.8)]
    assert all("29 tiles" in one.source for _, one in chips.get("loihi1").barriers)


def test_weight_bits_change_no_cost_and_that_is_said() -> None:
    graph, chip = network(40), chips.get("loihi1")
    where = on_one_core(graph, chip)
    traffic = Traffic.uniform(graph, 0.5, 3)
    spikes = {"h": np.zeros((1, 5, 40), np.int8)}
    counts = count_events(graph, spikes, np.ones((1, 3, 3), np.int8))
    found = []
    for bits in (8, 2):
        synapses = tuple(
            replace(one, weight=np.sign(one.weight) * 64, num_weight_bits=bits)  # type: ignore[union-attr, call-arg]
            for one in graph.synapses
        )
        narrow = replace(graph, synapses=synapses)
        found.append(estimate(narrow, counts, chip, traffic=traffic, placement=where))
    wide, thin = found
    assert (wide.energy, wide.latency_s) == (thin.energy, thin.latency_s)
    assert wide.cycles_per_step > thin.cycles_per_step
    assert any("costs the same at any weight width" in line for line in thin.assumptions)


def mixed() -> FixedGraph:
    """A direct input into a layer alone, and beside spikes into the next."""
    return FixedGraph(
        Input("input", (2,), "direct", max_message=9),
        (Neuron("n", (2,), vth=np.array(5)), Neuron("m", (4,), vth=np.array(5))),
        (
            Dense(name="a", source="input", target="n", weight=np.array([[2, 0], [2, 2]])),
            Dense(name="b", source="n", target="m", weight=np.full((4, 2), 2)),
            Dense(name="c", source="input", target="m", weight=np.full((4, 2), 2), delay=2),
        ),
        num_steps=2,
    )


def test_the_hosts_operations_stand_apart() -> None:
    graph = mixed()
    steps = graph.chip_steps(2)
    spikes = {name: np.zeros((1, steps, n), np.int8) for name, n in (("n", 2), ("m", 4))}
    first = graph.depths["n"]
    spikes["n"][0, first : first + 2, 0] = 1
    values = np.full((1, 2, 2), 7)
    counts = count_events(graph, spikes, values)
    traffic = Traffic(
        {"input": np.ones((2, 2), np.float32), **{k: np.float32(v[0]) for k, v in spikes.items()}},
        recorded=True,
    )
    found = estimate(graph, counts, chips.get("loihi1"), traffic=traffic)
    told = found.to_json()
    # two values a step: 2 x 2 synapses into n, 2 x 4 into m; a spike a step 4 into m
    by_name = {row["name"]: row for row in told["layers"]}
    assert by_name["n"]["synops_injected"] == by_name["n"]["synops_connected"] == 8
    assert by_name["n"]["components_j"]["synapse"] == 0
    assert (by_name["m"]["synops_connected"], by_name["m"]["synops_injected"]) == (24, 16)
    assert told["synops_injected"] == {"effective": 6 + 16, "connected": 8 + 16}
    assert told["synops"]["connected"] - told["synops_injected"]["connected"] == (
        found.work.synops.sum()
    )
    assert any("synops_injected" in line for line in found.assumptions)
    graded = estimate(graph, counts, chips.get("loihi2"), traffic=traffic)
    assert graded.to_json()["synops_injected"] == {"effective": 0, "connected": 0}
    assert not any("synops_injected" in line for line in graded.assumptions)
