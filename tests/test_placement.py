"""What a core holds of a layer: neurons, bits and axons under each rule."""

from dataclasses import replace

import numpy as np
import pytest
from placed_graphs import (
    LOIHI1,
    LOIHI2,
    bits,
    chain,
    conv_graph,
    dense_graph,
    fewest,
    held,
)

from spikeship.hw_models import chips
from spikeship.hw_models.graph import (
    Dense,
    FixedGraph,
    Identity,
    Input,
    Neuron,
    Readout,
    Sparse,
)
from spikeship.hw_models.placement.placement import Rules
from spikeship.hw_models.placement.splits import Split
from spikeship.hw_models.placer.place import place


def test_chips_by_name() -> None:
    assert (LOIHI1.name, LOIHI2.name) == ("loihi1", "loihi2")
    with pytest.raises(ValueError, match="chip 'loihi3' is unknown; choose one of loihi1, loihi2"):
        chips.get("loihi3")


def test_neuron_limit_and_soft_reset() -> None:
    assert fewest(dense_graph(1, 1024), LOIHI1) == [Split()]
    assert fewest(dense_graph(1, 1025), LOIHI1) == [Split(2)]
    # soft reset takes two compartments on Loihi 1, one on Loihi 2
    assert fewest(dense_graph(1, 1024, "subtract"), LOIHI1) == [Split(2)]
    assert fewest(dense_graph(1, 8192, "subtract"), LOIHI2) == [Split()]
    assert place(dense_graph(1, 8193), LOIHI2, cores=2).layers[0].limit == "neurons"


def test_dense_memory_limit() -> None:
    # 1,024 weights of 8 bits a neuron: 128 neurons fill a core
    assert fewest(dense_graph(1024, 128), LOIHI2) == [Split()]
    layer = place(dense_graph(1024, 129), LOIHI2, cores=2).layers[0]
    assert (layer.channel_groups, layer.limit) == (2, "synaptic memory")
    assert bits(layer) == 129 * 1024 * 8
    assert fewest(dense_graph(1024, 256, num_weight_bits=4), LOIHI2) == [Split()]


def test_state_shares_a_core_with_synapses_on_loihi2() -> None:
    # u, v and a refractory count: 54 bits a neuron beside 16 weights of 8
    graph = dense_graph(16, 8192)
    neuron = replace(graph.nodes[0], du=0, refractory=1)
    small = FixedGraph(graph.input, (neuron,), graph.synapses)
    (core,) = place(small, LOIHI2, cores=1).layers[0].cores
    assert (core.synapse_bits, core.state_bits) == (8192 * 128, 8192 * 54)
    assert LOIHI2.core_memory is not None
    tight = replace(LOIHI2, core_memory=replace(LOIHI2.core_memory, value=8192 * 182))
    assert fewest(small, tight) == [Split()]
    tight = replace(LOIHI2, core_memory=replace(LOIHI2.core_memory, value=8192 * 182 - 1))
    assert fewest(small, tight) == [Split(2)]
    assert place(small, tight, cores=2).layers[0].limit == "state memory"
    assert place(dense_graph(1, 4), LOIHI1, cores=1).layers[0].cores[0].state_bits == 4 * 24


def test_packing_and_search_are_said() -> None:
    # 10 weights of 8 bits an input: 2 words a message, 24,000 words in all of the 16,384 there are
    placed = place(dense_graph(12_000, 10), LOIHI1, cores=1)
    assert placed.fits and bits(placed.layers[0]) == 12_000 * 80
    assert sum("packed without gaps" in line for line in placed.assumptions) == 1
    assert sum("the search is greedy" in line for line in placed.assumptions) == 1


def test_sparse_memory_holds_indices() -> None:
    entries = 4096
    synapse = Sparse(
        name="s", source="input", target="n", data=np.ones(4 * entries, dtype=np.int16),
        indices=np.tile(np.arange(entries), 4), indptr=np.arange(5) * entries, columns=entries,
    )  # fmt: skip
    source = Input("input", (entries,), signed=False)
    graph = FixedGraph(source, (Neuron("n", (4,), np.array(1)),), (synapse,))
    # 8 bits of weight and 10 or 13 of index
    assert bits(place(graph, LOIHI1).layers[0]) == 4 * entries * 18
    assert bits(place(graph, LOIHI2).layers[0]) == 4 * entries * 21


def test_delays_that_differ_are_stored_beside_the_weights() -> None:
    graph = dense_graph(4, 2)
    fc = replace(graph.synapses[0], delays=np.array([[0, 5, 0, 0], [0, 0, 0, 0]]))
    ungated = FixedGraph(graph.input, graph.nodes, (fc,), gated=False)
    assert bits(place(ungated, LOIHI2).layers[0]) == 8 * (8 + 3)
    assert bits(place(dense_graph(4, 2, delays=np.full((1, 1), 5)), LOIHI2).layers[0]) == 64


