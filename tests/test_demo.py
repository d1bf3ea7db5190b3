"""The main job as a pip user runs it: from the wheel, in another environment, end to end."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from spikeship.deploy.io import network_file as files


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo")


@pytest.fixture(scope="module")
def said(installed_wheel: Path, out: Path) -> dict[str, Any]:
    done = subprocess.run(
        [installed_wheel, "demo", "--out", "made", "--json", "-"],
        cwd=out,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)  # and nothing else stood there
    return result


def test_every_stage_keeps_the_accuracy(said: dict[str, Any]) -> None:
    rows = {row["stage"]: row for row in said["rows"]}
    assert list(rows) == ["ann", "converted", "hybrid", "integer", "lava"]
    assert rows["ann"]["accuracy"] >= 0.97
    assert rows["hybrid"]["accuracy"] >= rows["ann"]["accuracy"] - 0.01
    assert abs(rows["integer"]["accuracy"] - rows["hybrid"]["accuracy"]) <= 0.005
    assert rows["hybrid"]["num_steps"] <= 20
    assert rows["ann"]["images"] == rows["hybrid"]["images"] == rows["integer"]["images"] == 500


def test_lava_is_equal_spike_for_spike(said: dict[str, Any]) -> None:
    check = said["verify"]
    assert check["spikes_equal"] is True
    assert check["images"] >= 20
    assert check["spikes_compared"] > 0
    assert sum(row["spikes"] or 0 for row in check["layers"]) > 0


def test_the_artifacts_are_there(said: dict[str, Any], out: Path) -> None:
    made = out / "made"
    names = {path.name for path in made.iterdir()}
    assert names == {
        "ann.safetensors",
        "snn.nir",
        "tuned.nir",
        "net.safetensors",
        "lava",
        "report.html",
        "demo.json",
    }
    assert files.load(made / "net.safetensors").num_steps == 16
    assert json.loads((made / "demo.json").read_text()) == said
    assert said["report"] == str(made / "report.html")
