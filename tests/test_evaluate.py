"""Evaluation: intervals against an independent implementation, the same messages however cut."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from spikeship.deploy.errors import DeployError
from spikeship.deploy.io.inputs import Images, messages_of
from spikeship.deploy.run import evaluate
from spikeship.deploy.run.evaluate import Running
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.simulator.early_exit import EarlyExit


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(case: tuple[int, int]) -> None:
    correct, images = case
    expected = binomtest(correct, images).proportion_ci(method="wilson")
    low, high = evaluate.wilson(correct, images)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def _graph() -> FixedGraph:
    rng = np.random.default_rng(0)
    weight = 2 * rng.integers(-60, 61, (8, 16))
    return FixedGraph(
        Input("input", (16,), scale=2.0),
        (Neuron("n", (8,), vth=np.array(100)), Readout("out", (4,))),
        (
            Dense(name="a", source="input", target="n", weight=weight),
            Dense(name="b", source="n", target="out", weight=weight[:4, :8]),
        ),
        num_steps=9,
    )


def _images(labels: bool = True) -> Images:
    values = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
    found = np.arange(7) % 4 if labels else None
    return Images(values, found, torch.arange(7), {})


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("threads", [1, 2])
def test_how_images_are_cut_changes_nothing(batch: int, threads: int) -> None:
    graph, images = _graph(), _images()
    expected: list[Recording] = []
    whole = evaluate.evaluate_graph(graph, images, seed=3, recorder=expected.append)
    found: list[Recording] = []
    done: list[int] = []
    running = Running(batch=batch, threads=threads, memory_budget=1)
    parts = evaluate.evaluate_graph(
        graph, images, seed=3, running=running, recorder=found.append, progress=done.append
    )
    np.testing.assert_array_equal(whole.predictions, parts.predictions)
    np.testing.assert_array_equal(whole.scores, parts.scores)
    np.testing.assert_array_equal(whole.correct_by_step, parts.correct_by_step)
    assert whole.counts is not None and parts.counts is not None
    assert whole.counts.per_inference() == parts.counts.per_inference()
    assert sum(done) == 7 and len(done) >= 7 // batch
    for name in ("n", "out"):
        np.testing.assert_array_equal(
            np.concatenate([part.nodes[name] for part in found]),
            np.concatenate([part.nodes[name] for part in expected]),
        )
    assert all(len(part.potentials) == 0 for part in found)


class Unread:
    """Samples that are made when asked for, and remember how many at a time."""

    shape = (40, 16)

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __len__(self) -> int:
        return 40

    def __getitem__(self, indices: torch.Tensor | slice) -> torch.Tensor:
        wanted = torch.arange(40)[indices]
        self.asked.append(len(wanted))
        return torch.sin(wanted[:, None] + torch.arange(16) * 1.7) * 2


def test_images_are_read_and_encoded_as_they_are_run() -> None:
    samples, reads = Unread(), []
    images = Images(samples, np.arange(40) % 4, torch.arange(40), {})
    found = evaluate.evaluate_graph(
        _graph(),
        images,
        seed=0,
        running=Running(batch=4, threads=1),
        progress=lambda _: reads.append(sum(samples.asked)),
    )
    assert max(samples.asked) == 4 and sum(samples.asked) == 40
    assert reads[0] <= 12  # the first were done before the others were read
    in_memory = Images(samples[:], images.labels, images.indices, {})
    whole = evaluate.evaluate_graph(_graph(), in_memory, seed=0)
    np.testing.assert_array_equal(found.scores, whole.scores)
    np.testing.assert_array_equal(found.correct_by_step, whole.correct_by_step)


def test_accuracy_by_step_is_that_of_shorter_runs() -> None:
    for gated in (True, False):
        graph = replace(_graph(), gated=gated)
        if not gated:
            graph = replace(graph, nodes=(graph.nodes[0], Neuron("out", (4,), vth=np.array(60))))
        found = evaluate.evaluate_graph(graph, _images(), seed=2)
        assert found.correct_by_step is not None
        short = [
            evaluate.evaluate_graph(graph, _images(), seed=2, num_steps=steps).predictions
            for steps in range(1, 10)
        ]
        right = [int((answers == _images().labels).sum()) for answers in short]
        assert found.correct_by_step.tolist() == right
        assert len(set(right)) > 1  # it says something


def test_early_exit_stops_images_and_keeps_their_answers() -> None:
    graph, images = _graph(), _images()
    full = evaluate.evaluate_graph(graph, images, seed=1)
    running = Running(early_exit=EarlyExit(margin=150.0))
    early = evaluate.evaluate_graph(graph, images, seed=1, running=running)
    assert full.steps.tolist() == [9] * 7
    assert 1 <= early.steps.min() < early.steps.max() <= 9
    kept: list[Recording] = []
    evaluate.evaluate_graph(graph, images, seed=1, recorder=kept.append)
    scores = np.concatenate([part.nodes["out"] for part in kept])[:, 2:]  # d(out) is 2
    at_exit = scores[np.arange(7), early.steps - 1]
    np.testing.assert_array_equal(early.scores, at_exit)
    assert early.counts is not None and full.counts is not None
    assert early.counts.per_inference()["spikes"] < full.counts.per_inference()["spikes"]


def test_what_a_recording_says_is_what_the_run_said() -> None:
    graph, images = _graph(), _images()
    kept: list[Recording] = []
    found = evaluate.evaluate_graph(
        graph, images, seed=1, running=Running(batch=7, threads=1), recorder=kept.append
    )
    (recording,) = kept
    assert found.counts is not None
    again = evaluate.evaluation_of(graph, recording, images, found.counts)
    for name in ("predictions", "scores", "steps", "correct_by_step"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeployError, match="no CUDA device"):
        evaluate.evaluate_graph(_graph(), _images(), seed=0, running=Running(device="cuda"))


def test_a_shorter_run_is_the_beginning_of_a_longer_one() -> None:
    graph, images = _graph(), _images()
    long = messages_of(graph, images, seed=1)
    np.testing.assert_array_equal(messages_of(graph, images, seed=1, num_steps=4), long[:, :4])
    few = messages_of(graph, images.first(3), seed=1)
    np.testing.assert_array_equal(few, long[:3])


def test_accuracy_by_step_ends_in_the_accuracy() -> None:
    images = _images()
    found = evaluate.evaluate_graph(_graph(), images, seed=0)
    assert found.correct_by_step is not None
    assert len(found.correct_by_step) == 9
    assert found.correct_by_step[-1] == images.correct(found.predictions)


def test_without_labels_there_is_no_accuracy() -> None:
    found = evaluate.evaluate_graph(_graph(), _images(labels=False), seed=0)
    assert found.correct_by_step is None
    assert len(found.predictions) == 7
