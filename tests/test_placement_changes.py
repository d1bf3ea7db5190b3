"""The change that a misfit names: it was tried, it fits, and one step less of it does not."""

import numpy as np
import pytest
from placed_graphs import CORE_BITS, LOIHI1, LOIHI2, chain, conv_graph, dense_graph

from spikeship.hw_models.chips.spec import ChipSpec
from spikeship.hw_models.graph import (
    Conv,
    Delta,
    Dense,
    FixedGraph,
    Input,
    Neuron,
    Readout,
    Sparse,
)
from spikeship.hw_models.placement.placement import Rules
from spikeship.hw_models.placer import misfits
from spikeship.hw_models.placer.advice import MOST_TRIES, NONE, NOT_TRIED
from spikeship.hw_models.placer.place import place


def kernel_graph(channels: int, side: int) -> FixedGraph:
    """One neuron that reads everything through a convolution."""
    weight = np.zeros((1, channels, side, side), np.int16)
    conv = Conv(name="c", source="input", target="n", weight=weight)
    return FixedGraph(
        Input("input", (channels, side, side), signed=True),
        (Neuron("n", (1, 1, 1), np.array(1)),),
        (conv,),
    )


def mixed_graph(dense: int, listed: int) -> FixedGraph:
    """One neuron that reads all inputs through a dense synapse, and some through a sparse one."""
    inputs = max(dense, listed)
    weight = np.zeros((1, inputs), np.int16)
    return FixedGraph(
        Input("input", (inputs,), signed=False),
        (Neuron("n", (1,), np.array(1)),),
        (
            Dense(name="d", source="input", target="n", weight=weight),
            Sparse(
                name="s", source="input", target="n", data=np.ones(listed, np.int16),
                indices=np.arange(listed), indptr=np.array([0, listed]), columns=inputs,
            ),
        ),
    )  # fmt: skip


def graded_graph(weight: list[list[int]], bits: int = 8, into: str = "d") -> FixedGraph:
    """Graded messages between two layers, the weights into one of them given."""
    usual = np.ones((3, 2), np.int16) if into == "out" else np.ones((2, 3), np.int16)
    wide = {"weight": np.array(weight, np.int16), "num_weight_bits": bits}
    first, second = (wide, {"weight": usual}) if into == "d" else ({"weight": usual}, wide)
    return FixedGraph(
        Input("input", (2,), signed=False),
        (Delta("d", (3,), np.array(1)), Readout("out", (2,))),
        (
            Dense(name="a", source="input", target="d", **first),  # type: ignore[arg-type]
            Dense(name="b", source="d", target="out", **second),  # type: ignore[arg-type]
        ),
        gated=False,
    )


def change(graph: FixedGraph, chip: ChipSpec, rules: Rules = Rules()) -> str:  # noqa: B008
    """The one change that all misfits name."""
    (words,) = {misfit.change for misfit in place(graph, chip, rules=rules).misfits}
    return words


def test_positions_are_what_a_convolutions_shared_axons_count() -> None:
    # 15 or 32 channels take the same axons: fewer of them would not help
    for channels in (15, 32):
        words = change(kernel_graph(channels, 66), LOIHI1)
        assert words == "let 'c' read at most 45 x 45 positions, not 66 x 66"
    assert place(kernel_graph(32, 45), LOIHI1).fits
    assert not place(kernel_graph(32, 46), LOIHI1).fits


def test_a_change_mends_all_limits_of_the_layer_where_one_can() -> None:
    found = place(kernel_graph(32, 66), LOIHI1).misfits
    assert {misfit.limit for misfit in found} == {"synaptic memory", "input axons"}
    assert len({misfit.change for misfit in found}) == 1


def test_sources_are_what_a_sparse_synapse_counts() -> None:
    words = change(mixed_graph(20_000, 4500), LOIHI1)
    assert words == "let a neuron read at most 4,095 source neurons through 's', not 4,500"
    assert place(mixed_graph(20_000, 4095), LOIHI1).fits
    assert not place(mixed_graph(20_000, 4096), LOIHI1).fits


def test_inputs_are_what_a_dense_synapse_counts_where_one_bit_is_too_much() -> None:
    words = change(dense_graph(CORE_BITS + 1, 1), LOIHI1)
    assert words == "let 'fc' read at most 131,072 inputs, not 1,048,577"
    assert place(dense_graph(131_072, 1), LOIHI1).fits
    assert not place(dense_graph(131_073, 1), LOIHI1).fits