def test_convolution_weights_are_stored_once_a_core() -> None:
    # 64 * 64 * 9 weights fit a core: the 16,384 neurons alone take 16
    graph = conv_graph(64, 64, 16)
    layer = place(graph, LOIHI1, cores=16).layers[0]
    assert (len(layer.cores), layer.limit) == (16, "neurons")
    tiles = layer.row_tiles * layer.column_tiles
    assert bits(layer) == tiles * 64 * 64 * 9 * 8
    # 512 * 512 * 9 bytes are 18 cores' memory: at most 28 channels a core, so 19 groups
    graph = conv_graph(512, 512, 4)
    assert fewest(graph, LOIHI2) == [Split(19)]
    assert place(graph, LOIHI2, cores=19).layers[0].limit == "synaptic memory"


def test_unshared_kernels_are_stored_for_every_neuron() -> None:
    # 4 x 4 positions of a 3 x 3 kernel with padding 1: 100 taps; 13 bits of index
    layer = place(conv_graph(2, 3, 4), LOIHI2, rules=Rules(kernels="unshared")).layers[0]
    assert bits(layer) == 3 * 2 * 100 * (8 + 13)


def test_population_axons_are_one_a_position_and_source_core() -> None:
    # one core: 16 x 16 positions of the input; with single axons, times 8 channels
    assert held(place(conv_graph(8, 2, 16), LOIHI2, cores=1)).cores[0].input_axons == 256
    single = place(conv_graph(8, 2, 16), LOIHI2, cores=1, rules=Rules("single"))
    assert held(single).cores[0].input_axons == 2048
    # 64 positions more than 4,096 axons hold one by one: two tiles with a halo of one row
    wide = conv_graph(17, 1, 16)
    assert fewest(wide, LOIHI2) == [Split()]
    (split,) = fewest(wide, LOIHI2, Rules("single"))
    assert split in (Split(1, 2, 1), Split(1, 1, 2))
    layer = held(place(wide, LOIHI2, cores=2, rules=Rules("single")))
    assert [core.input_axons for core in layer.cores] == [17 * 16 * 9] * 2
    assert layer.limit == "input axons"


def test_dense_axons_are_one_a_source_core() -> None:
    graph = chain(4, 4096, 300)  # n2's memory: 32 neurons a core, 10 cores
    placed = place(graph, LOIHI1, cores=14)
    assert [layer.channel_groups for layer in placed.layers] == [4, 10]
    assert {core.input_axons for core in placed.layers[1].cores} == {4}
    assert {core.output_axons for core in placed.layers[0].cores} == {10}
    single = place(graph, LOIHI1, rules=Rules("single"))
    assert {core.input_axons for core in single.layers[1].cores} == {4096}
    # 10 axons a neuron leave room for 409 neurons a core
    splits = fewest(graph, LOIHI1, Rules("single"))
    assert splits == [Split(-(-4096 // 409)), Split(10)]


def test_signed_spikes_double_synapses_and_axons_on_loihi1() -> None:
    plain, signed = (conv_graph(8, 8, 4, signed=signed) for signed in (False, True))
    (on_off,) = place(signed, LOIHI1, cores=1).layers[0].cores
    (one,) = place(plain, LOIHI1, cores=1).layers[0].cores
    (graded,) = place(signed, LOIHI2, cores=1).layers[0].cores
    assert on_off.synapse_bits == 2 * 8 * 8 * 9 * 8 == 2 * one.synapse_bits
    assert on_off.input_axons == 2 * 16 == 2 * one.input_axons
    assert (graded.synapse_bits, graded.input_axons) == (one.synapse_bits, one.input_axons)
    assert any("ON and OFF" in line for line in place(signed, LOIHI1).assumptions)
    assert not any("ON and OFF" in line for line in place(signed, LOIHI2).assumptions)


def test_direct_input_is_the_hosts_on_loihi1() -> None:
    fc = Dense(name="fc", source="input", target="out", weight=np.ones((2, 4), dtype=np.int16))
    graph = FixedGraph(
        Input("input", (4,), encoding="direct", max_message=127), (Readout("out", (2,)),), (fc,)
    )
    placed = place(graph, LOIHI1, cores=1)
    (core,) = placed.layers[0].cores
    assert (core.synapse_bits, core.input_axons, placed.injected) == (0, 0, ("fc",))
    assert placed.fits
    made = "2 values a step, made with at most 8 multiply"
    assert any(made in line for line in placed.assumptions)
    placed = place(graph, LOIHI2, cores=1)
    (core,) = placed.layers[0].cores
    assert (core.synapse_bits, core.input_axons, placed.injected) == (64, 1, ())


def test_messages_without_delay_pass_no_synapse() -> None:
    through = Identity(name="i", source="input", target="n", delay=0)
    graph = FixedGraph(Input("input", (9,)), (Neuron("n", (9,), np.array(1)),), (through,))
    placed = place(graph, LOIHI2, cores=1)
    (core,) = placed.layers[0].cores
    assert (core.synapse_bits, core.input_axons, placed.injected) == (0, 0, ("i",))
