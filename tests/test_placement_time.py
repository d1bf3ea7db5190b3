"""Spare cores by the time model: a placement is never slower than one on fewer cores."""

from typing import Any

import numpy as np
import pytest
from placed_graphs import LOIHI1, LOIHI2, chain, conv_graph, held

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.cost.core_work import core_work
from spikeship.hw_models.cost.step_time import step_times
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.layer import Splits, core_limits, layers
from spikeship.hw_models.placement.placement import Placement, Rules
from spikeship.hw_models.placer import fastest
from spikeship.hw_models.placer.place import place
from spikeship.hw_models.placer.settle import settle
from spikeship.hw_models.placer.spread import stages

CHAINS = ((64, 1000, 1000, 4), (390, 256, 256, 29), (256, 1024, 10))


def seconds(graph: FixedGraph, placed: Placement, chip: ChipSpec, traffic: Traffic) -> float:
    """Of all steps."""
    steps = len(traffic.messages["input"])
    return step_times(core_work(graph, placed, chip, traffic, steps), chip).total


def bursts(graph: FixedGraph, num_steps: int) -> Traffic:
    """Neurons and steps that differ: each layer's activity rises and falls."""
    rng = np.random.default_rng(3)
    messages = {}
    for name, even in Traffic.uniform(graph, 0.4, num_steps).messages.items():
        by_step = rng.random((len(even), *[1] * (even.ndim - 1)))
        messages[name] = (even * by_step * rng.random(even.shape[1:])).astype(np.float32)
    return Traffic(messages, recorded=True)


@pytest.mark.parametrize("chip", [LOIHI1, LOIHI2], ids=lambda chip: chip.name)
@pytest.mark.parametrize("sizes", CHAINS, ids=str)
def test_no_placement_on_fewer_cores_is_faster(sizes: tuple[int, ...], chip: ChipSpec) -> None:
    graph = chain(*sizes)
    for traffic in (Traffic.uniform(graph, 0.1, 3), bursts(graph, 3)):
        chosen = place(graph, chip, traffic=traffic)
        least = sum(len(layer.cores) for layer in place(graph, chip, cores=1).layers)
        times = [
            seconds(graph, place(graph, chip, cores=cores, traffic=traffic), chip, traffic)
            for cores in (least, 30, 81, 107)
        ]
        assert seconds(graph, chosen, chip, traffic) <= min(times)
        assert sorted(times, reverse=True) == times


def test_links_end_the_spreading() -> None:
    # every core of n2 receives from every one of n1: on all 128 cores the links are the slowest
    graph = chain(64, 1000, 1000, 4)
    traffic = Traffic.uniform(graph, 0.3, 10)
    chosen = place(graph, LOIHI1, traffic=traffic)
    work = core_work(graph, chosen, LOIHI1, traffic, 10)
    times = step_times(work, LOIHI1)
    assert 10 < chosen.cores < 100
    spread = _stages(graph, LOIHI1, traffic)
    assert max(stage[0] for stage in spread) > chosen.cores
    assert times.total == min(stage[1] for stage in spread)
    assert min(stage[0] for stage in spread if stage[1] == times.total) == chosen.cores


def test_the_stages_on_fewer_cores_are_among_those_on_more() -> None:
    graph = chain(64, 1000, 1000, 4)
    traffic = Traffic.uniform(graph, 0.1, 3)
    everything = _stages(graph, LOIHI1, traffic)
    for cores in (10, 47, 100, 127):
        some = _stages(graph, LOIHI1, traffic, cores)
        assert some == [stage for stage in everything if stage[0] <= cores]
    # n2 takes a dozen cores at once; n1 takes those that are too few for that
    between = [cores for cores, _ in everything if cores > 120]
    assert len(between) > 4


def _stages(
    graph: FixedGraph, chip: ChipSpec, traffic: Traffic, cores: int = 128
) -> list[tuple[int, float]]:
    """Cores and seconds of every stage."""
    rates = {name: np.full((1, 1, 1), sent.mean()) for name, sent in traffic.messages.items()}
    made = layers(graph, chip, Rules(), rates)
    splits = settle(made, core_limits(chip))
    timer = fastest.Timer(graph, chip, Rules(), made, traffic)
    return [
        (sum(split.cores for split in stage.splits.values()), timer.seconds(stage.splits))
        for stage in stages(made, chip, splits, cores, timer.profile(splits))
    ]


def test_a_layer_that_cannot_be_faster_stops_no_other() -> None:
    # n1's one neuron reads 8,192 messages, in one step of three: the slowest in the mean step
    graph = chain(8192, 1, 2000)
    messages = {
        "input": np.ones((1, 8192), np.float32),
        "n1": np.ones((3, 1), np.float32),
        "n2": np.zeros((3, 2000), np.float32),
    }
    traffic = Traffic(messages, recorded=True)
    placed = place(graph, LOIHI2, traffic=traffic)
    assert len(held(placed, "n1").cores) == 1
    assert len(held(placed, "n2").cores) >= 8


def test_of_large_traffic_some_stages_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = chain(64, 1000, 1000, 4)
    traffic = Traffic.uniform(graph, 0.3, 10)
    whole = seconds(graph, place(graph, LOIHI1, traffic=traffic), LOIHI1, traffic)
    tried = []
    timed = fastest.Timer._timed

    def counted(self: fastest.Timer, splits: Splits) -> Any:
        tried.append(splits)
        return timed(self, splits)

    monkeypatch.setattr(fastest, "_MESSAGES", 1)
    monkeypatch.setattr(fastest.Timer, "_timed", counted)
    placed = place(graph, LOIHI1, traffic=traffic)
    assert 4 < len(tried) <= 1 + fastest._LEAST  # the profile too
    found = seconds(graph, placed, LOIHI1, traffic)
    few = seconds(graph, place(graph, LOIHI1, cores=10), LOIHI1, traffic)
    assert whole <= found < few


def test_traffic_of_another_graph_is_refused() -> None:
    graph = conv_graph(1, 1, 2)
    with pytest.raises(ValueError, match="traffic of node 'input'"):
        place(graph, LOIHI1, traffic=Traffic({"input": np.zeros((2, 3), np.float32)}))
    with pytest.raises(ValueError, match="traffic of node 'input'"):
        place(graph, LOIHI1, traffic=Traffic({}))
    short = Traffic({name: np.ones((2, 1, 2, 2), np.float32) for name in ("input", "n")})
    with pytest.raises(ValueError, match="traffic of node 'n': shape"):
        place(graph, LOIHI1, traffic=short)
