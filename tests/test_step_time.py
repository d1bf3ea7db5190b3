"""Time of each step: the busiest core or link, what decides it, and what splitting does to it."""

from dataclasses import replace

import numpy as np
import pytest
from graphs import cases
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from placements import Cuts, constant, costs, flat, halves, layer, on_one_core, placement

from spikeship.hw_models import chips
from spikeship.hw_models.cost.core_work import core_work
from spikeship.hw_models.cost.regions import Regions, axis_taps, segments
from spikeship.hw_models.cost.step_time import StepTimes, bottleneck, step_times
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.placement.placement import Placement

LOIHI1, LOIHI2 = chips.get("loihi1"), chips.get("loihi2")


def chain(hidden: int, classes: int = 2) -> FixedGraph:
    return FixedGraph(
        Input("input", (2,), signed=False),
        (Neuron("h", (hidden,), np.array(1)), Readout("out", (classes,))),
        (
            Dense(name="a", source="input", target="h", weight=np.ones((hidden, 2), np.int16)),
            Dense(name="b", source="h", target="out", weight=np.ones((classes, hidden), np.int16)),
        ),
    )


def test_a_link_can_be_the_slowest() -> None:
    """Two routers of two cores send east through the same link to the one reader."""
    graph, chip = chain(4), replace(LOIHI1, time=costs(hop_x=10, hop_y=7, spike_out=1))
    where = placement(
        replace(chip, barriers=((8, constant(3.0)),)),
        layer("h", flat(halves(4, 4)), [(0, (0, 0)), (0, (1, 0)), (0, (0, 0)), (0, (1, 0))]),
        layer("out", flat([(0, 2)]), [(0, (2, 1))]),
    )
    chip = replace(chip, barriers=((8, constant(3.0)),))
    traffic = Traffic.uniform(graph, 1.0, 2)
    work = core_work(graph, where, chip, traffic, 2)
    # chip steps 1 and 2: 4 messages from (1, 0) to (2, 0), of them 2 from (0, 0), then south
    assert sorted(load for load in work.links_x[:, 1] if load) == [2, 4]
    assert [load for load in work.links_y[:, 1] if load] == [4]
    times = step_times(work, chip)
    np.testing.assert_array_equal(times.link, [0, 40, 40, 0])
    np.testing.assert_array_equal(times.seconds, [3, 43, 43, 3])
    found = bottleneck(work, times)
    assert (found.limit, found.steps) == ("link", {"compute": 0, "link": 2, "barrier": 2})
    assert found.share == pytest.approx(86 / 92)
    slow_south = step_times(work, replace(chip, time=costs(hop_x=1, hop_y=7)))
    np.testing.assert_array_equal(slow_south.link, [0, 28, 28, 0])


def test_messages_take_x_before_y_and_each_way_has_its_own_link() -> None:
    graph = chain(2)

    def loads(start: tuple[int, int], end: tuple[int, int]) -> tuple[list[int], list[int]]:
        where = placement(
            LOIHI1,
            layer("h", flat(halves(2, 2)), [(0, start), (0, end)]),
            layer("out", flat(halves(2, 2)), [(0, end), (0, start)]),
        )
        work = core_work(graph, where, LOIHI1, Traffic.uniform(graph, 1.0, 1), 1)
        x, y = (links[:, 1] for links in (work.links_x, work.links_y))
        return [int(n) for n in x[x > 0]], [int(n) for n in y[y > 0]]

    # one there and one back: x first both ways, so no link is shared
    assert loads((0, 0), (2, 1)) == ([1, 1, 1, 1], [1, 1])
    assert loads((1, 1), (1, 1)) == ([], [])
    assert loads((0, 2), (0, 0)) == ([], [1, 1, 1, 1])


def test_the_busiest_core_is_named() -> None:
    graph = chain(4)
    chip = replace(LOIHI1, time=costs(neuron_update=1), barriers=((8, constant(0.0)),))
    cuts = flat([(0, 1), (1, 4)])
    where = placement(
        chip, layer("h", cuts, [(0, (0, 0))], 2), layer("out", flat([(0, 2)]), [(0, (0, 0))])
    )
    work = core_work(graph, where, chip, Traffic.uniform(graph, 0.0, 3), 3)
    found = bottleneck(work, step_times(work, chip))
    assert (found.limit, found.index, found.core.channels) == ("compute", 1, (1, 4))
    # chip steps 1 to 3; the readout alone works in step 4
    assert found.layer_steps["h"] >= 3 and found.layer_steps["out"] == 1
    assert sum(found.layer_steps.values()) == sum(found.steps.values()) == 5
    # one long step weighs more than many short ones
    compute = np.zeros((3, 5))
    compute[0, :4], compute[2, 4] = 1, 9
    rare = bottleneck(work, StepTimes(compute, np.zeros(5), 0.0))
    assert (rare.index, rare.layer_steps) == (2, {"h": 4, "out": 1})


