"""Cores by neurons and synaptic memory, and what does not fit."""

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeship.hw_models import chips
from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Readout, Sparse
from spikeship.hw_models.placement import place

LOIHI1, LOIHI2 = chips.get("loihi1"), chips.get("loihi2")
CORE_BITS = 128 * 1024 * 8
Reset = Literal["subtract", "zero"]


def dense_graph(inputs: int, outputs: int, reset: Reset = "zero", **fields: Any) -> FixedGraph:
    fc = Dense(
        name="fc",
        source="input",
        target="n",
        weight=np.zeros((outputs, inputs), dtype=np.int16),
        **fields,
    )
    source = Input("input", (inputs,), signed=False)
    return FixedGraph(source, (Neuron("n", (outputs,), np.array(1), reset=reset),), (fc,))


def conv_graph(
    channels: int,
    outputs: int,
    side: int,
    reset: Reset = "zero",
    signed: bool = False,
    **fields: Any,
) -> FixedGraph:
    conv = Conv(
        name="conv", source="input", target="n", padding=(1, 1),
        weight=np.zeros((outputs, channels, 3, 3), dtype=np.int16), **fields,
    )  # fmt: skip
    source = Input("input", (channels, side, side), signed=signed)
    node = Neuron("n", (outputs, side, side), np.array(1), reset=reset)
    return FixedGraph(source, (node,), (conv,))


def test_chips_by_name() -> None:
    assert (LOIHI1.name, LOIHI2.name) == ("loihi1", "loihi2")
    with pytest.raises(ValueError, match="chip 'loihi3' is unknown; choose one of loihi1, loihi2"):
        chips.get("loihi3")


def test_neuron_limit_and_soft_reset() -> None:
    assert place(dense_graph(1, 1024), LOIHI1).cores == 1
    assert place(dense_graph(1, 1025), LOIHI1).cores == 2
    # soft reset takes two compartments on Loihi 1, one on Loihi 2
    assert place(dense_graph(1, 1024, "subtract"), LOIHI1).cores == 2
    assert place(dense_graph(1, 8192, "subtract"), LOIHI2).cores == 1
    two = place(dense_graph(1, 8193), LOIHI2)
    assert (two.cores, two.layers[0].limit) == (2, "neurons")


def test_dense_memory_limit() -> None:
    # 1,024 weights of 8 bits a neuron: 128 neurons fill a core
    assert place(dense_graph(1024, 128), LOIHI2).cores == 1
    placed = place(dense_graph(1024, 129), LOIHI2)
    assert (placed.cores, placed.layers[0].limit) == (2, "synaptic memory")
    assert placed.layers[0].synapse_bits == 129 * 1024 * 8
    assert place(dense_graph(1024, 256, num_weight_bits=4), LOIHI2).cores == 1


def test_sparse_memory_holds_indices() -> None:
    entries = 4096
    synapse = Sparse(
        name="s", source="input", target="n", data=np.ones(4 * entries, dtype=np.int16),
        indices=np.tile(np.arange(entries), 4), indptr=np.arange(5) * entries, columns=entries,
    )  # fmt: skip
    source = Input("input", (entries,), signed=False)
    graph = FixedGraph(source, (Neuron("n", (4,), np.array(1)),), (synapse,))
    # 8 bits of weight and 10 or 13 of index
    assert place(graph, LOIHI1).layers[0].synapse_bits == 4 * entries * 18
    assert place(graph, LOIHI2).layers[0].synapse_bits == 4 * entries * 21


def test_convolution_weights_are_stored_once_a_core() -> None:
    # 64 * 64 * 9 weights fit a core, so tiles of positions cut the 16,384 neurons
    layer = place(conv_graph(64, 64, 16), LOIHI1).layers[0]
    assert (layer.cores, layer.channel_groups, layer.tiles, layer.limit) == (16, 1, 16, "neurons")
    assert layer.synapse_bits == 16 * 64 * 64 * 9 * 8
    # 512 * 512 * 9 bytes are 18 cores' memory: at most 28 channels a core, so 19 groups
    layer = place(conv_graph(512, 512, 4), LOIHI2).layers[0]
    assert (layer.cores, layer.channel_groups, layer.limit) == (19, 19, "synaptic memory")


