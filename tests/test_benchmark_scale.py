"""The scaling benchmark: what a row says is what was run, and figures show the rows."""

import json
import os
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
import scale
from speed import pages, scale_figures

import cases
from spikeship.deploy.io import network_file as files
from spikeship.hw_models.simulator.simulator import simulate


def test_a_row_is_of_the_network_and_messages_it_names(tmp_path: Path) -> None:
    graph = cases.graph("pool_conv")
    messages = cases.messages(graph, 4)
    files.save(graph, tmp_path / "net.safetensors")
    np.save(tmp_path / "messages.npy", messages)
    row = scale._in_a_process(tmp_path / "net.safetensors", tmp_path / "messages.npy", 1)
    counts = simulate(graph, messages).counts
    synops = counts.per_inference()["synops"]["effective"]
    assert row["synops_per_image"] == pytest.approx(synops)
    assert 0 < row["activity"] < 1
    assert 0 < row["seconds_per_image"] < 1
    assert 0 < row["before_bytes"] <= row["peak_bytes"] < 8e9


def test_every_case_differs_and_has_a_panel() -> None:
    for chosen in (scale.CASES, scale.QUICK):
        assert len(set(chosen)) == len(chosen)
        assert {case.axis for case in chosen} - {"large"} == set(scale_figures.PANELS)
    large = [(case.arch, case.side, case.num_steps) for case in scale.CASES if case.axis == "large"]
    assert ("vgg16", 32, 100) in large
    assert ("resnet34", 224, 4) in large


def _rows() -> list[dict[str, Any]]:
    measured = {"seconds_per_image": 0.03, "peak_bytes": 2e9, "before_bytes": 1e9, "activity": 0.05}
    return [scale.asdict(case) | measured for case in scale.CASES]


def test_figures_are_of_the_rows_and_the_same_for_the_same(tmp_path: Path) -> None:
    before = matplotlib.rcParams["font.size"]
    scale_figures.draw(_rows(), tmp_path / "a")
    scale_figures.draw(_rows(), tmp_path / "b")
    other = _rows()
    other[0]["seconds_per_image"] *= 2
    scale_figures.draw(other, tmp_path / "c")
    cost = [(tmp_path / folder / scale_figures.COST).read_text() for folder in "abc"]
    assert cost[0] == cost[1] != cost[2]
    memory = [(tmp_path / folder / scale_figures.MEMORY).read_text() for folder in "abc"]
    assert memory[0] == memory[1] == memory[2]
    assert matplotlib.rcParams["font.size"] == before
    assert sorted(os.listdir(tmp_path / "a")) == [scale_figures.COST, scale_figures.MEMORY]


def test_the_page_shows_the_recorded_runs_and_nothing_else() -> None:
    page = pages.PAGE.read_text()
    assert pages.filled(page, pages.MEASURED) == page


def test_another_run_makes_another_page(tmp_path: Path) -> None:
    for name in ("simulator", "scale"):
        text = (pages.MEASURED / f"{name}.json").read_text()
        (tmp_path / f"{name}.json").write_text(text)
    result = json.loads((tmp_path / "simulator.json").read_text())
    result["seconds_per_image"]["lava"] = 123.4
    (tmp_path / "simulator.json").write_text(json.dumps(result))
    page = pages.PAGE.read_text()
    other = pages.filled(page, tmp_path)
    assert other != page
    assert "| 123.4 |" in other
    with pytest.raises(ValueError, match="0 sections <!-- scale -->"):
        pages.filled(page.replace("<!-- scale -->", ""), tmp_path)


def test_the_recorded_run_reaches_its_bar() -> None:
    result = json.loads((pages.MEASURED / "simulator.json").read_text())
    seconds = result["seconds_per_image"]
    assert result["spikes_equal"] and all(result["compared"].values())
    assert result["num_steps"] == 75
    assert result["ratios"]["lava_vs_spikeship"] == pytest.approx(
        seconds["lava"] / seconds["spikeship"]
    )
    assert result["full"]["vgg5"]["images"] == 10_000
    assert result["full"]["vgg5"]["seconds"] < 900
    assert result["full"]["vgg16"]["images"] == 1_000
    assert result["full"]["vgg16"]["peak_bytes"] < 8e9
