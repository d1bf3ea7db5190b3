"""What one more core buys: where, on which place, and what decides the time until then."""

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from placements import constant, costs, flat, halves, layer, network, on_one_core, placement

import cases
from spikeship.deploy.report.report import _beside
from spikeship.deploy.verbs.estimate import _bottleneck_line
from spikeship.hw_models import chips
from spikeship.hw_models.chips.spec import ChipSpec, Limit
from spikeship.hw_models.cost.busiest_link import busiest_link
from spikeship.hw_models.cost.core_work import core_work
from spikeship.hw_models.cost.step_time import step_times
from spikeship.hw_models.estimate import Estimate, estimate
from spikeship.hw_models.events.counts import EventCounts, count_events
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placement.placement import Placement
from spikeship.hw_models.placer import one_more_core as module
from spikeship.hw_models.placer.one_more_core import OneMore, one_more_core

STEPS = 3


def all_fire(graph: FixedGraph) -> EventCounts:
    hidden = graph.nodes[0].shape[0]
    spikes = np.zeros((1, STEPS + 2, hidden), np.int16)
    spikes[:, 1 : 1 + STEPS] = 1
    return count_events(graph, {"h": spikes}, np.ones((1, STEPS, 3), np.int16))


def small(**limits: int) -> ChipSpec:
    """Loihi 1 with other limits, simple costs and no barrier."""
    changed: dict[str, Any] = {name: Limit(n, "", "test", "assumed") for name, n in limits.items()}
    return replace(
        chips.get("loihi1"),
        time=costs(neuron_update=10, spike_out=5, hop_x=100),
        barriers=((8, constant(0.0)),),
        static_power=constant(2.0),
        host=None,
        **changed,
    )


def side_by_side(chip: ChipSpec) -> Placement:
    """The hidden layer on one router, the readout on the next."""
    return placement(
        chip,
        layer("h", flat([(0, 4)]), [(0, (0, 0))]),
        layer("out", flat([(0, 2)]), [(0, (1, 0))]),
    )


def found_on(chip: ChipSpec, where: Placement) -> Estimate:
    graph = network(4)
    return estimate(graph, all_fire(graph), chip, placement=where)


def test_a_link_that_decides_is_named_and_the_core_is_bought_where_it_helps() -> None:
    """Four messages a step over one link take 400, the hidden layer's core 60, the readout's 20."""
    chip = small()
    found = found_on(chip, side_by_side(chip))
    np.testing.assert_array_equal(found.times.seconds, [0, 400, 400, 400, 20])
    assert (found.bottleneck.limit, found.bottleneck.core.layer) == ("link", "h")
    assert found.link is not None and found.one_more is not None
    assert (found.link.link.start, found.link.link.end) == ((0, 0), (1, 0))
    assert found.link.messages == 4 * STEPS
    # only the last step has no message: there the readout's core is alone
    assert (found.one_more.layer, found.one_more.cores, found.one_more.seconds) == ("out", 1, 10)
    told = found.to_json()["bottleneck"]
    assert told["link"] == {
        "chip": 0, "from": [0, 0], "to": [1, 0], "messages": 12.0,
        "synapses": [{"name": "f2", "source": "h", "target": "out", "messages": 12.0}],
    }  # fmt: skip
    assert told["layer"] == "h" and told["one_more_layer"] == "out"
    words = _bottleneck_line(found)
    assert words.startswith("bottleneck: link, for ") and "'h'" not in words
    assert "from tile (0, 0) to tile (1, 0) of chip 0, with 12 messages an inference" in words
    assert words.endswith("('f2' 12); one more core for 'out' would save 10 s an inference")
    assert dict(_beside(found.to_json()))["what decides the time"] == "link, most of it of f2"


def test_no_link_is_named_where_cores_decide_every_step() -> None:
    chip = replace(small(), time=costs(neuron_update=10, hop_x=1))
    found = found_on(chip, side_by_side(chip))
    assert found.link is None and found.to_json()["bottleneck"]["link"] is None
    assert "the busiest core is one of 'h'" in _bottleneck_line(found)


def test_a_link_carries_the_synapses_that_were_counted_on_it() -> None:
    """Of a block and its skip over the same link, each one's share, in order."""
    graph = cases.graph("residual_identity")
    traffic = Traffic.uniform(graph, 0.5, STEPS)
    chip = replace(small(), time=costs(hop_x=1, hop_y=1))
    one = on_one_core(graph, chip)
    apart = tuple(
        replace(each, cores=tuple(replace(core, tile=(i, 0)) for core in each.cores))
        for i, each in enumerate(one.layers)
    )
    where = replace(one, layers=apart)
    work = core_work(graph, where, chip, traffic, STEPS)
    found = busiest_link(graph, where, chip, traffic, work, step_times(work, chip))
    assert found is not None and len(found.loads) > 1
    sent = [load.messages for load in found.loads]
    assert sent == sorted(sent, reverse=True) and min(sent) > 0
    assert sum(sent) == pytest.approx(found.messages)
    assert found.messages == pytest.approx(work.links_x.sum(axis=1).max())


