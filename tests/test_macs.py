"""Multiply-accumulates of an ANN: by hand, and a classifier and its network have the same."""

import numpy as np
import pytest
import torch
from spiking import chain, images, residual

import cases
from spikeship.deploy.compiler.quantize import quantize
from spikeship.deploy.io.classifier import Ann
from spikeship.hw_models.energy_models.incoming import layers
from spikeship.hw_models.events.fanout import fanout
from spikeship.hw_models.events.macs import ann_macs, conv_macs, synapse_macs
from spikeship.hw_models.graph import Conv, FixedGraph, Input, Neuron, Readout, Sparse
from spikeship.hw_models.simulator.simulator import simulate
from spikeship.training.ann.network import Network
from spikeship.training.conversion.convert import convert
from spikeship.training.nir_io.to_nir import to_nir


@pytest.mark.parametrize(
    ("stride", "pads", "dilation"),
    [((1, 1), (1, 1), (1, 1)), ((2, 1), (0, 2), (1, 1)), ((3, 2), (2, 0), (2, 1))],
)
def test_a_convolution_by_torch_over_ones(
    stride: tuple[int, int], pads: tuple[int, int], dilation: tuple[int, int]
) -> None:
    # 6 channels of output in two groups of 2 channels of input, on 7 x 9
    options = {"stride": stride, "pads": pads, "dilation": dilation}
    existing = torch.nn.functional.conv2d(
        torch.ones(1, 4, 7, 9), torch.ones(6, 2, 3, 2), None, stride, pads, dilation, groups=2
    )
    assert conv_macs((6, 2, 3, 2), (7, 9), **options, padding=False) == int(existing.sum())
    places = existing[0, 0].numel()
    assert conv_macs((6, 2, 3, 2), (7, 9), **options, padding=True) == 6 * 2 * 3 * 2 * places


def network_of(ann: Network) -> FixedGraph:
    """Its spiking network in integers."""
    snn = convert(ann.eval(), images(8), num_steps=4, encoding="poisson", balance="max")
    return quantize(to_nir(snn), chip="loihi2", weight_bits=8)


@pytest.mark.parametrize("padding", [True, False])
@pytest.mark.parametrize("ann", [chain(), residual(), residual(strided=True)])
def test_a_classifier_and_its_network_have_the_same(ann: Network, padding: bool) -> None:
    # the identity skip of the second, a sparse matrix in the network, adds and multiplies nothing
    macs = Ann(ann, {}, {}).macs(padding=padding)
    assert ann_macs(network_of(ann), padding=padding) == macs > 0


def test_taps_on_padding_are_the_difference() -> None:
    ann = Ann(chain(), {}, {})
    # 6 x 2 channels on 8 x 8, 22 x 22 of 24 x 24 taps there; 8 x 6 on 4 x 4 halved, 5 x 5 of 6 x 6
    assert ann.macs(padding=True) == 12 * 24 * 24 + 48 * 6 * 6 + 32 * 20 + 20 * 5
    assert ann.macs(padding=False) == 12 * 22 * 22 + 48 * 5 * 5 + 32 * 20 + 20 * 5
    assert ann.macs() == ann.macs(padding=True)


@pytest.mark.parametrize("name", cases.ZOO)
def test_energy_models_count_by_the_same_rule_and_fan_out_agrees(name: str) -> None:
    graph = cases.graph(name)
    counts = simulate(graph, cases.messages(graph, 1), strict=False, threads=1).counts
    total = sum(layer.macs for layer in layers(graph, counts))
    assert total == ann_macs(graph, padding=False) <= ann_macs(graph, padding=True)
    for synapse in graph.synapses:
        if isinstance(synapse, Conv):
            reached = int(fanout(graph, synapse)[1].sum())
            assert synapse_macs(graph, synapse, padding=False) * synapse.pool**2 == reached


def sparse(indptr: list[int], indices: list[int], columns: int) -> int:
    rows = len(indptr) - 1
    synapse = Sparse(
        name="s", source="input", target="one", data=np.full(len(indices), 2),
        indices=np.array(indices), indptr=np.array(indptr), columns=columns,
    )  # fmt: skip
    last = Sparse(
        name="o", source="one", target="out", data=np.array([2]), indices=np.array([0]),
        indptr=np.array([0, 1]), columns=rows,
    )  # fmt: skip
    nodes = (Neuron("one", (rows,), vth=np.array(3)), Readout("out", (1,)))
    graph = FixedGraph(Input("input", (columns,)), nodes, (synapse, last), num_steps=2)
    return synapse_macs(graph, synapse, padding=True)


def test_a_sparse_matrix_counts_its_stored_weights_unless_it_is_one_to_one() -> None:
    assert sparse([0, 2, 3], [0, 1, 1], 2) == 3
    assert sparse([0, 1, 2, 3], [2, 0, 1], 3) == 0
    assert sparse([0, 1, 2, 3], [0, 0, 1], 3) == 3  # an input twice
    assert sparse([0, 1, 3, 3], [0, 1, 2], 3) == 3  # an output twice
    assert sparse([0, 1, 2], [0, 1], 3) == 2  # an input nowhere
