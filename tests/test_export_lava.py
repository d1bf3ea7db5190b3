"""An exported directory runs by itself, with nothing of ours to import, and gives equal spikes."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import cases
from spikeship.deploy.errors import DeployError
from spikeship.deploy.export.lava import export_lava
from spikeship.hw_models.reference import interpreter as reference


@pytest.mark.parametrize(
    "name", ["residual_pooled", "pool_dense", "sigma_delta_errors", "delays_full"]
)
def test_the_directory_runs_alone(name: str, tmp_path: Path) -> None:
    graph = cases.graph(name)
    export_lava(graph, tmp_path / "net")
    messages = cases.messages(graph, 2 if graph.gated else 1)
    np.save(tmp_path / "messages.npy", messages)
    blocked = "import sys; sys.modules['spikeship'] = None; import runpy; "
    code = f"{blocked}sys.argv[0] = 'run.py'; sys.path.insert(0, 'net'); "
    code += "runpy.run_path('net/run.py', run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code, "messages.npy", "-o", "activity.npz"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    expected = reference.run(graph, messages)
    with np.load(tmp_path / "activity.npz") as activity:
        assert set(activity.files) == set(expected.nodes)
        for node, values in expected.nodes.items():
            np.testing.assert_array_equal(activity[node], values)


def test_names_of_nodes_are_no_arguments(tmp_path: Path) -> None:
    graph = cases.graph("dense")
    names = dict(zip((node.name for node in graph.nodes), ("file", "allow_pickle"), strict=False))
    graph = replace(
        graph,
        nodes=tuple(replace(n, name=names.get(n.name, n.name)) for n in graph.nodes),
        synapses=tuple(
            replace(s, source=names.get(s.source, s.source), target=names.get(s.target, s.target))
            for s in graph.synapses
        ),
    )
    export_lava(graph, tmp_path / "net")
    messages = cases.messages(graph, 1)
    np.save(tmp_path / "messages.npy", messages)
    command = [sys.executable, "net/run.py", "messages.npy"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=120)
    expected = reference.run(graph, messages)
    with np.load(tmp_path / "activity.npz") as activity:
        assert "file" in activity.files and set(activity.files) == set(expected.nodes)
        np.testing.assert_array_equal(activity["file"], expected.nodes["file"])


def test_an_export_replaces_only_an_export(tmp_path: Path) -> None:
    graph = cases.graph("dense")
    folder = tmp_path / "net"
    export_lava(graph, folder)
    export_lava(graph, folder)
    assert [path.name for path in tmp_path.iterdir()] == ["net"], "scratch was left"
    (folder / "measured.npz").write_text("kept beside it")
    with pytest.raises(DeployError, match="holds measured.npz"):
        export_lava(graph, folder)
    assert (folder / "measured.npz").exists()
    theirs = tmp_path / "mine"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("years of work")
    with pytest.raises(DeployError, match="not an export"):
        export_lava(graph, theirs)
    assert (theirs / "thesis.txt").read_text() == "years of work"


def test_run_refuses_what_the_input_cannot_hold(tmp_path: Path) -> None:
    export_lava(cases.graph("unsigned"), tmp_path / "net")
    for values, says in ((3, "must lie in 0..1"), (-1, "must lie in 0..1")):
        np.save(tmp_path / "m.npy", np.full((1, 4, 2, 6, 6), values))
        done = subprocess.run(
            [sys.executable, "net/run.py", "m.npy"], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert done.stderr.strip().splitlines() == [f"messages {says}"]
