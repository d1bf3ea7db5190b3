"""A ``.net`` file on the command line, from quantize to estimate, and its random messages."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from net_files import CUBA, SDNN, SIGMA, conv, dense, write_net
from spikeship.deploy.cli.app import main
from spikeship.deploy.importers.netx import read_netx
from spikeship.deploy.run.verify import random_messages
from spikeship.hw_models.graph import FixedGraph, Input

Verb = Callable[..., dict[str, Any]]
RNG = np.random.default_rng(0)
PICTURE = {"type": "input", "shape": [2, 6, 5]}
FLAT = {"type": "flatten", "shape": [24]}
KERNEL = RNG.integers(-20, 30, (2, 2, 3, 3))
LOOP = {
    **dense(RNG.integers(-30, 31, (6, 24)), bias=np.arange(6)),
    "type": "dense_rec",
    "weight_rec": RNG.integers(-90, 91, (6, 6)),
}


@pytest.fixture
def run(tmp_path: Path) -> Verb:
    def verb(*arguments: Any, status: int = 0) -> dict[str, Any]:
        target = tmp_path / "said.json"
        words = [str(argument) for argument in arguments]
        assert main([*words, "--json", str(target), "--quiet"]) == status
        said: dict[str, Any] = json.loads(target.read_text()) if target.exists() else {}
        return said

    return verb


@pytest.fixture
def spiking(tmp_path: Path) -> Path:
    layers = [{**PICTURE, **CUBA}, conv(KERNEL, [2, 4, 3], bias=[9, -4]), FLAT, LOOP]
    return write_net(tmp_path / "spiking.net", layers, 10)


@pytest.fixture
def graded(tmp_path: Path) -> Path:
    last = dense(RNG.integers(-30, 31, (4, 24)), SIGMA)
    layers = [{**PICTURE, **SDNN}, conv(KERNEL, [2, 4, 3], SDNN, bias=[9, -4]), FLAT, last]
    return write_net(tmp_path / "graded.net", layers)


def test_quantize_says_what_it_wrote(run: Verb, spiking: Path, tmp_path: Path) -> None:
    net = tmp_path / "net.safetensors"
    said = run("quantize", spiking, "--chip", "loihi2", "-o", net)
    assert (said["chip"], said["num_steps"], said["weight_bits"]) == ("loihi2", 10, 9)
    assert [(row["name"], row["neurons"], row["depth"]) for row in said["layers"]] == [
        ("layer_0", 60, 0),
        ("layer_1", 24, 1),
        ("layer_3", 6, 2),
    ]
    assert {row["overflow"] for row in said["layers"]} == {"proved"}
    part = run("quantize", spiking, "--layers", "2", "-o", net)
    assert [row["name"] for row in part["layers"]] == ["layer_0", "layer_1"]


def test_what_does_not_fit_the_chip_is_said(
    run: Verb, spiking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Odd weights of a convolution fit doubled; beyond 127 nothing is left to double."""
    net = tmp_path / "net.safetensors"
    run("quantize", spiking, "-o", net)
    assert "does not fit" not in capsys.readouterr().err
    wide = write_net(tmp_path / "wide.net", [dense([[-201, 7], [5, 90]])])
    run("quantize", wide, "-o", net)
    said = capsys.readouterr().err
    assert "'layer_0' does not fit loihi2: weight bits: it needs 9 where there are 8" in said


@pytest.mark.parametrize("name", ["spiking", "graded"])
@pytest.mark.parametrize("against", ["reference", "lava"])
def test_verify(
    run: Verb, name: str, against: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    net = tmp_path / "net.safetensors"
    run("quantize", request.getfixturevalue(name), "-o", net)
    said = run("verify", net, "--against", against, "-n", "1", "--stall", "60")
    assert said["spikes_equal"] is True
    assert said["spikes_compared"] > 50
    assert all(row["spikes"] for row in said["layers"] if row["spikes"] is not None)


@pytest.mark.parametrize("name", ["spiking", "graded"])
def test_simulate_and_estimate_on_wide_messages(
    run: Verb, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    net, data, record = (tmp_path / file for file in ("a.safetensors", "a.npz", "r.npz"))
    run("quantize", request.getfixturevalue(name), "-o", net)
    top = 1500 if name == "spiking" else 300
    messages = RNG.integers(-top, top + 1, (3, 10, 2, 6, 5))
    np.savez(data, x_test=messages, y_test=np.array([0, 1, 2]))
    said = run("simulate", net, "--data", f"npz:{data}", "--record", record)
    assert (said["images"], said["num_steps"], said["chip_steps"]) == (3, 10, 12)
    with np.load(record) as file:
        np.testing.assert_array_equal(file["input"], messages)
        assert file["layer_1"].shape == (3, 12, 2, 4, 3)
    cost = run("estimate", net, "--data", f"npz:{data}", "-n", "1")
    assert cost["synops"]["effective"] > 0 and cost["inferences"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--weight-bits", "6"], "--weight-bits: .*holds integers already; leave it out"),
        (["--data", "digits"], "--data: .*holds integers already"),
        (["--layers", "9"], "has 4 layers, 9 were asked for"),
    ],
)
def test_options_that_mean_nothing(
    run: Verb, spiking: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run("quantize", spiking, *arguments, "-o", spiking.with_name("b"), status=2)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("spikeship: ")
    assert re.search(words, line), line


def test_layers_of_another_kind_of_file(
    run: Verb, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("quantize", tmp_path / "a.nir", "--layers", "2", "-o", tmp_path / "b", status=2)
    assert "--layers: reads part of a .net file" in capsys.readouterr().err


def test_messages_of_another_number_of_steps(
    run: Verb, spiking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net, data = tmp_path / "a.safetensors", tmp_path / "a.npz"
    run("quantize", spiking, "-o", net)
    np.savez(data, x_test=np.ones((1, 7, 2, 6, 5), np.int16))
    run("simulate", net, "--data", f"npz:{data}", status=2)
    assert "messages of 7 steps for a run of 10; give -T 7" in capsys.readouterr().err
    assert run("simulate", net, "--data", f"npz:{data}", "-T", "7")["num_steps"] == 7


def test_random_messages_cover_every_magnitude(spiking: Path, graded: Path) -> None:
    wide = random_messages(read_netx(spiking), 40, seed=1)
    sizes = np.abs(wide[wide != 0])
    assert (int(sizes.min()), int(sizes.max()) > 30_000) == (1, True)
    # as many below the root of the largest as above it
    assert abs(float(np.mean(sizes < 2**7.5)) - 0.5) < 0.02
    assert abs(float(np.mean(wide != 0)) - 0.2) < 0.01
    assert abs(float(np.mean(wide[wide != 0] < 0)) - 0.5) < 0.02
    eight_bits = np.abs(random_messages(read_netx(graded), 4, seed=1))
    assert (int(eight_bits.max()), eight_bits.shape[1]) == (127, 32)


def test_random_spikes_are_plain_where_the_input_is(tmp_path: Path) -> None:
    graph = read_netx(write_net(tmp_path / "a.net", [dense(np.eye(5))]))
    assert isinstance(graph, FixedGraph) and isinstance(graph.input, Input)
    assert set(np.unique(random_messages(graph, 2, seed=0))) == {0, 1}
