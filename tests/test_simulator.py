"""The engine in all its ways of being called gives what one plain run of the reference gives."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fuzzing.slow_counts import slow_counts

import cases
from spikeship.hw_models.errors import InputError
from spikeship.hw_models.events.counts import count_events
from spikeship.hw_models.events.recording import Recording, first_difference
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.reference.interpreter import StateOverflowError
from spikeship.hw_models.simulator.early_exit import EarlyExit
from spikeship.hw_models.simulator.simulator import Simulator, simulate
from spikeship.hw_models.simulator.stream import Stream

COUNTS = ("spikes", "effective", "connected", "messages_in", "pooled_messages")
SOME = ("residual_pooled", "lower_rail", "pool_dense", "current")


@pytest.mark.parametrize("name", cases.ZOO)
def test_states_and_counts_equal_the_references(name: str) -> None:
    graph = cases.graph(name)
    messages = cases.messages(graph, 3)
    expected = reference.run(graph, messages)
    found = simulate(graph, messages, potentials=True)
    assert found.recording is not None
    assert first_difference(graph, expected, found.recording) is None
    assert set(found.recording.potentials) == set(expected.potentials)
    for key, values in expected.potentials.items():
        np.testing.assert_array_equal(found.recording.potentials[key], values, err_msg=key)
    assert set(found.recording.currents) == set(expected.currents)
    for key, values in expected.currents.items():
        np.testing.assert_array_equal(found.recording.currents[key], values, err_msg=key)
    counts = count_events(graph, expected.nodes, messages)
    for mine, theirs in zip(found.counts.layers, counts.layers, strict=True):
        for key in COUNTS:
            np.testing.assert_array_equal(getattr(mine, key), getattr(theirs, key), err_msg=key)


@pytest.mark.parametrize("name", cases.STAGED)
def test_a_staged_network_takes_no_stream_and_no_early_exit(name: str) -> None:
    graph = cases.graph(name)
    with pytest.raises(InputError, match="takes whole samples of T steps, not a stream"):
        Stream(graph)
    with pytest.raises(InputError, match="staged network's readout waits for all of its input"):
        simulate(graph, cases.messages(graph, 1), early_exit=EarlyExit(margin=1.0))


@pytest.mark.parametrize("name", [name for name in cases.ZOO if name not in cases.STAGED])
def test_a_stream_in_pieces_is_one_run(name: str) -> None:
    graph = cases.graph(name)
    messages = cases.messages(graph, 2)
    steps = messages.shape[1]
    whole = simulate(graph, messages).scores_by_step
    stream = Stream(graph, images=2)
    for _ in range(2):  # the second time after a reset
        pieces = [stream.feed(messages[:, :3]), stream.feed(messages[:, 3:4])]
        pieces.append(stream.feed(messages[:, 4:]))
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1), whole[:, :steps])
        assert stream.step == steps
        stream.reset()


def test_a_stream_says_what_does_not_fit() -> None:
    graph = cases.graph("dense")
    with pytest.raises(ValueError, match="0 sequences"):
        Stream(graph, images=0)
    with pytest.raises(ValueError, match="messages of 1 sequences, it was made for 2"):
        Stream(graph, images=2).feed(cases.messages(graph, 1))


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("memory_budget", [1, 10_000, 2**30])
def test_chunks_and_threads_change_nothing(name: str, threads: int, memory_budget: int) -> None:
    graph = cases.graph(name)
    messages = cases.messages(graph, 7)
    expected = reference.run(graph, messages)
    done: list[int] = []
    found = simulate(
        graph,
        messages,
        record=True,
        threads=threads,
        memory_budget=memory_budget,
        progress=done.append,
    )
    assert found.recording is not None
    assert first_difference(graph, expected, found.recording) is None
    assert found.rails == expected.rails
    assert sum(done) == 7
    if threads > 1 and memory_budget == 1:
        assert len(done) == 7


def test_batches_of_an_iterator_are_one_set() -> None:
    graph = cases.graph("residual_identity")
    messages = cases.messages(graph, 9)
    whole = simulate(graph, messages, record=True)
    found = simulate(graph, (messages[i : i + 4] for i in range(0, 9, 4)), record=True)
    np.testing.assert_array_equal(found.scores_by_step, whole.scores_by_step)
    assert found.counts.per_inference() == whole.counts.per_inference()
    assert found.rails == whole.rails
    assert whole.recording is not None and found.recording is not None
    assert first_difference(graph, whole.recording, found.recording) is None
    np.testing.assert_array_equal(found.recording.input, messages)


def test_a_simulator_is_made_once_for_many_calls() -> None:
    graph = cases.graph("conv")
    simulator = Simulator(graph, threads=2)
    messages = cases.messages(graph, 5)
    first, second = (
        np.concatenate([part.scores for part in simulator.runs(messages)]) for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, simulate(graph, messages).scores)


def test_no_images_and_wrong_options_are_said() -> None:
    graph = cases.graph("dense")
    messages = cases.messages(graph, 2)
    with pytest.raises(ValueError, match="no images"):
        simulate(graph, messages[:0])
    with pytest.raises(ValueError, match="no images"):
        simulate(graph, iter([]))
    with pytest.raises(ValueError, match="early exit .* recording"):
        simulate(graph, messages, record=True, early_exit=EarlyExit(1.0))
    with pytest.raises(ValueError, match="threads: 0"):
        simulate(graph, messages, threads=0)
    with pytest.raises(ValueError, match="expected \\(images, steps, 9\\)"):
        simulate(graph, messages[..., :5])
    with pytest.raises(ValueError, match="margin of at least 0"):
        EarlyExit(-1.0)


@pytest.mark.parametrize("gated", [True, False])
def test_early_exit_stops_where_the_margin_is_reached(gated: bool) -> None:
    graph = replace(cases.graph("conv"), gated=gated)
    messages = cases.messages(graph, 40)
    whole = simulate(graph, messages)
    steps = whole.scores_by_step.shape[1]
    scale = graph.output.scale
    assert isinstance(scale, float)
    lead = np.sort(whole.scores_by_step, axis=2)
    lead = (lead[..., -1].astype(np.int64) - lead[..., -2]) * scale
    margin = float(np.median(lead[:, -1]))
    exits = EarlyExit(margin, every=2, least=3)
    found = simulate(graph, messages, early_exit=exits, memory_budget=20_000)
    expected = np.full(40, steps)
    for image in range(40):
        looks = [t for t in range(2, steps, 2) if t >= 3 and lead[image, t - 1] >= margin]
        if looks:
            expected[image] = looks[0]
    assert 0 < (expected < steps).sum() < 40
    np.testing.assert_array_equal(found.steps, expected)
    for image, last in enumerate(expected):
        scores = whole.scores_by_step[image]
        np.testing.assert_array_equal(found.scores_by_step[image, :last], scores[:last])
        assert np.all(found.scores_by_step[image, last:] == scores[last - 1])
        np.testing.assert_array_equal(found.scores[image], scores[last - 1])
    updates = found.counts.layers[0].neuron_updates.sum()
    assert updates == expected.sum() * found.counts.layers[0].neurons
    spikes = sum(int(layer.spikes.sum()) for layer in found.counts.layers)
    assert spikes < sum(int(layer.spikes.sum()) for layer in whole.counts.layers)


@pytest.mark.parametrize("name", ["conv", "residual_pooled", "delays_full", "recurrent"])
def test_an_image_that_stopped_counts_nothing_that_arrives_later(name: str) -> None:
    """Without a gate messages are under way when an image stops; they are never delivered."""
    graph = replace(cases.graph(name), gated=False)
    messages = cases.messages(graph, 12)
    lead = np.sort(simulate(graph, messages).scores_by_step[:, -1], axis=1)
    scale = graph.output.scale if isinstance(graph.output, Readout) else 1.0
    margin = float(np.median(lead[:, -1] - lead[:, -2])) * scale  # type: ignore[operator]
    found = simulate(graph, messages, early_exit=EarlyExit(margin, least=2), memory_budget=20_000)
    assert 0 < (found.steps < found.steps.max()).sum() < 12
    recording = reference.run(graph, messages)
    alone = [_alone(graph, recording, image) for image in range(12)]
    for layer in found.counts.layers:
        for key in set(COUNTS) | {"neuron_updates"}:
            expected = np.zeros(graph.chip_steps(messages.shape[1]), np.int64)
            for image, stop in enumerate(found.steps):
                expected[:stop] += alone[image][layer.name][key][:stop]
            np.testing.assert_array_equal(getattr(layer, key), expected, err_msg=key)


def _alone(graph: FixedGraph, recording: Recording, image: int) -> dict[str, dict[str, Any]]:
    """One image's events, run to the end, counted the slow way."""
    only = slice(image, image + 1)
    nodes = {name: values[only] for name, values in recording.nodes.items()}
    return slow_counts(graph, replace(recording, input=recording.input[only], nodes=nodes))