def test_signed_spikes_double_the_first_weights_on_loihi1() -> None:
    plain, signed = (conv_graph(8, 8, 4, signed=signed) for signed in (False, True))
    assert place(signed, LOIHI1).layers[0].synapse_bits == 2 * 8 * 8 * 9 * 8
    assert place(plain, LOIHI1).layers[0].synapse_bits == 8 * 8 * 9 * 8
    assert place(signed, LOIHI2).layers[0].synapse_bits == 8 * 8 * 9 * 8
    assert any("ON and OFF" in line for line in place(signed, LOIHI1).assumptions)
    assert not any("ON and OFF" in line for line in place(signed, LOIHI2).assumptions)


def test_direct_input_is_the_hosts_on_loihi1() -> None:
    fc = Dense(name="fc", source="input", target="out", weight=np.ones((2, 4), dtype=np.int16))
    graph = FixedGraph(
        Input("input", (4,), encoding="direct", max_message=127), (Readout("out", (2,)),), (fc,)
    )
    assert any("host injects" in line for line in place(graph, LOIHI1).assumptions)
    assert not any("host injects" in line for line in place(graph, LOIHI2).assumptions)
    # not an ON/OFF pair as well
    assert place(graph, LOIHI1).layers[0].synapse_bits == 2 * 4 * 8


def test_delay_limit() -> None:
    # the chip's delay 0 arrives in the next step, which is our delay 1
    assert place(dense_graph(2, 2, delay=63), LOIHI1).fits
    placed = place(dense_graph(2, 2, delay=64), LOIHI1)
    assert not placed.fits
    assert "'fc'" in placed.reasons[0] and "63 steps where at most 62" in placed.reasons[0]


def test_neuron_whose_synapses_exceed_a_core_does_not_fit() -> None:
    assert place(dense_graph(CORE_BITS // 8, 2), LOIHI1).fits
    placed = place(dense_graph(CORE_BITS // 8 + 1, 2), LOIHI1)
    assert not placed.fits
    (reason,) = placed.reasons
    assert "layer 'n'" in reason and "1,048,584 bits where a core holds 1,048,576" in reason
    assert placed.cores == 3


def test_more_cores_take_more_chips() -> None:
    placed = place(dense_graph(8192, 4096), LOIHI2)  # 16 neurons a core
    assert (placed.cores, placed.chips, placed.fits) == (256, 2, True)
    assert any("256 cores take 2 chips" in line for line in placed.assumptions)


def test_layers_share_no_core() -> None:
    first = Dense(name="f1", source="input", target="a", weight=np.ones((2, 2), dtype=np.int16))
    second = Dense(name="f2", source="a", target="out", weight=np.ones((2, 2), dtype=np.int16))
    nodes = (Neuron("a", (2,), np.array(1)), Readout("out", (2,)))
    placed = place(FixedGraph(Input("input", (2,)), nodes, (first, second)), LOIHI1)
    assert [layer.name for layer in placed.layers] == ["a", "out"]
    assert placed.cores == 2
    assert any("axons" in line for line in placed.assumptions)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 64),
    st.integers(1, 96),
    st.integers(1, 24),
    st.sampled_from(["subtract", "zero"]),
)
def test_a_core_never_holds_more_than_its_limits(
    channels: int, outputs: int, side: int, reset: Reset
) -> None:
    graph = conv_graph(channels, outputs, side, reset)
    for chip in (LOIHI1, LOIHI2):
        layer = place(graph, chip).layers[0]
        held = -(-outputs // layer.channel_groups)
        positions = -(-side * side // layer.tiles)
        assert layer.cores == layer.channel_groups * layer.tiles
        assert held * positions * layer.compartments <= chip.compartments_per_core.value
        assert held * channels * 9 * 8 <= CORE_BITS
        needed = -(-outputs * side * side * layer.compartments // chip.compartments_per_core.value)
        assert layer.cores >= needed
