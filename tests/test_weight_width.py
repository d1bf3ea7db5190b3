"""Weights cut to another width for the placement: what the bits hold, never larger."""

from typing import Any

import numpy as np
import pytest
from estimate_cases import network
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spikeship.deploy.compiler.weight_width import with_weight_bits
from spikeship.deploy.errors import DeployError
from spikeship.hw_models import chips, fixed
from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Readout, Sparse
from spikeship.hw_models.placer.place import place


def one_layer(weight: Any, bits: int = 8) -> FixedGraph:
    row = np.atleast_2d(np.asarray(weight))
    synapse = Dense(name="d", source="input", target="out", weight=row, num_weight_bits=bits)
    return FixedGraph(
        Input("input", (row.shape[1],)), (Readout("out", (1,)),), (synapse,), num_steps=2
    )


def cut(weight: Any, bits: int, held: int = 8) -> NDArray[np.int64]:
    """The weights after the cut, which the graph's own check has then found legal."""
    synapse = with_weight_bits(one_layer(weight, held), bits).synapses[0]
    assert isinstance(synapse, Dense) and synapse.num_weight_bits == bits
    found: NDArray[np.int64] = synapse.weight[0].astype(np.int64)
    return found


def multiples(low: int, high: int, step: int) -> st.SearchStrategy[list[int]]:
    """Lists of multiples of a step, often the least, the largest and those next to 0."""
    least, most = -(-low // step), high // step
    often = [least, max(least, -1), 0, min(most, 1), most]
    each = st.sampled_from(often) | st.integers(least, most)
    return st.lists(each.map(lambda number: number * step), min_size=1, max_size=6)


def legal_weights(held: int) -> st.SearchStrategy[list[int]]:
    """Weights that so many bits hold, of one sign or both."""
    both = multiples(-256, 255, 1 << (9 - held))
    one = multiples(0, 255, 1 << max(0, 8 - held))
    drawn = both | one | one.map(lambda values: [-value for value in values])
    return drawn.filter(lambda values: fixed.fits_weights(np.array(values), held))


@settings(max_examples=300)
@given(
    st.integers(1, fixed.ODD_WEIGHT_BITS).flatmap(
        lambda held: st.tuples(legal_weights(held), st.just(held))
    ),
    st.integers(1, 8),
)
def test_any_legal_weights_cut_to_any_width_are_legal_and_no_larger(
    drawn: tuple[list[int], int], bits: int
) -> None:
    before, after = np.array(drawn[0]), cut(drawn[0], bits, drawn[1])
    assert fixed.fits_weights(after, bits)
    assert np.all(np.abs(after) <= np.abs(before))
    assert np.all(after * before >= 0)
    assert np.all(np.abs(before - after) < 1 << (9 - bits))


@pytest.mark.parametrize(("bits", "lowest"), [(1, -128), (2, -192), (4, -240), (8, -256)])
def test_the_lowest_weight_survives_only_beside_a_positive_one(bits: int, lowest: int) -> None:
    # the small positive weight is lost at every width but 8, and -256 is not held without it
    np.testing.assert_array_equal(cut([-256, 2, -255 + 1], bits)[0], lowest)
    beside = cut([-256, 254], 2)
    np.testing.assert_array_equal(beside, [-256, 128])


def test_nine_bits_lose_their_odd_weights_and_with_them_a_sign() -> None:
    np.testing.assert_array_equal(cut([-256, 1], 8, held=9), [-255, 0])
    np.testing.assert_array_equal(cut([-255, 255], 8, held=9), [-254, 254])


@pytest.mark.parametrize("bits", range(1, 9))
def test_a_networks_weights_are_cut_synapse_by_synapse(bits: int) -> None:
    graph = network()
    found = with_weight_bits(graph, bits)
    for before, after in zip(graph.synapses, found.synapses, strict=True):
        assert isinstance(before, Conv | Dense) and isinstance(after, Conv | Dense)
        assert after.num_weight_bits == bits
        assert fixed.fits_weights(after.weight, bits)
        assert np.all(np.abs(after.weight) <= np.abs(before.weight))
        assert np.all(after.weight.astype(int) * before.weight >= 0)


def test_a_sparse_synapse_is_cut_too() -> None:
    graph = FixedGraph(
        Input("input", (4,)),
        (Neuron("one", (4,), vth=np.array(3)), Readout("out", (4,))),
        (
            Sparse(
                name="s", source="input", target="one", data=np.array([2, 34, -66, 254]),
                indices=np.arange(4), indptr=np.arange(5), columns=4,
            ),
            Dense(name="d", source="one", target="out", weight=np.eye(4, dtype=int)),
        ),
        num_steps=2,
    )  # fmt: skip
    synapse = with_weight_bits(graph, 4).synapses[0]
    assert isinstance(synapse, Sparse)
    np.testing.assert_array_equal(synapse.data, [0, 32, -64, 224])


@pytest.mark.parametrize("bits", [0, 9, -1])
def test_no_such_width(bits: int) -> None:
    with pytest.raises(DeployError, match="weight_bits"):
        with_weight_bits(network(), bits)


def test_fewer_weight_bits_take_no_more_memory() -> None:
    spec = chips.get("loihi1")
    placed = [place(with_weight_bits(network(), bits), spec) for bits in (8, 4)]
    eight, four = (
        sum(core.synapse_bits for layer in one.layers for core in layer.cores) for one in placed
    )
    assert four < eight