def test_channels_are_what_a_kernel_of_one_position_counts() -> None:
    words = change(kernel_graph(CORE_BITS + 1, 1), LOIHI2)
    assert words == "let 'c' read at most 131,072 channels, not 1,048,577"


def test_graded_messages_on_loihi1_never_ask_for_fewer_inputs() -> None:
    assert change(graded_graph([[1, 1]] * 3), LOIHI1) == "use loihi2"
    odd = [[255, -255]] * 3
    assert change(graded_graph(odd, 9), LOIHI1) == NONE  # it takes two


def test_another_chip_is_named_only_where_every_layer_fits_it() -> None:
    graph = graded_graph([[255, -255, 255]] * 2, 9, into="out")
    (misfit,) = place(graph, LOIHI1).misfits
    assert misfit.layer == "d"
    assert misfit.change == NONE
    (there,) = place(graph, LOIHI2).misfits
    assert (there.layer, there.limit) == ("out", "weight bits")


def test_a_delay_that_has_to_go_too_is_named_with_its_layer() -> None:
    graph = FixedGraph(
        Input("input", (2,), signed=False),
        (Delta("d", (3,), np.array(1)), Readout("out", (2,))),
        (
            Dense(name="a", source="input", target="d", weight=np.ones((3, 2), np.int16)),
            Dense(name="b", source="d", target="out", weight=np.ones((2, 3), np.int16), delay=64),
        ),
        gated=False,
    )
    of_d, of_out = place(graph, LOIHI1).misfits  # in the order of the nodes
    assert (of_d.limit, of_out.limit) == ("graded messages", "delay")
    assert of_out.change == "shorten the delay into it to 62 steps beyond the next"
    assert of_d.change == "use loihi2"  # where that delay breaks a limit too, as it does here


def test_one_rule_is_not_named_where_it_takes_two() -> None:
    graph = conv_graph(5000, 8, 4)
    words = change(graph, LOIHI1, Rules("single", "unshared"))
    rules = Rules("population" if "share axons" in words else "single",
                  "shared" if "store kernels" in words else "unshared")  # fmt: skip
    assert "quantize" not in words and "use " not in words
    assert place(graph, LOIHI1, rules=rules).fits


def test_every_bound_on_cores_that_has_to_go_is_named() -> None:
    graph = dense_graph(8192, 4096)
    used = place(graph, LOIHI2).cores
    (both,) = place(graph, LOIHI2, cores=3, max_chips=1).misfits
    assert both.change == f"allow {used:,} cores and 2 chips"
    (one,) = place(graph, LOIHI2, cores=300, max_chips=1).misfits
    assert (one.need, one.have, one.change) == (used, 128, "allow 2 chips")


def test_given_cores_are_to_be_left_out_where_they_alone_break_a_limit() -> None:
    graph = chain(2, 4100, 4100)
    assert place(graph, LOIHI1).fits
    found = place(graph, LOIHI1, layer_cores={"n1": 4100, "n2": 4100})
    assert found.misfits
    assert {misfit.change for misfit in found.misfits} == {"leave layer_cores out"}


def test_what_cannot_be_mended_says_so() -> None:
    inputs = 4500  # four times: one synapse that reads less is not enough, on either chip
    graph = FixedGraph(
        Input("input", (inputs,), signed=False),
        (Neuron("n", (1,), np.array(1)),),
        tuple(
            Sparse(
                name=f"s{i}", source="input", target="n", data=np.ones(inputs, np.int16),
                indices=np.arange(inputs), indptr=np.array([0, inputs]), columns=inputs,
            )
            for i in range(4)
        ),
    )  # fmt: skip
    assert change(graph, LOIHI1) == NONE


def test_tries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    again = misfits._again

    def counted(*arguments: object) -> object:
        tried.append(arguments)
        return again(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(misfits, "_again", counted)
    layers = 60
    wide = CORE_BITS // 8 + 1
    graph = FixedGraph(
        Input("input", (wide,), signed=False),
        tuple(Neuron(f"n{i}", (1,), np.array(1)) for i in range(layers)),
        tuple(
            Dense(
                name=f"s{i}", source="input", target=f"n{i}", weight=np.zeros((1, wide), np.int16)
            )
            for i in range(layers)
        ),
    )
    found = place(graph, LOIHI1).misfits
    assert len(found) == layers and len(tried) == MOST_TRIES
    said = [misfit.change for misfit in found]
    assert said[0] == "quantize it with at most 7 weight bits" and said[-1] == NOT_TRIED
