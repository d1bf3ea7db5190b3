"""What-if: each point is the estimate at that point; its JSON, its picture, its refusals."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nir
import pytest
import torch
from estimate_cases import T, images, network
from matplotlib.figure import Figure
from torch import nn
from what_if_cases import joules, reference

from spikeship.deploy.analysis.rates import scaled
from spikeship.deploy.analysis.what_if import Question, runs_needed, what_if
from spikeship.deploy.analysis.what_if_result import WhatIf
from spikeship.deploy.compiler.quantize import quantize
from spikeship.deploy.errors import DeployError
from spikeship.deploy.report import what_if_picture
from spikeship.deploy.report.what_if_picture import alt_text, write_what_if_picture
from spikeship.deploy.run.counting import Counted, count
from spikeship.hw_models import chips
from spikeship.hw_models.estimate import estimate
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.placer.place import place
from spikeship.training.conversion.convert import convert
from spikeship.training.frontends.trace import trace
from spikeship.training.nir_io.to_nir import to_nir

QUESTION = Question(
    steps=(2, T, 9), weight_bits=(8, 4), rates=(0.0, 0.5, 1.0), chips=("loihi1", "loihi2")
)


@pytest.fixture(scope="module")
def own() -> Counted:
    return count(network(), images(), seed=0)


@pytest.fixture(scope="module")
def found(own: Counted) -> WhatIf:
    between = sum(joules(scaled(own, factor), "loihi1")[1] for factor in (0.5, 0.6)) / 2
    references = [replace(reference(level), name=f"{level:.3g}") for level in (between, 1e-12, 1.0)]
    return what_if(network(), images(), QUESTION, references, seed=0)


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


def test_a_rate_beyond_every_step_is_left_out_and_said() -> None:
    question = Question(rates=(1.0, 1e6), chips=("loihi2",))
    found = what_if(network(), images(), question, [], seed=0)
    assert [point.at for point in found.points] == [1.0]
    assert len(found.left_out) == 1 and "1e+06" in found.left_out[0]


def test_where_every_point_is_left_out_it_says_which_and_why() -> None:
    question = Question(rates=(1e3, 1e6), chips=("loihi2",))
    with pytest.raises(DeployError, match=r"every point is left out: rate 1000: .*; rate 1e\+06: "):
        what_if(network(), images(), question, [], seed=0)


def test_the_assumptions_say_what_flat_lines_and_unlike_sides_rest_on(found: WhatIf) -> None:
    said = " ".join(found.assumptions)
    for words in (
        "the same time and energy at any width",
        "includes_idle",
        "on padding too, as dense kernels do",
        "on its average",
    ):
        assert words in said
    # what the first of them says holds: cut for the placement, only the cores could differ
    for chip in found.chips:
        eight, four = (at(found, "weight_bits", chip)[bits] for bits in (8, 4))
        if eight["cores"] == four["cores"]:
            assert eight["latency_s"] == four["latency_s"]
            assert eight["energy_j"]["dynamic"] == four["energy_j"]["dynamic"]


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
            assert set(row[end]) == {"factor", "why", "spikes_per_step", "share_beyond_once"}
    assert all(row["includes_idle"] is False for row in result["references"])
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


@pytest.mark.parametrize(("many", "letters"), [(3, 20), (6, 60), (10, 56), (10, 110)])
def test_names_of_any_length_stay_inside_the_picture(
    many: int, letters: int, found: WhatIf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(what_if_picture, "save", lambda figure, *_: drawn.append(figure))
    result = found.to_json()
    row = result["references"][0]
    names = [f"{number} ".ljust(letters, "e") for number in range(many)]
    result |= {"references": [{**row, "name": name} for name in names], "break_even": []}
    what_if_picture.write_what_if_picture(result, tmp_path / "w.png")
    (figure,) = drawn
    figure.canvas.draw()
    (legend,) = figure.legends
    inside = legend.get_window_extent()
    assert inside.x1 <= figure.bbox.x1 and inside.y1 <= figure.bbox.y1
    below = min(axes.get_window_extent().height for axes in figure.axes)
    assert below > figure.bbox.height / 8
    assert len({text.get_text() for text in legend.get_texts()}) == many + len(result["chips"])


def test_a_picture_of_another_format_is_refused_before_anything_is_written(
    found: WhatIf, tmp_path: Path
) -> None:
    with pytest.raises(DeployError, match=r"\.svg or \.png"):
        write_what_if_picture(found.to_json(), tmp_path / "w.jpg")
    assert not list(tmp_path.iterdir())


def test_the_pictures_words_give_three_digits_of_both_ends() -> None:
    energy = {"low": 1.2345e-6, "value": 2.3456e-6, "high": 6.7891e-6}
    point = {
        "axis": "steps", "at": 4, "chip": "loihi1", "energy_j": energy, "latency_s": 4.5678e-5,
        "cores": 3, "fits": True,
    }  # fmt: skip
    words = alt_text({"points": [point], "break_even": []})
    assert "2.35e-06 J (1.23e-06 to 6.79e-06), 4.57e-05 s, 3 cores" in words