def test_an_endless_margin_runs_to_the_end() -> None:
    graph = cases.graph("dense")
    messages = cases.messages(graph, 4)
    found = simulate(graph, messages, early_exit=EarlyExit(1e12))
    np.testing.assert_array_equal(found.scores, simulate(graph, messages).scores)
    assert set(found.steps) == {messages.shape[1]}


def test_direct_input_is_summed_once_and_counted_every_step() -> None:
    graph = cases.graph("conv")
    direct = Input("input", graph.input.shape, encoding="direct", max_message=127)
    neuron, out = graph.nodes
    assert isinstance(neuron, Neuron) and isinstance(out, Readout)
    graph = FixedGraph(
        direct, (replace(neuron, vth=np.array(9000)), out), graph.synapses, graph.num_steps
    )
    still = np.random.default_rng(0).integers(-127, 128, (3, 1, *graph.input.shape))
    messages = np.repeat(still, cases.STEPS, axis=1)
    moving = messages.copy()
    moving[1, 3] += 1 - 2 * (moving[1, 3] > 0)
    for given in (messages, moving):
        expected = reference.run(graph, given)
        found = simulate(graph, given, record=True)
        assert found.recording is not None
        assert first_difference(graph, expected, found.recording) is None
        counts = count_events(graph, expected.nodes, given)
        assert counts.per_inference() == found.counts.per_inference()
        np.testing.assert_array_equal(counts.input_spikes, found.counts.input_spikes)


