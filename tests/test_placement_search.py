"""Which split is taken: fewest cores, then fastest; spare cores, chips and the mesh."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from graphs import graphs
from hypothesis import given, settings
from placed_graphs import (
    LOIHI1,
    LOIHI2,
    chain,
    dense_graph,
    fewest,
    held,
)

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.cost.core_work import core_work
from spikeship.hw_models.cost.mesh import chip_and_tile
from spikeship.hw_models.cost.step_time import step_times
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.graph import (
    Conv,
    Dense,
    FixedGraph,
    Input,
    Neuron,
)
from spikeship.hw_models.lava.matrix import synapse_matrix
from spikeship.hw_models.placement.placement import Rules
from spikeship.hw_models.placement.splits import Split
from spikeship.hw_models.placer.place import place


def test_output_axons_ask_the_source_for_more_cores() -> None:
    graph = chain(4, 1024, 512)  # n2: 4 cores of 128 neurons
    assert fewest(graph, LOIHI1) == [Split(), Split(4)]
    few = replace(LOIHI1, output_axons=replace(LOIHI1.output_axons, value=2048))
    assert fewest(graph, few, Rules("single")) == [Split(2), Split(4)]
    assert place(graph, few, rules=Rules("single"), cores=6).layers[0].limit == "output axons"


def test_more_cores_take_more_chips_and_max_chips_refuses_them() -> None:
    graph = dense_graph(8192, 4096)  # 16 neurons a core
    placed = place(graph, LOIHI2)
    assert (placed.cores, placed.chips, placed.fits) == (256, 2, True)
    assert any("256 cores take 2 chips" in line for line in placed.assumptions)
    assert [core.chip for core in placed.layers[0].cores] == [0] * 128 + [1] * 128
    (misfit,) = place(graph, LOIHI2, max_chips=1).misfits
    assert (misfit.layer, misfit.limit, misfit.need, misfit.have) == ("", "cores", 256, 128)
    assert misfit.change == "allow 2 chips"
    assert place(graph, LOIHI2, max_chips=2).fits
    (misfit,) = place(graph, LOIHI2, cores=200).misfits
    assert (misfit.need, misfit.have, misfit.change) == (256, 200, "allow 256 cores")
    with pytest.raises(ValueError, match="max_chips: 0 is no number of them; give 1 or more"):
        place(graph, LOIHI2, max_chips=0)


def test_cores_and_chips_bound_together() -> None:
    graph = chain(64, 1000, 1000, 1000)
    placed = place(graph, LOIHI1, cores=300, max_chips=1)
    assert placed.fits and placed.chips == 1 and placed.cores <= 128
    assert place(graph, LOIHI1, cores=300).chips > 1
    graph = dense_graph(8192, 4096)  # 256 cores
    (misfit,) = place(graph, LOIHI2, cores=200, max_chips=1).misfits
    assert (misfit.need, misfit.have) == (256, 128)
    assert misfit.change == "allow 256 cores and 2 chips"


def test_memory_that_cannot_fit_is_split_until_no_core_takes_more_than_it_must() -> None:
    placed = place(dense_graph(131_073, 200), LOIHI1)
    (misfit,) = placed.misfits
    assert (misfit.layer, misfit.limit) == ("n", "synaptic memory")
    assert (misfit.need, misfit.have) == (131_073 * 8, 131_072 * 8)
    assert {core.synapse_bits for core in placed.layers[0].cores} == {misfit.need}


def test_layers_share_no_core() -> None:
    placed = place(chain(2, 2, 2), LOIHI1)
    assert [layer.name for layer in placed.layers] == ["n1", "n2"]
    assert {core.layer for core in placed.layers[0].cores} == {"n1"}
    assert {core.layer for core in placed.layers[1].cores} == {"n2"}


def test_the_fastest_of_equally_many_cores_is_taken() -> None:
    shape = (4, 32, 4)
    conv = Conv(
        name="conv", source="input", target="n", padding=(1, 1),
        weight=np.ones((4, 2, 3, 3), np.int16),
    )  # fmt: skip
    source = Input("input", (2, *shape[1:]), signed=False)
    graph = FixedGraph(source, (Neuron("n", shape, np.array(1), reset="zero"),), (conv,))
    limit = replace(LOIHI1.compartments_per_core, value=32)
    (chosen,) = fewest(graph, replace(LOIHI1, compartments_per_core=limit))
    assert chosen.cores == 16
    read = synapse_matrix(graph, conv).toarray().reshape(*shape, -1)
    cost = LOIHI1.time

    def seconds(groups: int, rows: int, columns: int) -> float:
        """Of the busiest core, with 0.1 messages a source neuron."""
        cut = (4 // groups, 32 // rows, 4 // columns)
        found = []
        for corner in np.ndindex(groups, rows, columns):
            block = read[tuple(slice(i * n, (i + 1) * n) for i, n in zip(corner, cut, strict=True))]
            sources = np.count_nonzero(block.any(axis=(0, 1, 2)))
            spikes = block.sum() * cost.synop_conv.value + sources * cost.message_in.value
            own = cost.neuron_update.value + 0.1 * cost.spike_out.value
            found.append(0.1 * spikes + 32 * own)
        return max(found)

    ways = [(g, 16 // g // c, c) for g in (1, 2, 4) for c in (1, 2, 4)]
    best = min(seconds(*way) for way in ways)
    assert seconds(*chosen.pieces) == pytest.approx(best, rel=1e-9)
    assert best < 0.99 * seconds(*min(ways))


def test_spare_cores_make_the_slowest_layer_faster() -> None:
    graph = chain(64, 1000, 1000, 4)
    before = fewest(graph, LOIHI1)
    assert [split.cores for split in before] == [1, 8, 1]
    after = place(graph, LOIHI1)
    assert after.chips == 1 and 10 < after.cores <= 128
    grown = held(after, "n2")
    assert grown.limit == "time" and len(grown.cores) > 8
    some = place(graph, LOIHI1, cores=12)
    assert 10 < some.cores <= 12
    traffic = Traffic.uniform(graph, 0.1, 10)

    def seconds(cores: int | None) -> float:
        placed = place(graph, LOIHI1, cores=cores, traffic=traffic)
        return step_times(core_work(graph, placed, LOIHI1, traffic, 10), LOIHI1).total

    assert seconds(None) < seconds(20) < seconds(12) < seconds(10)
    assert seconds(None) < seconds(10) / 3
    # nothing is gained where a barrier over more tiles costs more
    assert place(chain(20, 20, 20), LOIHI1).cores <= LOIHI1.cores_per_tile.value


def test_spare_cores_go_where_the_traffic_is() -> None:
    graph = chain(64, 512, 512, 512)
    by_name = {}
    for busy in ("n1", "n2"):
        rates = {"input": 1.0, "n1": 0.0, "n2": 0.0, "n3": 0.0, busy: 0.5}
        even = Traffic.uniform(graph, 1.0, 5).messages
        traffic = Traffic({name: sent * rates[name] for name, sent in even.items()})
        placed = place(graph, LOIHI1, cores=20, traffic=traffic)
        by_name[busy] = {layer.name: len(layer.cores) for layer in placed.layers}
    assert by_name["n1"]["n2"] > by_name["n2"]["n2"]
    assert by_name["n2"]["n3"] > by_name["n1"]["n3"]


def test_cores_fill_tiles_and_rows_run_to_and_fro() -> None:
    assert [chip_and_tile(i, LOIHI1) for i in (0, 3, 4, 31, 32, 63, 64, 127, 128)] == [
        (0, (0, 0)), (0, (0, 0)), (0, (1, 0)), (0, (7, 0)), (0, (7, 1)), (0, (0, 1)),
        (0, (0, 2)), (0, (0, 3)), (1, (0, 0)),
    ]  # fmt: skip


def test_sources_take_fewer_groups_where_more_would_multiply_axons() -> None:
    # unshared kernels leave 12 neurons a core: 512 channels in 171 groups would make 36 * 171
    # axons of a pooled 3 x 3 window, more than there are
    def conv(name: str, source: str, target: str, pool: int) -> Conv:
        return Conv(
            name=name, source=source, target=target, padding=(1, 1), pool=pool,
            weight=np.zeros((512, 512, 3, 3), np.int16),
        )  # fmt: skip

    shape = (512, 28, 28)
    graph = FixedGraph(
        Input("input", shape, signed=False),
        (Neuron("a", shape, np.array(1)), Neuron("b", (512, 14, 14), np.array(1))),
        (conv("c1", "input", "a", 1), conv("c2", "a", "b", 2)),
    )
    placed = place(graph, LOIHI1, rules=Rules(kernels="unshared"))
    assert placed.fits
    assert held(placed, "a").channel_groups <= 4096 // 36


def limited(**limits: int) -> ChipSpec:
    """Loihi 1 with other limits of a core."""
    changed: dict[str, Any] = {
        name: replace(getattr(LOIHI1, name), value=value) for name, value in limits.items()
    }
    return replace(LOIHI1, **changed)


def two_convs(middle: int, kernel: int) -> FixedGraph:
    """4 x 4 positions: 4 channels, ``middle`` ones, 4 again; the second kernel as said."""

    def conv(name: str, source: str, target: str, ends: tuple[int, int], side: int) -> Conv:
        return Conv(
            name=name, source=source, target=target, padding=(side // 2, side // 2),
            weight=np.zeros((ends[1], ends[0], side, side), np.int16),
        )  # fmt: skip

    return FixedGraph(
        Input("input", (4, 4, 4), signed=False),
        (
            Neuron("a", (middle, 4, 4), np.array(1), reset="zero"),
            Neuron("b", (4, 4, 4), np.array(1), reset="zero"),
        ),
        (conv("c1", "input", "a", (4, middle), 3), conv("c2", "a", "b", (middle, 4), kernel)),
    )


def test_targets_take_fewer_groups_where_more_would_multiply_axons() -> None:
    # b in 4 groups would make 16 axons of a neuron of a in the middle; by tiles it is 9
    chip = limited(compartments_per_core=4, synaptic_memory=3725, input_axons=52, output_axons=14)
    placed = place(two_convs(4, 3), chip, cores=32)
    assert placed.fits
    assert {core.output_axons for core in held(placed, "a").cores} <= set(range(15))
    assert held(placed, "b").channel_groups < 4


def test_layers_around_one_that_cannot_fit_keep_their_limits() -> None:
    # a neuron of b in the middle reads all 64 of a; a core of a sends to every core of b
    chip = limited(compartments_per_core=8, input_axons=40, output_axons=30)
    placed = place(two_convs(4, 5), chip, rules=Rules("single"))
    (misfit,) = placed.misfits
    assert (misfit.layer, misfit.limit, misfit.need) == ("b", "input axons", 64)
    assert max(core.output_axons for core in held(placed, "a").cores) <= 30
    assert max(core.input_axons for core in held(placed, "a").cores) <= 40


def test_a_long_chain_settles() -> None:
    # a neuron a core of the layer behind it: the last layer's four cores ask the one before for
    # four, and so on to the first
    chip = replace(
        LOIHI1,
        compartments_per_core=replace(LOIHI1.compartments_per_core, value=64),
        output_axons=replace(LOIHI1.output_axons, value=64),
    )
    placed = place(chain(2, *[64] * 14, 256), chip, rules=Rules("single"), cores=60)
    assert placed.fits
    assert [len(layer.cores) for layer in placed.layers] == [4] * 15


def test_a_loops_two_ends_are_one_split() -> None:
    loop = Dense(name="loop", source="n1", target="n1", weight=np.zeros((64, 64), np.int16))
    graph = chain(2, 64)
    ungated = FixedGraph(graph.input, graph.nodes, (*graph.synapses, loop), gated=False)
    few = replace(LOIHI2, input_axons=replace(LOIHI2.input_axons, value=6))
    (layer,) = place(ungated, few, cores=20).layers
    # the input's axon, and one from each of its own cores
    assert (len(layer.cores), {core.input_axons for core in layer.cores}) == (5, {6})
    assert {core.output_axons for core in layer.cores} == {5}
    # limits that exclude each other end in a misfit
    small = replace(few, compartments_per_core=replace(LOIHI2.compartments_per_core, value=4))
    (misfit,) = place(ungated, small).misfits
    assert (misfit.layer, misfit.limit, misfit.need, misfit.have) == ("n1", "input axons", 17, 6)


def test_pieces_differ_by_one_neuron_at_most() -> None:
    for n, pieces in ((10, 4), (1000, 7), (5, 5)):
        layer = held(place(chain(2, n), LOIHI1, cores=pieces), "n1")
        held_each = [core.neurons for core in layer.cores]
        assert sum(held_each) == n
        assert max(held_each) - min(held_each) <= 1


@settings(max_examples=25, deadline=None)
@given(graphs())
def test_the_same_graph_is_always_placed_alike(graph: FixedGraph) -> None:
    traffic = Traffic.uniform(graph, 0.2, 3)
    for chip in (LOIHI1, LOIHI2):
        assert place(graph, chip) == place(graph, chip)
        assert place(graph, chip, traffic=traffic) == place(graph, chip, traffic=traffic)
