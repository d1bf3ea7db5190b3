"""Counts at another firing rate: what a factor scales, and which neurons it asks too much of."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from estimate_cases import T, images, network
from what_if_cases import dim_images, one_layer

from spikeship.deploy.analysis.rates import (
    most_beyond,
    most_often,
    neuron_rates,
    nothing_scales,
    scaled,
    share_beyond,
    spikes_per_step,
)
from spikeship.deploy.run.counting import Counted, count
from spikeship.hw_models.events.traffic import Traffic


@pytest.fixture(scope="module")
def own() -> Counted:
    return count(network(), images(), seed=0)


def test_scaling_by_one_changes_nothing(own: Counted) -> None:
    same = scaled(own, 1.0)
    assert same.counts.per_inference() == own.counts.per_inference()
    for name, sent in own.traffic.messages.items():
        np.testing.assert_array_equal(same.traffic.messages[name], sent)


def test_scaling_doubles_events_and_leaves_updates(own: Counted) -> None:
    once, twice = own.counts.per_inference(), scaled(own, 2.0).counts.per_inference()
    assert twice["synops"]["connected"] == 2 * once["synops"]["connected"]
    assert twice["synops"]["dense"] == once["synops"]["dense"]
    assert twice["spikes"] == 2 * once["spikes"]
    assert twice["input_spikes"] == 2 * once["input_spikes"]
    assert twice["neuron_updates"] == once["neuron_updates"]


def test_direct_input_stays_at_any_rate() -> None:
    counted = count(network("direct"), images(), seed=0)
    silent = scaled(counted, 0.0)
    once, none = counted.counts.per_inference(), silent.counts.per_inference()
    assert none["input_spikes"] == once["input_spikes"] > 0
    assert none["layers"][0]["synops_connected"] == once["layers"][0]["synops_connected"] > 0
    assert none["layers"][1]["synops_connected"] == 0
    assert none["spikes"] == 0
    np.testing.assert_array_equal(
        silent.traffic.messages["input"], counted.traffic.messages["input"]
    )


def test_at_the_largest_factor_a_layer_sends_once_a_neuron_and_step_on_its_average(
    own: Counted,
) -> None:
    full = scaled(own, most_often(own))
    rates = [
        float(sent.sum()) / ((T if name == "input" else own.counts.num_steps) * sent[0].size)
        for name, sent in full.traffic.messages.items()
    ]
    assert max(rates) == pytest.approx(1.0, rel=1e-5)


def test_spikes_per_step_is_the_mean_over_neurons_and_working_steps(own: Counted) -> None:
    rates = own.counts.per_inference()
    neurons = sum(int(np.prod(n.shape)) for n in own.graph.nodes[:-1]) + 64
    expected = (rates["input_spikes"] + rates["spikes"]) / (neurons * T)
    assert spikes_per_step(own) == pytest.approx(expected)


# --- neurons one by one -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def dim() -> Counted:
    return count(network(), dim_images(), seed=0)


def test_a_neurons_rate_is_its_mean_over_images_and_the_steps_it_works(dim: Counted) -> None:
    rates = neuron_rates(dim)
    assert rates is not None
    sent = [dim.traffic.messages[name] for name in ("input", "one", "two")]
    assert list(rates) == ["input", "one", "two"]
    for found, each in zip(rates.values(), sent, strict=True):
        np.testing.assert_allclose(found, each.sum(axis=0).ravel() / T, rtol=1e-6)
    everyone = np.concatenate(list(rates.values()))
    assert everyone.mean() == pytest.approx(spikes_per_step(dim))


def test_the_largest_factor_asks_single_neurons_for_more_than_a_spike_a_step(dim: Counted) -> None:
    rates, most = neuron_rates(dim), most_often(dim)
    assert rates is not None and most > 1
    everyone = np.concatenate(list(rates.values()))
    beyond = np.count_nonzero(everyone * most > 1 + 1e-6) / everyone.size
    assert share_beyond(rates, most) == beyond > 0
    assert share_beyond(rates, 1.0) == share_beyond(rates, 0.0) == 0.0
    assert share_beyond(rates, 1e9) == np.count_nonzero(everyone) / everyone.size
    by_node = {
        name: np.count_nonzero(each * most > 1 + 1e-6) / each.size for name, each in rates.items()
    }
    name, share = most_beyond(rates, most)
    assert share == by_node[name] == max(by_node.values()) > beyond


def test_a_neuron_that_sends_in_every_step_is_not_beyond() -> None:
    rates = {"n": np.array([1.0 / 3 * 3, 0.1, np.float64(np.float32(0.7)) / 0.7])}
    assert share_beyond(rates, 1.0) == 0.0
    assert share_beyond(rates, 1.001) == pytest.approx(2 / 3)


def test_neurons_that_were_not_told_apart_have_no_share(own: Counted) -> None:
    even = replace(own, traffic=Traffic.even(own.graph, own.counts))
    assert neuron_rates(even) is None
    assert most_often(even) == pytest.approx(most_often(own))


# --- where nothing scales ---------------------------------------------------------------------


def test_a_network_that_cannot_spike_has_no_rate() -> None:
    flat = replace(images(), values=images().values[:].reshape(5, 64))
    still = count(one_layer("direct"), flat, seed=0)
    assert spikes_per_step(still) is None and neuron_rates(still) is None
    assert most_often(still) == 1.0
    assert "nothing in this network spikes" in str(nothing_scales(still))
    assert nothing_scales(count(one_layer("poisson"), flat, seed=0)) is None


def test_a_silent_run_has_a_rate_of_zero_that_no_factor_scales(own: Counted) -> None:
    dark = replace(images(), values=torch.zeros_like(images().values[:]))
    silent = count(network(), dark, seed=0)
    assert spikes_per_step(silent) == 0.0
    assert "no spike was sent" in str(nothing_scales(silent))
    assert nothing_scales(own) is None
