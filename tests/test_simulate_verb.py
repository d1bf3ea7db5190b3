"""The verb simulate: its JSON, its options, and recordings that equal the reference's."""

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikeship.deploy.cli.app import main
from spikeship.deploy.errors import DeployError
from spikeship.deploy.io import network_file as files
from spikeship.deploy.io import record_file
from spikeship.deploy.io.inputs import images_for, messages_of
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.reference import interpreter as reference

STEPS = 10
Run = Callable[..., dict[str, Any]]


def _weights(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return 2 * np.random.default_rng(seed).integers(-40, 41, shape)


def network(depth: int = 1) -> FixedGraph:
    """A network for 8 x 8 digits, with a side branch of ``depth`` nodes that nobody reads."""
    branch = [Neuron(f"side{place}", (6,), vth=np.array(40)) for place in range(depth)]
    chain = ["conv", *(node.name for node in branch)]
    first = Conv(
        name="c", source="pixels", target="conv", weight=_weights(4, 1, 3, 3), padding=(1, 1)
    )
    aside = [
        Dense(
            name=f"{source}-{target}",
            source=source,
            target=target,
            weight=_weights(6, 256 if source == "conv" else 6, seed=place),
        )
        for place, (source, target) in enumerate(zip(chain[:-1], chain[1:], strict=True))
    ]
    return FixedGraph(
        Input("pixels", (1, 8, 8), scale=4.0),
        (Neuron("conv", (4, 8, 8), vth=np.array(90)), *branch, Readout("out", (10,))),
        (
            first,
            *aside,
            Dense(name="d", source="conv", target="out", weight=_weights(10, 256, seed=1)),
        ),
        num_steps=STEPS,
    )


@pytest.fixture
def net(tmp_path: Path) -> Path:
    path = tmp_path / "net.safetensors"
    files.save(network(), path)
    return path


@pytest.fixture
def run(tmp_path: Path, net: Path) -> Run:
    """Simulate the network on digits with some options; returns the JSON object."""

    def run(*options: Any, status: int = 0, data: str = "digits") -> dict[str, Any]:
        said = tmp_path / "said.json"
        words = ["simulate", net, "--data", data, *options, "--json", said, "--quiet"]
        assert main([str(word) for word in words]) == status
        result: dict[str, Any] = json.loads(said.read_text())
        return result

    return run


def test_accuracy_after_every_step(run: Run) -> None:
    said = run("-n", 40)
    by_step = said["accuracy_by_step"]
    assert len(by_step) == STEPS
    assert by_step[-1] == said["accuracy"] == said["correct"] / 40
    assert by_step[3] == run("-n", 40, "-T", 4)["accuracy"]
    assert len(set(by_step)) > 2


def test_without_labels_there_is_none(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "some.npz", x_test=np.random.default_rng(0).random((5, 1, 8, 8)))
    said = run(data=f"npz:{tmp_path / 'some.npz'}")
    assert (said["images"], said["accuracy"], said["accuracy_by_step"]) == (5, None, None)
    said = run("--early-exit", 20, data=f"npz:{tmp_path / 'some.npz'}")
    cost = said["early_exit"]
    assert (cost["accuracy"], cost["full_accuracy"], cost["cost_images"]) == (None, None, 5)


def test_counts_by_chip_step_add_up(run: Run) -> None:
    assert all("per_step" not in row for row in run("-n", 4)["layers"])
    said = run("-n", 4, "--per-step")
    assert [row["name"] for row in said["layers"]] == ["conv", "side0", "out"]
    for row in said["layers"]:
        assert set(row["per_step"]) == {
            "spikes", "synops_effective", "neuron_updates", "messages_in"
        }  # fmt: skip
        for name, values in row["per_step"].items():
            assert len(values) == said["chip_steps"]
            assert sum(values) == pytest.approx(row[name])
    assert said["layers"][0]["per_step"]["spikes"][0] == 0  # a gate later than the input
    assert said["layers"][0]["spikes"] > 0


def test_how_it_is_run_changes_nothing(run: Run) -> None:
    whole = run("-n", 30)
    assert run("-n", 30, "--threads", 1, "--batch", 7, "--memory", 0.001) == whole
    assert run("-n", 30, "--on", "cpu", "--device", "cpu") == whole


def test_early_exit_says_what_it_costs(run: Run) -> None:
    full = run("-n", 60)
    assert "early_exit" not in full
    said = run("-n", 60, "--early-exit", 300, "--cost-images", 25)
    cost = said["early_exit"]
    assert (cost["margin"], cost["cost_images"]) == (300.0, 25)
    histogram = cost["steps_histogram"]
    assert len(histogram) == STEPS and sum(histogram) == 60
    mean = sum(count * (place + 1) for place, count in enumerate(histogram)) / 60
    assert cost["mean_steps"] == pytest.approx(mean)
    assert 1 < mean < STEPS and sum(count > 0 for count in histogram) > 5
    assert cost["full_accuracy"] == run("-n", 25)["accuracy"]
    assert cost["accuracy"] == run("-n", 25, "--early-exit", 300)["accuracy"]
    assert 0 < cost["agreement"] < 1 and cost["accuracy"] != cost["full_accuracy"]
    assert said["spikes"] < full["spikes"] and said["accuracy_by_step"][-1] == said["accuracy"]
    never = run("-n", 60, "--early-exit", 1e9)
    assert never.pop("early_exit")["agreement"] == 1.0
    assert never == full


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_a_recording_is_the_references(
    depth: int, run: Run, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.save(network(depth), net)
    graph = files.load(net)
    monkeypatch.chdir(tmp_path)
    said = run("-n", 11, "--record", "r.npz", "--membranes", "--batch", 4, "--seed", 5)
    messages = messages_of(graph, images_for(graph, "digits", None, 11), seed=5)
    expected = reference.run(graph, messages)
    names = [node.name for node in graph.nodes]
    with np.load("r.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {"input", *names, *(f"{name}.v" for name in names)}
        np.testing.assert_array_equal(arrays["input"], messages)
        for name in names:
            np.testing.assert_array_equal(arrays[name], expected.nodes[name], err_msg=name)
            np.testing.assert_array_equal(arrays[f"{name}.v"], expected.potentials[name])
            assert arrays[name].dtype == (np.int32 if name == "out" else np.uint8)
        spikes = sum(int(arrays[name].sum()) for name in names if name != "out")
    assert said["spikes"] == pytest.approx(spikes / 11) and spikes > 0
    assert said == run("-n", 11, "--seed", 5)


def test_spooled_blocks_become_one_array(tmp_path: Path) -> None:
    """Whatever their kinds: bits that end within a byte, wider numbers, none at all."""
    blocks = [
        np.ones((3, 5, 1), np.uint8),
        np.array([[[0], [1], [0], [200], [3]]], np.uint8),
        np.array([[[-4], [1], [70000], [0], [3]]], np.int32),
        np.zeros((0, 5, 1), np.uint8),
        np.zeros((2, 5, 1), np.uint8),
    ]
    with record_file.writing(tmp_path / "a.npz") as record:
        for block in blocks:
            record(Recording(num_steps=5, input=block, nodes={}))
    with np.load(tmp_path / "a.npz") as arrays:
        np.testing.assert_array_equal(arrays["input"], np.concatenate(blocks))


def test_a_recording_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), record_file.writing(path) as record:
        record(Recording(num_steps=5, input=np.ones((1, 5, 2)), nodes={}))
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_refused_before_the_run(
    net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(0, 0, 20_000))
    record = str(tmp_path / "big.npz")
    assert main(["simulate", str(net), "--data", "digits", "--record", record]) == 2
    error = capsys.readouterr().err
    assert "--record: 500 images may take" in error and "use -n 6 or fewer" in error
    assert main(["simulate", str(net), "--data", "digits", "--record", record, "-n", "6"]) == 0
    assert main(["simulate", str(net), "--data", "digits", "--record", record, "-n", "7"]) == 2


def test_two_arrays_of_one_name_are_refused(tmp_path: Path) -> None:
    graph = FixedGraph(
        Input("pixels", (2,)),
        (Neuron("input", (2,), vth=np.array(2)), Readout("out", (2,))),
        (
            Dense(name="a", source="pixels", target="input", weight=_weights(2, 2)),
            Dense(name="b", source="input", target="out", weight=_weights(2, 2)),
        ),
    )
    with pytest.raises(DeployError, match="two arrays would be called 'input'"):
        record_file.check_room(tmp_path / "r.npz", graph, 1, 4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--membranes", "give --record"),
        ("--record r.npz --early-exit 3", "leave out --early-exit"),
        ("--record r.npz --workers 2", "leave out --workers"),
        ("--on cuda --device cpu", "contradicts"),
        ("--on cuda --workers 2", "one process"),
        ("--on cuda", "no CUDA device"),
        ("--device cuda", "no CUDA device"),
        ("--on lava --early-exit 3", "--on lava"),
        ("--on lava --threads 2", "--on lava"),
        ("--on lava --address here:1", "--on lava"),
        ("--early-exit nan", "--early-exit"),
        ("--early-exit -1", "--early-exit"),
        ("--memory 0", "--memory"),
        ("--memory nan", "--memory"),
        ("--threads 0", "--threads"),
        ("--workers 0", "--workers"),
        ("--address nowhere", "HOST:PORT"),
        ("--on gpu", "--on"),
    ],
)
def test_options_that_make_no_sense_get_one_line(
    options: str,
    says: str,
    net: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(net.parent)
    assert main(["simulate", str(net), "--data", "digits", *options.split()]) == 2
    error = capsys.readouterr().err.strip()
    assert "\n" not in error and error.startswith("spikeship: ")
    assert says in error
    assert [path.name for path in net.parent.iterdir()] == [net.name]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("options", "shown"),
    [([], True), (["--quiet"], False), (["--json", "-"], False)],
)
def test_progress_is_for_people_at_a_terminal(
    options: list[str], shown: bool, net: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert main(["simulate", str(net), "--data", "digits", "-n", "20", *options]) == 0
    assert ("20/20" in terminal.getvalue()) is shown
