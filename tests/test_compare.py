"""The table of stages: what each row is held against."""

from pathlib import Path

import numpy as np
import pytest
import torch

import cases
from spikeship.deploy.analysis.compare import Comparison, _Rows
from spikeship.deploy.cli.app import main
from spikeship.deploy.io.inputs import Images
from spikeship.deploy.report.pictures import ReportFigures
from spikeship.deploy.run.verify import verify
from spikeship.hw_models.lava import runner
from spikeship.hw_models.reference import interpreter as reference


def test_nothing_is_held_against_a_row_aside() -> None:
    images = Images(torch.zeros(4, 1, 2, 2), None, torch.arange(4), {"name": "none"})
    rows = _Rows(images)
    rows.add("ann", np.array([0, 1, 2, 3]))
    rows.add("int8", np.array([0, 9, 9, 9]), aside=True)
    rows.add("converted", np.array([0, 1, 2, 9]))
    assert [row["agreement_with_previous"] for row in rows.rows] == [None, 0.25, 0.75]


@pytest.mark.parametrize(("differs", "status"), [(None, 0), (False, 0), (True, 1)])
def test_the_exit_status_is_lavas_answer(
    differs: bool | None, status: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Lava not asked, Lava equal, and one value of Lava's that is another."""
    graph = cases.graph("conv")
    messages = cases.messages(graph, 1)
    found = None
    if differs is not None:
        recording = reference.run(graph, messages)
        if differs:
            recording.nodes["out"][0, -1, 0] += 1
        monkeypatch.setattr(runner, "run", lambda *_, **__: runner.LavaRun(recording, 0.0))
        found = verify(graph, messages, "lava")
        assert found.spikes_equal is not differs
    result = Comparison({"rows": []}, ReportFigures({}, [], {}, ""), found)
    for name, value in (
        ("network_file.load", graph),
        ("images_for", None),
        ("classifier.load", None),
        ("compare_stages", result),
        ("table", ""),
    ):
        monkeypatch.setattr(
            f"spikeship.deploy.verbs.compare.{name}", lambda *_, value=value, **__: value
        )
    monkeypatch.setattr(Comparison, "write", lambda self, path: {"report": str(path)})
    net, report = tmp_path / "net.safetensors", tmp_path / "report.html"
    words = ["compare", "--net", str(net), "--data", "digits", "--report", str(report), "--quiet"]
    assert main(words) == status