def tried(monkeypatch: pytest.MonkeyPatch) -> list[Placement]:
    """Every placement that is tried from now on."""
    seen: list[Placement] = []

    def noted(graph: FixedGraph, where: Placement, *rest: Any, **others: Any) -> Any:
        seen.append(where)
        return core_work(graph, where, *rest, **others)

    monkeypatch.setattr(module, "core_work", noted)
    return seen


def test_added_cores_take_free_places(monkeypatch: pytest.MonkeyPatch) -> None:
    chip = small(cores_per_tile=2, mesh_width=2, cores_per_chip=8)
    seen = tried(monkeypatch)
    where = placement(
        chip,
        layer("h", flat(halves(4, 2)), [(0, (0, 0)), (0, (0, 0))]),
        layer("out", flat([(0, 2)]), [(0, (0, 1))]),
    )
    found_on(chip, where)
    assert seen
    for each in seen:
        cores = [core for one in each.layers for core in one.cores]
        assert max(Counter((core.chip, core.tile) for core in cores).values()) <= 2
        # the first tile is full, the next one is not
        assert sum(core.tile == (1, 0) for core in cores) == len(cores) - 3 > 0


def test_a_core_that_needs_another_chip_says_what_that_costs() -> None:
    chip = small(cores_per_tile=1, mesh_width=2, cores_per_chip=2)
    found = found_on(chip, side_by_side(chip))
    more = found.one_more
    assert more is not None and more.seconds > 0
    assert (more.chips, more.static_w) == (1, 2.0)
    assert more.static_j == 2.0 * (2 * (found.latency_s - more.seconds) - found.latency_s)
    told = found.to_json()["bottleneck"]
    assert (told["one_more_chips"], told["one_more_static_w"]) == (1, 2.0)
    assert told["one_more_static_j"] == more.static_j
    assert "and take another chip: 2 W more" in _bottleneck_line(found)
    roomy = small()
    there = found_on(roomy, side_by_side(roomy)).one_more
    assert there is not None and (there.chips, there.static_w) == (0, 0.0)
    assert there.static_j == -2.0 * there.seconds
    assert "chip:" not in _bottleneck_line(found_on(roomy, side_by_side(roomy)))


def test_axons_of_neighbours_keep_their_limits() -> None:
    """The readout's axons are one for each core that sends, the hidden layer's one a reader."""
    free = replace(small(), time=costs(neuron_update=10))

    def bought(**limits: int) -> OneMore | None:
        named = {name: Limit(n, "axons", "test", "assumed") for name, n in limits.items()}
        chip = replace(free, **named)  # type: ignore[arg-type]
        return found_on(chip, side_by_side(chip)).one_more

    usual = bought()
    assert usual is not None and usual.layer == "h"
    kept = bought(input_axons=1)
    assert kept is not None and kept.layer == "out"
    assert bought(input_axons=1, output_axons=1) is None
    # what is beyond its limit already forbids nothing, as long as it gets no worse
    where = placement(
        free,
        layer("h", flat(halves(4, 2)), [(0, (0, 0))]),
        layer("out", flat([(0, 2)]), [(0, (1, 0))]),
    )
    chip = replace(free, input_axons=Limit(1, "axons", "test", "assumed"))
    over = found_on(chip, where).one_more
    assert over is not None and over.layer == "out"


def test_the_layer_that_takes_longest_is_not_always_the_one_to_cut() -> None:
    """One step each: the hidden layer's five neurons a core become four, the readout's two one."""
    graph, chip = network(40), replace(small(), time=costs(neuron_update=10))
    edges = [0, 5, *range(8, 41, 4)]
    pieces = list(zip(edges, edges[1:], strict=False))
    where = placement(
        chip,
        layer("h", flat(pieces), [(0, (0, 0))], 2),
        layer("out", flat([(0, 2)]), [(0, (1, 0))], 4),
    )
    assert len(pieces) == 10
    traffic = Traffic.uniform(graph, 0.0, 1)
    work = core_work(graph, where, chip, traffic, 1)
    times = step_times(work, chip)
    np.testing.assert_array_equal(times.seconds, [0, 100, 80])
    best = one_more_core(graph, where, chip, traffic, 1, ["h", "out"], work=work, times=times)
    assert best is not None and (best.layer, best.seconds) == ("out", 40)


def test_the_best_of_all_is_the_best_of_each() -> None:
    """What is not tried, because it cannot save more, would not have saved more."""
    for name in ("conv", "pool_conv", "residual_strided", "wide"):
        graph = cases.graph(name)
        for rate, chip in ((0.05, chips.get("loihi1")), (0.6, chips.get("loihi2"))):
            traffic, where = Traffic.uniform(graph, rate, STEPS), on_one_core(graph, chip)
            work = core_work(graph, where, chip, traffic, STEPS)
            times = step_times(work, chip)
            names = [node.name for node in graph.nodes]

            def best(some: list[str], known: Any = (graph, where, chip, traffic)) -> float:
                found = one_more_core(*known, STEPS, some, work=work, times=times)  # noqa: B023
                return -np.inf if found is None else found.seconds / found.cores

            assert best(names) == max(best([one]) for one in names)
