"""What does not fit, on both chips."""

from dataclasses import replace

import numpy as np
from placed_graphs import (
    CORE_BITS,
    LOIHI1,
    LOIHI2,
    dense_graph,
)

from spikeship.hw_models.graph import (
    Delta,
    Dense,
    FixedGraph,
    Input,
    Neuron,
    Readout,
    Sparse,
)
from spikeship.hw_models.placement.placement import Rules
from spikeship.hw_models.placer.place import place


def test_graded_messages_need_loihi2() -> None:
    delta = Delta("d", (3,), np.array(1))
    synapses = (
        Dense(name="a", source="input", target="d", weight=np.ones((3, 2), np.int16)),
        Dense(name="b", source="d", target="out", weight=np.ones((2, 3), np.int16)),
    )
    graph = FixedGraph(
        Input("input", (2,), signed=False), (delta, Readout("out", (2,))), synapses, gated=False
    )
    (misfit,) = place(graph, LOIHI1).misfits
    assert (misfit.layer, misfit.limit, misfit.have, misfit.change) == (
        "d", "graded messages", 1, "use loihi2",
    )  # fmt: skip
    assert place(graph, LOIHI2).fits
    assert place(graph, LOIHI2).layers[0].cores[0].state_bits > 0


def test_odd_weights_of_nine_bits_fit_loihi1_alone() -> None:
    weight = np.array([[255, -255]], np.int16)
    fc = Dense(name="fc", source="input", target="n", weight=weight, num_weight_bits=9)
    source = Input("input", (2,), signed=False)
    graph = FixedGraph(source, (Neuron("n", (1,), np.array(1)),), (fc,))
    assert place(graph, LOIHI1).fits
    (misfit,) = place(graph, LOIHI2).misfits
    assert (misfit.limit, misfit.need, misfit.have) == ("weight bits", 9, 8)
    assert misfit.change == "quantize it with at most 8 weight bits"


def test_delay_limit() -> None:
    # the chip's delay 0 arrives in the next step, which is our delay 1
    assert place(dense_graph(2, 2, delay=63), LOIHI1).fits
    placed = place(dense_graph(2, 2, delay=64), LOIHI1)
    (reason,) = placed.reasons
    assert "layer 'n'" in reason and "needs 63 where there are 62" in reason
    assert not placed.misfits[0].assumed
    assert place(dense_graph(2, 2, delay=64), LOIHI2).misfits[0].assumed


def test_neuron_whose_synapses_exceed_a_core_does_not_fit() -> None:
    assert place(dense_graph(CORE_BITS // 8, 2), LOIHI1).fits
    graph = dense_graph(CORE_BITS // 8 + 1, 2)
    (misfit,) = place(graph, LOIHI1).misfits
    assert (misfit.layer, misfit.limit) == ("n", "synaptic memory")
    assert (misfit.need, misfit.have) == (1_048_584, 1_048_576)
    # and with the bits that it asks for, it fits
    assert misfit.change == "quantize it with at most 7 weight bits"
    narrow = replace(graph.synapses[0], num_weight_bits=7)
    assert place(FixedGraph(graph.input, graph.nodes, (narrow,)), LOIHI1).fits


def test_single_axons_that_do_not_fit_are_to_be_shared() -> None:
    graph = dense_graph(8192, 10)
    (misfit,) = place(graph, LOIHI1, rules=Rules("single")).misfits
    assert (misfit.limit, misfit.need, misfit.have) == ("input axons", 8192, 4096)
    assert misfit.change == "share axons: population"
    assert place(graph, LOIHI1).fits
    (misfit,) = place(graph, LOIHI2, rules=Rules("single")).misfits
    assert misfit.assumed and "an assumed limit" in str(misfit)


def test_sparse_axons_cannot_be_shared_so_inputs_must_go() -> None:
    inputs = 4100
    synapse = Sparse(
        name="s", source="input", target="n", data=np.ones(inputs, np.int16),
        indices=np.arange(inputs), indptr=np.array([0, inputs]), columns=inputs,
    )  # fmt: skip
    graph = FixedGraph(
        Input("input", (inputs,), signed=False), (Neuron("n", (1,), np.array(1)),), (synapse,)
    )
    (misfit,) = place(graph, LOIHI1).misfits
    assert (misfit.limit, misfit.need) == ("input axons", inputs)
    assert misfit.change == (
        "let a neuron read at most 4,096 source neurons through 's', not 4,100"
    )
