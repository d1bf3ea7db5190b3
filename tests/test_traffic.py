"""Traffic: recorded, even and uniform; its means, its memory, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from graphs import Case, cases
from hypothesis import assume, given, settings
from placements import network

from spikeship.hw_models.events.counts import CountError, EventCounts
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.events.traffic import Traffic, TrafficRecorder, senders
from spikeship.hw_models.graph import Conv, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.reference.interpreter import StateOverflowError
from spikeship.hw_models.simulator.simulator import simulate


def images(count: int, steps: int = 4) -> np.ndarray:
    return (np.random.default_rng(3).random((count, steps, 3)) < 0.5).astype(np.int8)


def recorded(graph: FixedGraph, messages: np.ndarray) -> tuple[Recording, EventCounts]:
    found = simulate(graph, messages, record=True, threads=1)
    assert found.recording is not None
    return found.recording, found.counts


def test_batches_add_up_to_the_mean() -> None:
    graph, messages = network(5), images(600)  # more than a byte counts
    recording, counts = recorded(graph, messages)
    whole, parts = TrafficRecorder(graph), TrafficRecorder(graph)
    whole(recording)
    for begin, end in ((0, 300), (300, 301), (301, 600)):
        parts(recorded(graph, messages[begin:end])[0])
    assert whole.images == parts.images == 600
    assert whole.traffic().recorded
    for name in ("input", "h"):
        mean = whole.traffic().messages[name]
        np.testing.assert_array_equal(mean, parts.traffic().messages[name])
    sent = whole.traffic().messages["h"].astype(np.float64)
    np.testing.assert_allclose(sent.sum(axis=1) * 600, counts.layers[0].spikes, rtol=1e-6)
    expected = np.float32(recording.nodes["h"].sum(axis=0)) / np.float32(600)
    np.testing.assert_allclose(sent, expected, rtol=1e-6)
    given = whole.traffic().messages["input"]
    np.testing.assert_allclose(given, messages.mean(axis=0), rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_whoever_recorded_it(case: Case) -> None:
    try:
        recording, _ = recorded(case.graph, case.messages)
    except StateOverflowError:
        assume(False)
    plain = replace(recording, nodes=dict(recording.nodes))
    packed, unpacked = TrafficRecorder(case.graph), TrafficRecorder(case.graph)
    packed(recording)
    unpacked(plain)
    for node in senders(case.graph):
        expected = unpacked.traffic().messages[node.name]
        np.testing.assert_array_equal(packed.traffic().messages[node.name], expected)
        mean = np.float32(np.mean(recording.nodes[node.name] != 0, axis=0))
        np.testing.assert_allclose(expected, mean, rtol=1e-6)


def test_messages_count_once_whatever_they_carry() -> None:
    source = Input("input", (3,), "direct", max_message=127, signed=True)
    plain = network(2)
    graph = FixedGraph(source, plain.nodes, plain.synapses)
    values = np.tile(np.array([100, 0, -3], np.int8), (2, 3, 1))
    recorder = TrafficRecorder(graph)
    recorder(recorded(graph, values)[0])
    np.testing.assert_array_equal(recorder.traffic().messages["input"], [[1, 0, 1]] * 3)


def test_even_traffic_keeps_the_totals_and_takes_no_memory() -> None:
    weight = np.ones((2, 1, 3, 3), np.int16)
    graph = FixedGraph(
        Input("input", (1, 6, 6), signed=False),
        (Neuron("c", (2, 4, 4), np.array(3)), Readout("out", (2, 2, 2))),
        (
            Conv(name="a", source="input", target="c", weight=weight),
            Conv(name="b", source="c", target="out", weight=np.ones((2, 2, 3, 3), np.int16)),
        ),
    )
    messages = (np.random.default_rng(4).random((4, 3, 1, 6, 6)) < 0.4).astype(np.int8)
    _, counts = recorded(graph, messages)
    even = Traffic.even(graph, counts)
    assert not even.recorded
    for name, totals in (("input", counts.input_spikes), ("c", counts.layers[0].spikes)):
        sent = even.messages[name]
        assert set(sent.strides[1:]) == {0}
        assert (sent == sent[:, :1, :1, :1]).all()
        np.testing.assert_allclose(sent.sum(axis=(1, 2, 3)) * 4, totals, rtol=1e-6)
    assert set(even.messages) == {"input", "c"}


def test_uniform_traffic_is_sent_in_the_working_steps() -> None:
    graph = network(5)
    sent = Traffic.uniform(graph, 0.25, 3).messages
    np.testing.assert_array_equal(sent["input"], np.full((3, 3), 0.25))
    np.testing.assert_array_equal(sent["h"][:, 0], [0, 0.25, 0.25, 0.25, 0])


def test_what_would_take_too_much_memory_is_spread_evenly() -> None:
    graph, messages = network(5), images(8)
    recording, counts = recorded(graph, messages)
    needed = 2 * 4 * 5 * graph.chip_steps(4)
    enough, short = TrafficRecorder(graph, needed), TrafficRecorder(graph, needed - 1)
    for recorder in (enough, short):
        recorder(recording)
        recorder(recording)
    assert enough.traffic().recorded and not short.traffic().recorded
    for name, sent in Traffic.even(graph, counts).messages.items():
        np.testing.assert_allclose(short.traffic().messages[name], sent, rtol=1e-6)


def test_totals_beyond_what_float32_counts() -> None:
    graph, messages = network(5), np.ones((1000, 1, 3), np.int8)
    messages[0, 0, 0] = 0
    recording, _ = recorded(graph, messages)
    recorder, runs = TrafficRecorder(graph, most_bytes=0), 6000
    for _ in range(runs):
        recorder(recording)
    assert 2999 * runs > 2**24
    (sent,) = recorder.traffic().messages["input"]
    assert sent.sum() * recorder.images == pytest.approx(2999 * runs, rel=1e-12)


def test_what_it_refuses() -> None:
    graph = network(5)
    recorder = TrafficRecorder(graph)
    with pytest.raises(CountError, match="at least one"):
        recorder.traffic()
    recorder(recorded(graph, images(2, steps=4))[0])
    with pytest.raises(CountError, match="one run only"):
        recorder(recorded(graph, images(2, steps=5))[0])
    other = Traffic({"input": np.zeros((4, 3), np.float32)})
    with pytest.raises(CountError, match="'h'"):
        other.check(graph, 4)
