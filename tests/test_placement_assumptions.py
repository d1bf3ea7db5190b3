"""What a placement takes for granted is said where it decides, and only there."""

from dataclasses import replace

import numpy as np
import pytest
from placed_graphs import LOIHI1, LOIHI2, chain, conv_graph, dense_graph

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import Dense, FixedGraph, Identity, Input, Neuron, Readout
from spikeship.hw_models.placement.placement import Rules
from spikeship.hw_models.placer.place import place

BOTH = pytest.mark.parametrize("chip", [LOIHI1, LOIHI2], ids=["loihi1", "loihi2"])


def lines(graph: FixedGraph, chip: ChipSpec, words: str, rules: Rules = Rules()) -> list[str]:  # noqa: B008
    return [line for line in place(graph, chip, rules=rules).assumptions if words in line]


def one_to_one() -> FixedGraph:
    link = Identity(name="i", source="input", target="n")
    return FixedGraph(
        Input("input", (4,), signed=False), (Neuron("n", (4,), np.array(1)),), (link,)
    )


def test_assumed_limits_are_said() -> None:
    lines = place(chain(2, 2, 2), LOIHI2).assumptions
    assumed = [line for line in lines if line.startswith("assumed limit")]
    assert any("input axons 4,096" in line for line in assumed)
    assert any("output axons 4,096" in line for line in assumed)
    first = place(chain(2, 2, 2), LOIHI1).assumptions
    assert not any(line.startswith("assumed limit") for line in first)


@BOTH
def test_how_kernels_are_stored_is_said_of_convolutions_alone(chip: ChipSpec) -> None:
    assert lines(conv_graph(2, 2, 4), chip, "a convolution's weights are stored")
    unshared = Rules(kernels="unshared")
    assert lines(conv_graph(2, 2, 4), chip, "stored for every neuron", unshared)
    for rules in (Rules(), unshared):
        assert not lines(chain(2, 2, 2), chip, "a convolution's weights", rules)


@pytest.mark.parametrize(("chip", "bits"), [(LOIHI1, 10), (LOIHI2, 13)])
def test_the_width_of_an_index_is_said_where_one_is_stored(chip: ChipSpec, bits: int) -> None:
    words = "an index stored beside a weight takes"
    (line,) = lines(one_to_one(), chip, words)
    assert f"takes {bits} bits" in line
    (core,) = place(one_to_one(), chip, cores=1).layers[0].cores
    assert core.synapse_bits == 4 * (8 + bits)
    assert lines(conv_graph(2, 2, 4), chip, words, Rules(kernels="unshared"))
    assert not lines(conv_graph(2, 2, 4), chip, words)
    assert not lines(chain(2, 2, 2), chip, words)


@BOTH
def test_that_the_input_is_one_source_core_is_said_where_axons_are_shared(chip: ChipSpec) -> None:
    words = "the input counts as one source core"
    assert lines(chain(2, 2, 2), chip, words) and lines(conv_graph(2, 2, 4), chip, words)
    assert not lines(chain(2, 2, 2), chip, words, Rules("single"))
    assert not lines(one_to_one(), chip, words)
    graded = replace(chain(2, 2, 2).input, max_message=127, encoding="direct")
    direct = replace(chain(2, 2, 2), input=graded)
    assert bool(lines(direct, chip, words)) is (chip is LOIHI2)  # on loihi1 the host injects it


def readout(weight: int, steps: int | None, bias: int = 0) -> FixedGraph:
    fc = Dense(name="fc", source="input", target="out", weight=np.full((1, 1000), weight))
    nodes = (Readout("out", (1,), bias=np.array(bias)),)
    return FixedGraph(Input("input", (1000,), signed=False), nodes, (fc,), num_steps=steps)


def test_a_readout_that_24_bits_may_not_hold_is_said_on_loihi1() -> None:
    words = "readout 'out' is taken to fit the 24 bits of a compartment, 8,388,607 at most"
    (line,) = lines(readout(127, 1000), LOIHI1, words)
    assert "allow 127,000,000 over 1,000 steps" in line
    (unknown,) = lines(readout(127, None), LOIHI1, words)
    assert "allow 127,000 in each step" in unknown
    assert not lines(readout(127, 1000), LOIHI2, words)  # it has memory for 32
    # at the edge: 8,388,607 = 47 * 178,481
    assert not lines(readout(1, 47, bias=177_481), LOIHI1, words)
    assert lines(readout(1, 47, bias=177_482), LOIHI1, words)


def test_a_dense_network_says_no_more_than_it_needs() -> None:
    said = place(dense_graph(2, 2), LOIHI1).assumptions
    assert not any("index" in line or "convolution's weights" in line for line in said)
