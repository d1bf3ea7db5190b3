"""Evaluation: intervals against an independent implementation, the same messages however cut."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from spikeship.deploy import evaluate
from spikeship.deploy.inputs import Images, messages_of
from spikeship.hw_models.graph import Dense, FixedGraph, Input, Neuron, Readout


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


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    graph, images = _graph(), _images()
    whole = evaluate.evaluate_graph(graph, images, seed=3, record=True)
    original = evaluate.in_chunks
    monkeypatch.setattr(evaluate, "in_chunks", lambda images: original(images, 2))
    parts = evaluate.evaluate_graph(graph, images, seed=3, record=True)
    np.testing.assert_array_equal(whole.predictions, parts.predictions)
    np.testing.assert_array_equal(whole.correct_by_step, parts.correct_by_step)
    assert whole.counts is not None and parts.counts is not None
    assert whole.counts.per_inference() == parts.counts.per_inference()
    assert whole.recording is not None and parts.recording is not None
    for name, values in whole.recording.nodes.items():
        np.testing.assert_array_equal(values, parts.recording.nodes[name])


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