def test_pipelined_images_overlap_the_drain() -> None:
    graph, steps = chain(3), 4
    work = core_work(
        graph, on_one_core(graph, LOIHI2), LOIHI2, Traffic.uniform(graph, 0.5, steps), steps
    )
    folded = work.pipelined(steps)
    assert folded.updates.shape == (2, steps)
    np.testing.assert_array_equal(folded.updates, [[3] * steps, [2] * steps])
    for name in ("synops", "spikes", "messages_out", "messages_in"):
        total = getattr(work, name).sum(axis=1)
        np.testing.assert_array_equal(getattr(folded, name).sum(axis=1), total)
    # 6 chip steps: the last two meet the next image's first two
    always = replace(work, updates=np.ones_like(work.updates)).pipelined(steps)
    np.testing.assert_array_equal(always.updates, [[2, 2, 1, 1]] * 2)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_more_cores_never_make_a_layer_slower(data: st.DataObject) -> None:
    """Cutting a layer's regions once more: none of its cores takes longer in any step."""
    case = data.draw(cases())
    graph, steps = case.graph, case.messages.shape[1]
    assume(sum(int(np.prod(node.shape)) for node in graph.nodes) < 2000)
    traffic = Traffic.uniform(graph, 0.3, steps)
    coarse = on_one_core(graph, LOIHI2)
    node = data.draw(st.sampled_from(graph.nodes))
    shape = node.shape if len(node.shape) == 3 else (node.shape[0], 1, 1)
    edges: list[list[int]] = [[0, size] for size in shape]
    before = np.inf
    for _ in range(3):
        work = core_work(graph, _with(coarse, node.name, edges), LOIHI2, traffic, steps)
        own = step_times(work, LOIHI2).compute[work.of_layer(node.name)].max(axis=0)
        assert (own <= before * (1 + 1e-12)).all()
        before = own
        axis = data.draw(st.integers(0, 2))
        edges[axis] = sorted({*edges[axis], data.draw(st.integers(0, shape[axis]))})


def _with(where: Placement, name: str, edges: list[list[int]]) -> Placement:
    cuts: Cuts = tuple(list(zip(each, each[1:], strict=False)) for each in edges)  # type: ignore[assignment]
    old = next(one for one in where.layers if one.name == name)
    cut = layer(name, cuts, [(0, (0, 0))], old.compartments)
    return replace(where, layers=tuple(cut if one.name == name else one for one in where.layers))


def test_regions_cover_a_layer() -> None:
    regions = Regions(((0, 1), (1, 3)), ((0, 2),), ((0, 1), (1, 4)))
    assert (regions.shape, regions.count) == ((2, 1, 2), 4)
    np.testing.assert_array_equal(regions.sizes, [2, 6, 4, 12])
    np.testing.assert_array_equal(np.bincount(regions.of_neuron), regions.sizes)
    neurons = np.arange(3 * 2 * 4, dtype=np.float32).reshape(1, 3, 2, 4)
    expected = [neurons.ravel()[regions.of_neuron == i].sum() for i in range(4)]
    np.testing.assert_array_equal(regions.sums(neurons)[:, 0], expected)


def test_taps_of_an_edge_a_halo_and_a_pool() -> None:
    three, one = np.ones((2, 1, 3, 3), np.int16), np.ones((2, 1, 1, 1), np.int16)
    conv = Conv(name="c", source="a", target="b", weight=three, padding=(1, 1))
    tiles = ((0, 2), (2, 4))
    np.testing.assert_array_equal(axis_taps(conv, 0, 4, tiles), [[2, 2, 1, 0], [0, 1, 2, 2]])
    pooled = replace(conv, pool=2)
    np.testing.assert_array_equal(axis_taps(pooled, 1, 4, ((0, 2),)), [[2, 2, 2, 2]])
    strided = replace(conv, stride=(2, 2), padding=(0, 0), weight=one)
    apart = axis_taps(strided, 0, 4, ((0, 1), (1, 2)))
    np.testing.assert_array_equal(apart, [[1, 0, 0, 0], [0, 0, 1, 0]])


def test_groups_reach_their_own_outputs() -> None:
    conv = Conv(name="c", source="a", target="b", weight=np.ones((6, 2, 1, 1), np.int16), groups=3)

    def reached(outputs: tuple[int, int]) -> list[tuple[tuple[int, int], int]]:
        return [(one.channels, one.outputs) for one in segments(conv, outputs)]

    assert reached((0, 6)) == [((0, 6), 2)]
    assert reached((1, 6)) == [((0, 2), 1), ((2, 6), 2)]
    assert reached((1, 3)) == [((0, 4), 1)]
    assert reached((2, 4)) == [((2, 4), 2)]
