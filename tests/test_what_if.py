"""What-if: each point is the estimate at that point, break-even is where energies are equal."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch
from estimate_cases import T, images, network
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from spikeship.deploy.break_even import crossing
from spikeship.deploy.check import DeployError
from spikeship.deploy.counting import Counted, count
from spikeship.deploy.quantize import quantize
from spikeship.deploy.rate_energy import RateEnergy
from spikeship.deploy.rates import most_often, scaled, spikes_per_step
from spikeship.deploy.references import Reference, ann_macs, gpu_row
from spikeship.deploy.weight_width import with_weight_bits
from spikeship.deploy.what_if import Question, runs_needed, what_if
from spikeship.deploy.what_if_picture import alt_text, write_what_if_picture
from spikeship.deploy.what_if_result import WhatIf
from spikeship.hw_models import chips, fixed
from spikeship.hw_models.estimate import estimate
from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Readout, Sparse
from spikeship.hw_models.placement.place import place
from spikeship.training.convert import convert
from spikeship.training.to_nir import to_nir
from spikeship.training.trace import trace


def reference(energy_j: float, low: float | None = None, high: float | None = None) -> Reference:
    return Reference("level", "modelled", energy_j, low or energy_j, high or energy_j, ())


QUESTION = Question(
    steps=(2, T, 9), weight_bits=(8, 4), rates=(0.0, 0.5, 1.0), chips=("loihi1", "loihi2")
)


@pytest.fixture(scope="module")
def own() -> Counted:
    return count(network(), images(), seed=0)


def joules(counted: Counted, chip: str) -> tuple[float, float, float]:
    """Low, value and high of the network on its own placement, at the rate it was counted at."""
    spec = chips.get(chip)
    placement = place(network(), spec, traffic=count(network(), images(), seed=0).traffic)
    found = estimate(
        counted.graph, counted.counts, spec, traffic=counted.traffic, placement=placement
    ).energy
    return found.low, found.dynamic + found.static, found.high


@pytest.fixture(scope="module")
def found(own: Counted) -> WhatIf:
    levels = [sum(joules(scaled(own, f), "loihi1")[1] for f in (0.5, 0.6)) / 2, 1e-12, 1.0]
    references = [replace(reference(level), name=f"{level:.3g}") for level in levels]
    return what_if(network(), images(), QUESTION, references, seed=0)


# --- break-even -------------------------------------------------------------------------------


@given(st.floats(1e-9, 1.0), st.floats(1e-9, 1.0), st.floats(0.0, 1.0), st.floats(0.1, 50.0))
def test_a_crossing_is_where_the_energy_is_the_level(
    fixed_j: float, slope: float, bend: float, most: float
) -> None:
    def energy(factor: float) -> float:
        return fixed_j + slope * factor + bend * max(0.0, factor - most / 2)

    level = fixed_j + 0.7 * (energy(most) - fixed_j)
    found = crossing(energy, level, most)
    assert found.factor is not None
    assert energy(found.factor) == pytest.approx(level, rel=1e-6)


def test_no_crossing_says_which_side_the_chip_is_on() -> None:
    above = crossing(lambda factor: 2.0 + factor, 1.0, 5.0)
    below = crossing(lambda factor: 2.0 + factor, 8.0, 5.0)
    assert above.factor is None and "more even without" in above.why
    assert below.factor is None and "less even at" in below.why
    at_the_end = crossing(lambda factor: 2.0 + factor, 7.0, 5.0)
    assert at_the_end.factor == pytest.approx(5.0)


def test_break_even_recomputed_by_the_estimate_at_that_rate(own: Counted, found: WhatIf) -> None:
    met = [row for row in found.break_even if row.value.factor is not None]
    assert met
    levels = {row.name: row.energy_j for row in found.references}
    for row in met:
        assert row.value.factor is not None
        low, value, high = joules(scaled(own, row.value.factor), row.chip)
        assert value == pytest.approx(levels[row.against], rel=1e-4)
        assert low <= levels[row.against] <= high


def test_break_even_is_none_where_energies_never_meet(found: WhatIf) -> None:
    for row in found.break_even:
        if row.against == "1e-12":
            assert row.value.factor is None and "more even without" in row.value.why
        if row.against == "1":
            assert row.value.factor is None and "less even at" in row.value.why


def test_the_ends_of_a_break_even_take_opposite_ends_of_both_ranges(own: Counted) -> None:
    low, value, high = (joules(scaled(own, 0.5), "loihi1")[k] for k in range(3))
    level = reference(value, value * 0.99, value * 1.01)
    question = Question(rates=(1.0,), chips=("loihi1",))
    row, *_ = what_if(network(), images(), question, [level], seed=0).break_even
    assert row.value.factor == pytest.approx(0.5, rel=1e-3)
    if row.low.factor is not None:  # the chip at its high end meets the level at a lower rate
        assert row.low.factor <= 0.5
        assert joules(scaled(own, row.low.factor), "loihi1")[2] == pytest.approx(
            level.low, rel=1e-4
        )
    else:
        assert joules(scaled(own, 0.0), "loihi1")[2] >= level.low
    if row.high.factor is not None:
        assert row.high.factor >= 0.5


def test_a_reference_without_an_upper_bound_bounds_nothing() -> None:
    open_end = replace(reference(1e-7), high=None)
    question = Question(rates=(1.0,), chips=("loihi2",))
    row, *_ = what_if(network(), images(), question, [open_end], seed=0).break_even
    assert row.high.factor is None and "nothing bounds" in row.high.why


@pytest.mark.parametrize("encoding", ["poisson", "direct"])
@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_energy_by_rate_is_the_estimates_at_every_rate(encoding: str, chip: str) -> None:
    counted = count(network(encoding), images(), seed=0)
    spec = chips.get(chip)
    placement = place(counted.graph, spec, traffic=counted.traffic)
    energy = RateEnergy(counted, placement)
    for factor in (0.0, 0.3, 1.0, 1.7):
        there = scaled(counted, factor)
        found = estimate(
            there.graph, there.counts, spec, traffic=there.traffic, placement=placement
        ).energy
        assert energy.at(factor, "value") == pytest.approx(found.dynamic + found.static, rel=1e-6)
        assert energy.at(factor, "high") == pytest.approx(found.high, rel=1e-6)
        # counts are whole numbers, so the share that meets a weight is rounded in the estimate
        assert energy.at(factor, "low") == pytest.approx(found.low, rel=1e-2)


# --- the rate ---------------------------------------------------------------------------------


def test_scaling_by_one_changes_nothing(own: Counted) -> None:
    same = scaled(own, 1.0)
    assert same.counts.per_inference() == own.counts.per_inference()
    for name, sent in own.traffic.messages.items():
        np.testing.assert_array_equal(same.traffic.messages[name], sent)


def test_scaling_doubles_events_and_leaves_updates(own: Counted) -> None:
    once, twice = own.counts.per_inference(), scaled(own, 2.0).counts.per_inference()
    assert twice["synops"]["connected"] == 2 * once["synops"]["connected"]
    assert twice["synops"]["dense"] == once["synops"]["dense"]
    assert twice["spikes"] == 2 * once["spikes"]
    assert twice["input_spikes"] == 2 * once["input_spikes"]
    assert twice["neuron_updates"] == once["neuron_updates"]


def test_direct_input_stays_at_any_rate() -> None:
    counted = count(network("direct"), images(), seed=0)
    silent = scaled(counted, 0.0)
    once, none = counted.counts.per_inference(), silent.counts.per_inference()
    assert none["input_spikes"] == once["input_spikes"] > 0
    assert none["layers"][0]["synops_connected"] == once["layers"][0]["synops_connected"] > 0
    assert none["layers"][1]["synops_connected"] == 0
    assert none["spikes"] == 0
    np.testing.assert_array_equal(
        silent.traffic.messages["input"], counted.traffic.messages["input"]
    )


def test_the_largest_factor_makes_one_layer_send_in_every_step(own: Counted) -> None:
    full = scaled(own, most_often(own))
    rates = [
        float(sent.sum()) / ((T if name == "input" else own.counts.num_steps) * sent[0].size)
        for name, sent in full.traffic.messages.items()
    ]
    assert max(rates) == pytest.approx(1.0, rel=1e-5)


def test_spikes_per_step_is_the_mean_over_neurons_and_working_steps(own: Counted) -> None:
    rates = own.counts.per_inference()
    neurons = sum(int(np.prod(n.shape)) for n in own.graph.nodes[:-1]) + 64
    expected = (rates["input_spikes"] + rates["spikes"]) / (neurons * T)
    assert spikes_per_step(own) == pytest.approx(expected)


# --- weight bits ------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", range(1, 9))
def test_cut_weights_are_what_the_bits_hold_and_no_larger(bits: int) -> None:
    graph = network()
    cut = with_weight_bits(graph, bits)
    for before, after in zip(graph.synapses, cut.synapses, strict=True):
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


def float_network() -> tuple[nir.NIRGraph, FixedGraph]:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)
    )
    values = images(16).values[:]
    snn = convert(
        trace(module, (1, 8, 8)).eval(), values, num_steps=T, encoding="direct", balance="mse"
    )
    graph = to_nir(snn)
    return graph, quantize(graph, chip="loihi2", weight_bits=8)


def test_with_the_float_network_each_width_is_quantized_and_run() -> None:
    float_graph, graph = float_network()
    question = Question(weight_bits=(8, 3), chips=("loihi2",))
    found = what_if(graph, images(16), question, [], seed=0, network=float_graph)
    assert {point.source for point in found.points} == {"quantized anew"}
    for point in found.points:
        there = count(
            quantize(float_graph, chip="loihi2", weight_bits=int(point.at)), images(16), seed=0
        )
        placement = place(there.graph, chips.get("loihi2"), traffic=there.traffic)
        expected = estimate(
            there.graph, there.counts, chips.get("loihi2"), traffic=there.traffic,
            placement=placement,
        ).energy  # fmt: skip
        assert point.accuracy == there.accuracy
        assert point.to_json()["energy_j"]["dynamic"] == expected.dynamic
    cut = what_if(graph, images(16), question, [], seed=0)
    assert {point.source for point in cut.points} == {"cut for placement"}


def test_a_float_network_of_other_layers_is_refused() -> None:
    float_graph, _ = float_network()
    question = Question(weight_bits=(8,), chips=("loihi2",))
    with pytest.raises(DeployError, match="other layers"):
        what_if(network(), images(), question, [], seed=0, network=float_graph)


def test_runs_are_counted_for_the_progress_bar() -> None:
    done: list[int] = []
    question = Question(steps=(2, 3), weight_bits=(8, 4), rates=(1.0,), chips=("loihi2",))
    what_if(network(), images(), question, [], seed=0, progress=done.append)
    assert sum(done) == runs_needed(question, requantized=False) * 5 == 15
    assert runs_needed(question, requantized=True) == 5


def test_the_gpus_row_counts_the_anns_macs() -> None:
    graph = network()
    # 64 places x 4 channels x 9 taps, 16 x 4 x 36, and 64 x 10
    assert ann_macs(graph) == 64 * 36 + 16 * 144 + 640
    row = gpu_row(graph, images())
    assert row.kind == "modelled"
    assert row.energy_j == pytest.approx(2 * ann_macs(graph) * 400 / 312e12)


# --- the points -------------------------------------------------------------------------------


def at(found: WhatIf, axis: str, chip: str) -> dict[float, dict[str, Any]]:
    return {p.at: p.to_json() for p in found.points if (p.axis, p.chip) == (axis, chip)}


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_energy_latency_and_bounds_grow_with_the_rate(found: WhatIf, chip: str) -> None:
    points = [at(found, "rate", chip)[rate] for rate in (0.0, 0.5, 1.0)]
    for less, more in zip(points, points[1:], strict=False):
        for key in ("low", "value", "high", "dynamic"):
            assert less["energy_j"][key] < more["energy_j"][key]
        assert less["latency_s"] <= more["latency_s"]
        assert less["cores"] == more["cores"]


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_each_point_is_the_estimate_there(found: WhatIf, own: Counted, chip: str) -> None:
    spec = chips.get(chip)
    expected = estimate(
        own.graph, own.counts, spec, traffic=own.traffic,
        placement=place(own.graph, spec, traffic=own.traffic),
    ).to_json()  # fmt: skip
    total = expected["energy_j"]["dynamic"] + expected["energy_j"]["static"]
    # the network as it is lies on every axis: at its own T, width and rate
    for axis, value in (("steps", T), ("weight_bits", 8), ("rate", 1.0)):
        point = at(found, axis, chip)[value]
        assert point["energy_j"]["value"] == total
        assert point["latency_s"] == expected["latency_s"]
        assert point["cores"] == expected["cores"]
    short = count(network(), images(), seed=0, num_steps=2)
    there = estimate(
        short.graph, short.counts, spec, traffic=short.traffic,
        placement=place(short.graph, spec, traffic=short.traffic),
    ).to_json()  # fmt: skip
    assert at(found, "steps", chip)[2]["latency_s"] == there["latency_s"]
    assert at(found, "steps", chip)[2]["accuracy"] == short.accuracy


def test_only_what_was_run_has_an_accuracy(found: WhatIf) -> None:
    for point in found.points:
        assert (point.accuracy is not None) == (point.source in ("simulated", "quantized anew"))
    assert {p.source for p in found.points if p.axis == "weight_bits"} == {"cut for placement"}


def test_fewer_weight_bits_take_no_more_memory() -> None:
    spec = chips.get("loihi1")
    placed = [place(with_weight_bits(network(), bits), spec) for bits in (8, 4)]
    eight, four = (
        sum(core.synapse_bits for layer in one.layers for core in layer.cores) for one in placed
    )
    assert four < eight


def test_a_rate_beyond_every_step_is_left_out_and_said() -> None:
    question = Question(rates=(1.0, 1e6), chips=("loihi2",))
    found = what_if(network(), images(), question, [], seed=0)
    assert [point.at for point in found.points] == [1.0]
    assert len(found.left_out) == 1 and "1e+06" in found.left_out[0]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "nothing to vary"),
        ({"steps": (4, 4)}, "twice"),
        ({"steps": (0,)}, "from 1 on"),
        ({"rates": (-0.5,)}, "from 0 on"),
        ({"rates": (float("nan"),)}, "from 0 on"),
        ({"weight_bits": (9,)}, "8"),
        ({"steps": (4,), "chips": ("loihi9",)}, "loihi9"),
        ({"steps": (4,), "chips": ("loihi1", "loihi1")}, "twice"),
    ],
)
def test_questions_without_an_answer_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Question(**options)


# --- JSON and picture -------------------------------------------------------------------------


def test_the_json_object_has_its_keys_and_survives_json(found: WhatIf) -> None:
    result = json.loads(json.dumps(found.to_json()))
    assert set(result) == {
        "kind", "network", "chips", "points", "references", "break_even", "left_out", "assumptions",
    }  # fmt: skip
    assert result["kind"] == "estimated"
    assert result["network"]["num_steps"] == T
    assert len(result["points"]) == (3 + 2 + 3) * 2
    for point in result["points"]:
        energy = point["energy_j"]
        assert set(energy) == {"low", "value", "high", "dynamic", "static"}
        assert energy["low"] <= energy["value"] <= energy["high"]
        assert energy["value"] == energy["dynamic"] + energy["static"]
        assert point["chip"] in result["chips"]
        assert point["fits"] is (not point["reasons"])
    assert len(result["break_even"]) == 2 * 5  # three levels and two quantized ANNs
    for row in result["break_even"]:
        for end in ("low", "value", "high"):
            assert (row[end]["factor"] is None) != (row[end]["why"] is None)
    assert any("accuracy" in line for line in result["assumptions"])


def test_the_picture_says_every_point_and_opens_again(found: WhatIf, tmp_path: Path) -> None:
    from xml.etree import ElementTree

    from PIL import Image

    result = found.to_json()
    write_what_if_picture(result, tmp_path / "w.svg")
    root = ElementTree.parse(tmp_path / "w.svg").getroot()
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert root.get("role") == "img" and title is not None
    assert title.text == root.get("aria-label") == alt_text(result)
    assert title.text.count("cores") >= len(result["points"])
    words = "".join(root.itertext())
    for unit in ("energy an inference, J", "latency, s", "cores", "weight bits"):
        assert unit in words
    write_what_if_picture(result, tmp_path / "w.png")
    with Image.open(tmp_path / "w.png") as picture:
        assert picture.text["Description"] == alt_text(result)  # type: ignore[attr-defined]
        assert min(picture.size) > 500
    assert {path.name for path in tmp_path.iterdir()} == {"w.svg", "w.png"}


def test_a_picture_of_another_format_is_refused_before_anything_is_written(
    found: WhatIf, tmp_path: Path
) -> None:
    with pytest.raises(DeployError, match=r"\.svg or \.png"):
        write_what_if_picture(found.to_json(), tmp_path / "w.jpg")
    assert not list(tmp_path.iterdir())
