"""The simulator's benchmark: peers compute the same network, and it notices when they do not."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spiking import images as smooth_images
from torch import nn

import cases
from spikeship.deploy.io import network_file as files
from spikeship.deploy.io.inputs import coding_of
from spikeship.deploy.run.evaluate import evaluate_graph
from spikeship.hw_models.events.counts import count_events
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.simulator.simulation import Simulation
from spikeship.hw_models.simulator.simulator import simulate
from spikeship.training.fit.classifier import evaluate_ann
from spikeship.training.snn.encoding import encode

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed; make installs it")
from peers.jelly_integers import JellyIntegers
from speed import full, spikes, trained
from speed.untrained import untrained

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
IMAGES = 3
CHAINS = (
    *("dense", "stride", "dilation", "groups", "pool_conv", "pool_dense"),
    *("per_channel", "direct", "hard_reset", "lower_rail"),
)


@pytest.mark.parametrize("name", CHAINS)
def test_spikingjellys_integers_are_the_references(name: str) -> None:
    graph = cases.graph(name)
    messages = cases.messages(graph, IMAGES)
    expected = reference.run(graph, messages)
    steps = messages.shape[1]
    seen = set()
    for node, values in JellyIntegers(graph).walk(messages):
        depth = graph.depths[node]
        local = expected.nodes[node][:, depth : depth + steps]
        assert np.array_equal(values.transpose(0, 1).numpy(), local), node
        assert local.any(), node
        seen.add(node)
    assert seen == {node.name for node in graph.nodes}


def test_a_potential_that_meets_the_rail_is_among_them() -> None:
    graph = cases.graph("lower_rail")
    lower, _ = reference.run(graph, cases.messages(graph, IMAGES)).rails[graph.nodes[0].name]
    assert lower > 0


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("residual_identity", "only gated chains"),
        ("bias", "without bias"),
        ("v0", "without bias or V0"),
        ("leak", "without bias or V0"),
    ],
)
def test_spikingjellys_integers_refuse_what_they_cannot_be(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=f"'.*'.*{reason}"):
        JellyIntegers(cases.graph(name))


@pytest.fixture
def ran() -> tuple[FixedGraph, Any, Recording, Simulation]:
    graph = cases.graph("pool_conv")
    messages = cases.messages(graph, IMAGES)
    return graph, messages, reference.run(graph, messages[:1]), simulate(graph, messages)


def test_engines_that_agree_are_said_to(ran: Any) -> None:
    graph, messages, expected, simulation = ran
    compared = spikes.agreement(graph, messages, expected, expected, simulation, at_once=2)
    assert compared == {
        "lava": True,
        "spikeship": True,
        "spikingjelly": True,
        "timed_batch": True,
    }


def test_one_other_spike_of_lava_is_noticed(ran: Any) -> None:
    graph, messages, expected, simulation = ran
    nodes = {name: values.copy() for name, values in expected.nodes.items()}
    nodes[graph.nodes[0].name][0, -2].flat[0] ^= 1
    lava = dataclasses.replace(expected, nodes=nodes)
    compared = spikes.agreement(graph, messages, expected, lava, simulation, at_once=2)
    assert compared["lava"] is False
    assert compared["spikeship"] and compared["spikingjelly"] and compared["timed_batch"]


def test_one_other_message_shows_in_every_comparison(ran: Any) -> None:
    graph, messages, _, simulation = ran
    other = messages.copy()
    other[0, 1] = 1 - np.abs(other[0, 1])
    expected = reference.run(graph, other[:1])
    compared = spikes.agreement(graph, messages, expected, expected, simulation, at_once=2)
    assert compared == {
        "lava": True,
        "spikeship": False,
        "spikingjelly": False,
        "timed_batch": True,
    }


def test_a_timed_batch_of_other_numbers_is_noticed(ran: Any) -> None:
    graph, messages, expected, simulation = ran
    moved = simulation.scores_by_step.copy()
    moved[-1, 3, 0] += 1
    wrong = dataclasses.replace(simulation, scores_by_step=moved)
    compared = spikes.agreement(graph, messages, expected, expected, wrong, at_once=2)
    assert compared["timed_batch"] is False
    first, *rest = simulation.counts.layers
    layer = dataclasses.replace(first, spikes=np.roll(first.spikes, 1))
    counts = dataclasses.replace(simulation.counts, layers=(layer, *rest))
    wrong = dataclasses.replace(simulation, counts=counts)
    compared = spikes.agreement(graph, messages, expected, expected, wrong, at_once=2)
    assert compared["timed_batch"] is False


def test_activity_is_spikes_per_neuron_and_step() -> None:
    graph = cases.graph("pool_conv")
    messages = cases.messages(graph, IMAGES)
    recording = reference.run(graph, messages)
    found = spikes.activity(graph, count_events(graph, recording.nodes, messages))
    steps = messages.shape[1]
    fired = {node.name: recording.nodes[node.name] for node in graph.nodes[:-1]}
    for name, values in fired.items():
        expected = values.mean() * graph.chip_steps(steps) / steps
        assert found["layers"][name] == pytest.approx(expected)
    assert found["input"] == pytest.approx(np.count_nonzero(messages) / messages.size)
    total = sum(values.sum() for values in fired.values())
    neurons = sum(values[0, 0].size for values in fired.values())
    assert found["total"] == pytest.approx(total / (neurons * steps * len(messages)))
    assert list(found["layers"]) == list(fired)


@pytest.fixture(scope="module")
def few_epochs() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trained, "SETTINGS", trained.SETTINGS | {"epochs": 2, "warmup": 0.0})
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def network(cache: Path, few_epochs: None) -> trained.Trained:
    return trained.trained(trained.Source("digits", None, 300), cache, lambda _: None)


def test_the_network_is_trained_once_and_kept(network: trained.Trained, cache: Path) -> None:
    said: list[str] = []
    again = trained.trained(trained.Source("digits", None, 300), cache, said.append)
    assert said == []
    assert again.accuracy == network.accuracy
    assert network.graph.num_steps == trained.NUM_STEPS
    weights = zip(network.graph.synapses, again.graph.synapses, strict=True)
    assert all(np.array_equal(a.weight, b.weight) for a, b in weights)
    few = network.held_out.first(trained.ACCURACY_IMAGES)
    right = (evaluate_ann(network.ann.network, few.values).numpy() == few.labels).mean()
    assert network.accuracy == pytest.approx(right)


def test_another_recipe_is_another_network(
    network: trained.Trained, tmp_path: Path, cache: Path
) -> None:
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True)
    said: list[str] = []
    other = trained.trained(trained.Source("digits", None, 200), tmp_path, said.append)
    assert [line.split()[0] for line in said] == ["train", "convert"]
    assert not np.array_equal(other.graph.synapses[0].weight, network.graph.synapses[0].weight)


def test_a_whole_set_is_evaluated_in_a_process_of_its_own(
    network: trained.Trained, tmp_path: Path
) -> None:
    path = tmp_path / "net.safetensors"
    files.save(network.graph, path)
    found = full._in_a_process(path, network.graph, 30, 1)
    expected = evaluate_graph(network.graph, network.held_out.first(30), seed=full.SEED)
    assert expected.counts is not None
    assert found["images"] == 30
    assert found["num_steps"] == trained.NUM_STEPS
    assert found["correct"] == network.held_out.correct(expected.predictions)
    assert found["accuracy"] == found["correct"] / 30
    assert found["activity"] == spikes.activity(network.graph, expected.counts)
    assert 1e8 < found["peak_bytes"] < 4e9


@pytest.mark.parametrize(("steps", "encoding"), [(40, "poisson"), (4, "direct")])
def test_networks_that_nobody_trained_spike_in_every_layer(steps: int, encoding: str) -> None:
    images = nn.functional.interpolate(smooth_images(4), size=16)
    graph = untrained("vgg5", images, num_steps=steps, width=0.5)
    assert graph.input.encoding == encoding
    assert graph.num_steps == steps
    messages = encode(images, coding_of(graph), steps).numpy()
    found = spikes.activity(graph, simulate(graph, messages).counts)
    assert len(found["layers"]) == 5
    assert all(0.001 < rate < 0.6 for rate in found["layers"].values()), found


def test_one_run_prints_what_it_measured_on_every_engine(
    tmp_path: Path,
) -> None:
    pytest.importorskip("lava", reason="lava-nc is not installed; make installs it")
    command = [sys.executable, str(BENCHMARKS / "simulator.py"), "--data", "digits"]
    command += ["--json", "-", "--batch", "4", "--rounds", "1", "--cache", str(tmp_path)]
    environment = os.environ | {"SPIKESHIP_DATA": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    seconds = result["seconds_per_image"]
    assert set(seconds) == {"lava", "reference", "spikingjelly", "spikeship"}
    assert all(spent > 0 for spent in seconds.values())
    assert result["spikes_equal"] is True
    assert result["num_steps"] == trained.NUM_STEPS
    assert result["ratios"]["lava_vs_spikeship"] == seconds["lava"] / seconds["spikeship"]
    dense = result["num_steps"] * result["dense_f32_forward_s"] / seconds["spikeship"]
    assert result["ratios"]["T_dense_forwards_vs_spikeship"] == pytest.approx(dense)
    assert set(result["activity"]["layers"]) < set(result["neurons"])
    assert result["turns"]["lava"] == [seconds["lava"]]


@pytest.mark.parametrize(("script", "folder"), [("simulator", None), ("scale", "empty")])
def test_without_data_they_say_so_in_one_line(
    script: str, folder: str | None, tmp_path: Path
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "SPIKESHIP_DATA"}
    if folder is not None:
        environment["SPIKESHIP_DATA"] = str(tmp_path)
    command = [sys.executable, str(BENCHMARKS / f"{script}.py"), "--json", "-"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "SPIKESHIP_DATA" in done.stderr or str(tmp_path) in done.stderr
    assert "fashion-mnist" in done.stderr
