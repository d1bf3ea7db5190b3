"""What estimate prints: operations of the cores and of the host, and who costs less where."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeship.deploy.cli.app import main
from spikeship.deploy.io import network_file as files
from spikeship.deploy.verbs.console import Voice
from spikeship.deploy.verbs.estimate import _cheaper_below, _tell
from spikeship.hw_models import chips
from spikeship.hw_models.energy_models import get
from spikeship.hw_models.estimate import estimate
from spikeship.hw_models.events.counts import EventCounts, count_events
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Neuron, Readout


def direct(neurons: int = 6) -> FixedGraph:
    """Half of the neurons fire when the other half cannot."""
    signs = np.resize([2, -2], neurons)[:, None]
    return FixedGraph(
        Input("input", (1, 8, 8), "direct", max_message=127, signed=True, scale=0.01),
        (Neuron("one", (neurons,), vth=np.array(30), reset="zero"), Readout("out", (10,))),
        (
            Dense(name="a", source="input", target="one", weight=signs * np.ones((1, 64), int)),
            Dense(name="b", source="one", target="out", weight=np.full((10, neurons), 2)),
        ),
        num_steps=4,
    )


def told(capsys: pytest.CaptureFixture[str], path: Path, *more: Any) -> tuple[Any, list[str]]:
    """The JSON and the lines of the same run."""
    line = ["estimate", str(path), "--data", "digits", "-n", "3", *more]
    assert main([*line, "--json", "-"]) == 0
    captured = capsys.readouterr()
    return json.loads(captured.out), captured.err.splitlines()


def test_the_hosts_operations_stand_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "direct.safetensors"
    files.save(direct(), path)
    found, lines = told(capsys, path, "--chip", "loihi1")
    every, host = found["synops"]["effective"], found["synops_injected"]["effective"]
    assert 0 < host < every
    assert f"{every - host:.0f} synaptic operations ({host:.0f} more are the host's)" in lines[0]
    # the host's line and the placement's speak of the same: an inference
    (line,) = [line for line in lines if line.startswith("host, apart")]
    assert line.endswith(f"made with {found['host']['macs']:,.0f} multiply-accumulates")
    (rule,) = [line for line in lines if "the host injects the weighted input of 'a'" in line]
    assert "made with at most 384 multiply-accumulates an inference;" in rule
    assert found["host"]["macs"] <= 384
    graded, lines = told(capsys, path, "--chip", "loihi2")
    assert graded["synops_injected"] == {"effective": 0, "connected": 0}
    assert f", {graded['synops']['effective']:.0f} synaptic operations, " in lines[0]


def test_the_models_break_even_stands_beside_the_rate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "direct.safetensors"
    files.save(direct(), path)
    found, lines = told(capsys, path, "--models")
    rates = {row["model"]: row["break_even_rate"] for row in found["models"]}
    rows = {line.split()[0]: line.split()[-1] for line in lines if line.strip()}
    assert rows["davies"] == "–" and rates["davies"] is None
    # a direct input's MACs in each of 4 steps are more than the ANN's, without any spike
    assert rows["horowitz:fp32"] == "never" and rates["horowitz:fp32"] is None
    words = " ".join(" ".join(lines).split())
    assert f"less than the model's ANN; here {found['models'][0]['spike_rate']:.3g}" in words


def counted(messages: int) -> tuple[FixedGraph, EventCounts]:
    """A spiking input of 64 places in one step, so many of which fire."""
    fc = Dense(name="fc", source="input", target="n", weight=np.full((4, 64), 2))
    graph = FixedGraph(Input("input", (64,)), (Neuron("n", (4,), vth=np.array(5)),), (fc,), 1)
    given = np.zeros((1, 1, 64), np.int8)
    given[:, :, :messages] = 1
    silent = np.zeros((1, graph.chip_steps(1), 4), np.int8)
    return graph, count_events(graph, {"n": silent}, given)


def test_who_costs_less_is_told() -> None:
    horowitz = get("horowitz:fp32")
    assert _cheaper_below(horowitz.energy(*counted(0))) == "always"
    some = horowitz.energy(*counted(16))
    assert some.break_even.rate is not None
    assert _cheaper_below(some) == f"{some.break_even.rate:.3g}"
    assert _cheaper_below(get("sanafe").energy(*counted(16))) == "–"


def test_both_ends_of_a_range_are_printed_with_three_digits(
    capsys: pytest.CaptureFixture[str],
) -> None:
    graph = direct()
    spikes = {"one": np.zeros((1, graph.chip_steps(4), 6), np.int8)}
    counts = count_events(graph, spikes, np.ones((1, 4, 1, 8, 8), np.int8))
    found = estimate(graph, counts, chips.get("loihi1"))
    energy = replace(found.energy, dynamic=2.3e-6, static=4.56e-8, low=1.2345e-6, high=6.7891e-6)
    host = replace(found.host, energy_j=2.3456e-3, low=1.2345e-4, high=6.7891e-3)
    times = {"latency_s": 3.4567e-3, "latency_low_s": 1.2345e-5, "latency_high_s": 5.6789e-3}
    shown = replace(found, energy=energy, host=replace(host, **times))
    _tell(Voice(None, False), shown)
    first, *others = capsys.readouterr().out.splitlines()
    assert ": 2.35e-06 J (1.23e-06 to 6.79e-06), " in first
    (line,) = (line for line in others if line.startswith("host, apart"))
    assert ": 2.35 mJ (123 µJ to 6.79 mJ), 3.46 ms (12.3 µs to 5.68 ms)" in line
    assert ": 2.35e-06 J (1.23e-06 to 6.79e-06), " in repr(shown)
