"""Known mappings: layers on as many cores as somebody said."""

from typing import Any

import numpy as np
import pytest
from placed_graphs import LOIHI1, chain, dense_graph, held

from spikeship.hw_models.graph import Conv, FixedGraph, Identity, Input, Neuron
from spikeship.hw_models.placement.placement import Rules
from spikeship.hw_models.placer.place import place


def test_a_layer_takes_as_many_cores_as_are_said_and_the_others_the_fewest() -> None:
    placed = place(chain(64, 1000, 1000, 4), LOIHI1, layer_cores={"n1": 5})
    assert [(len(layer.cores), layer.limit) for layer in placed.layers] == [
        (5, "given"),
        (8, "synaptic memory"),
        (1, "none"),
    ]
    # also where the fewest are as many
    placed = place(chain(64, 1000, 1000, 4), LOIHI1, layer_cores={"n1": 1})
    assert held(placed, "n1").limit == "given"


def test_the_others_keep_their_limits() -> None:
    # each of n1's 1,024 neurons sends to all 16 cores of n2: 16,384 axons, 4,096 a core
    graph = FixedGraph(
        Input("input", (1, 32, 32), signed=False),
        (Neuron("n1", (1, 32, 32), np.array(1)), Neuron("n2", (64, 1, 1), np.array(1))),
        (
            Identity(name="i", source="input", target="n1"),
            Conv(name="c", source="n1", target="n2", weight=np.zeros((64, 1, 32, 32), np.int16)),
        ),
    )
    placed = place(graph, LOIHI1, layer_cores={"n2": 16})
    assert placed.fits
    assert {core.output_axons for core in held(placed, "n1").cores} == {4096}
    # said of both, it does not fit
    (misfit,) = place(graph, LOIHI1, layer_cores={"n1": 2, "n2": 16}).misfits
    assert (misfit.layer, misfit.limit) == ("n1", "output axons")
    assert (misfit.need, misfit.have) == (8192, 4096)
    single = place(chain(4, 1024, 512), LOIHI1, rules=Rules("single"), layer_cores={"n2": 16})
    assert single.fits and len(held(single, "n1").cores) == 4


def test_bounds_on_all_cores_hold_for_known_mappings() -> None:
    for bound in ({"max_chips": 1}, {"cores": 2}):
        placed = place(dense_graph(16, 1024), LOIHI1, layer_cores={"n": 512}, **bound)
        (misfit,) = placed.misfits
        assert (misfit.layer, misfit.limit, misfit.need) == ("", "cores", 512)
        assert len(held(placed).cores) == 512


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"other": 2}, "there is no layer 'other'; name the graph's own"),
        ({"n": 0}, "layer 'n' on 0 cores; give a whole number from 1 on"),
        ({"n": 2.5}, "layer 'n' on 2.5 cores"),
        ({"n": True}, "layer 'n' on True cores"),
        ({"n": 3}, "layer 'n': no split onto 3 cores keeps the limits of a core; it takes 4 at"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(counts: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        place(dense_graph(4096, 128), LOIHI1, layer_cores=counts)


def test_unknown_names_are_refused_beside_another_misfit() -> None:
    with pytest.raises(ValueError, match="there is no layer 'other'"):
        place(dense_graph(131_073, 1), LOIHI1, layer_cores={"other": 2})
