"""Staged firing: the integer spiking network is the quantized classifier, count for count."""

from collections.abc import Callable
from dataclasses import fields

import numpy as np
import pytest
from staged_ann import quantized_ann
from staged_cases import CASES, messages

from spikeship.hw_models.events.counts import EventCounts, count_events
from spikeship.hw_models.graph import FixedGraph, Readout
from spikeship.hw_models.lava import runner
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.simulator.simulator import simulate
from spikeship.hw_models.simulator.torch_device.engine import DeviceEngine


@pytest.mark.parametrize("steps", [1, 2, 4, 7, 16])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_reference_counts_levels(case: Callable[[int], FixedGraph], steps: int) -> None:
    graph = case(steps)
    given = messages(graph, images=4)
    ann = quantized_ann(graph, given)
    recording = reference.run(graph, given)
    used = set()
    for node in graph.nodes:
        activity = recording.nodes[node.name]
        if isinstance(node, Readout):
            assert np.array_equal(activity[:, -1], ann.logits)
            continue
        assert np.array_equal(activity.sum(axis=1), ann.counts[node.name])
        used |= set(np.unique(ann.counts[node.name]))
        # the first spikes of the window, and none outside it
        window = graph.windows[node.name]
        inside = activity[:, window.fire_from - 1 : window.last]
        assert activity.sum() == inside.sum()
        assert np.all(np.diff(inside, axis=1) <= 0)
    assert len(used) > steps // 2
    assert activity.shape[1] == graph.chip_steps(steps)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_lava_fires_the_same_spikes(case: Callable[[int], FixedGraph]) -> None:
    graph = case(3)
    given = messages(graph, images=3, seed=1)
    expected = reference.run(graph, given)
    found = runner.run(graph, given, potentials=True).recording
    for node in graph.nodes:
        assert np.array_equal(found.nodes[node.name], expected.nodes[node.name]), node.name
        assert np.array_equal(found.potentials[node.name], expected.potentials[node.name])


def same_counts(found: EventCounts, expected: EventCounts) -> None:
    assert np.array_equal(found.input_spikes, expected.input_spikes)
    for mine, theirs in zip(found.layers, expected.layers, strict=True):
        for field in fields(mine):
            ours = getattr(mine, field.name)
            assert np.array_equal(ours, getattr(theirs, field.name)), (mine.name, field.name)


@pytest.mark.parametrize("device", ["cpu", "torch"])
@pytest.mark.parametrize("steps", [1, 4, 16])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_the_engines_give_the_reference_s_spikes(
    case: Callable[[int], FixedGraph], steps: int, device: str
) -> None:
    graph = case(steps)
    given = messages(graph, images=5, seed=2)
    expected = reference.run(graph, given)
    if device == "cpu":
        found = simulate(graph, given, potentials=True, threads=1)
    else:
        found = DeviceEngine(graph, "cpu").run(given, potentials=True)
    recording = found.recording
    assert recording is not None and recording.num_steps == steps
    for node in graph.nodes:
        name = node.name
        assert np.array_equal(recording.nodes[name], expected.nodes[name]), name
        assert np.array_equal(recording.potentials[name], expected.potentials[name]), name
    assert np.array_equal(found.scores, expected.scores(graph))
    same_counts(found.counts, count_events(graph, expected.nodes, given))
    # in small pieces too
    pieces = simulate(graph, given, memory_budget=1, threads=2)
    assert np.array_equal(pieces.scores, found.scores)
    same_counts(pieces.counts, found.counts)