@pytest.mark.parametrize("du", [4095, 2000])
def test_a_sum_beyond_24_bits_is_an_error_in_its_step(du: int) -> None:
    graph = cases.graph("dense")
    neuron = replace(graph.nodes[0], du=du)
    synapse = replace(graph.synapses[0], weight=np.full((11, 9), 254, np.int16))
    source = Input("input", (9,), max_message=100)
    graph = replace(graph, input=source, nodes=(neuron, graph.nodes[1]), synapses=(
        synapse, graph.synapses[1]))  # fmt: skip
    messages = np.zeros((2, 6, 9), np.int64)
    messages[1, 4] = 60
    messages[0, 5] = 100
    with pytest.raises(StateOverflowError, match="'n': its input reaches 137160 .* chip step 6,"):
        reference.run(graph, messages)
    with pytest.raises(StateOverflowError, match="'n': its input reaches 137160 .* chip step 6,"):
        simulate(graph, messages, threads=1)


@pytest.mark.parametrize("steps", [2, 9])
@pytest.mark.parametrize("memory_budget", [1, 2**30])
def test_a_branch_deeper_than_the_output_stops_with_the_chip(
    steps: int, memory_budget: int
) -> None:
    """Its last steps are never run: neither its spikes nor its rails count."""
    feed = Dense(name="a", source="input", target="side", weight=np.array([[254]]), delay=4)
    fc = Dense(name="fc", source="input", target="out", weight=np.array([[2]]))
    side = Neuron("side", (1,), vth=np.array(2**17 - 1))
    source = Input("input", (1,), "spikes", max_message=500)
    graph = FixedGraph(source, (side, Readout("out", (1,))), (feed, fc))
    messages = np.full((2, steps, 1), 500)
    expected = reference.run(graph, messages)
    found = simulate(graph, messages, potentials=True, memory_budget=memory_budget)
    assert found.recording is not None
    assert first_difference(graph, expected, found.recording) is None
    assert found.rails == expected.rails
    for name, values in expected.potentials.items():
        np.testing.assert_array_equal(found.recording.potentials[name], values)


def test_an_error_in_one_chunk_ends_the_run() -> None:
    graph = cases.graph("dense")
    messages = cases.messages(graph, 6)
    messages[4, 0, 0] = 2
    with pytest.raises(ValueError, match="magnitude 2 exceeds"):
        simulate(graph, messages, threads=2, memory_budget=1)
