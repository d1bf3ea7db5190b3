"""Break-even: the factor on the firing rate at which the chip's energy is a reference's."""

from dataclasses import replace

import pytest
import torch
from estimate_cases import images, network
from hypothesis import given
from hypothesis import strategies as st
from what_if_cases import dim_images, joules, one_layer, reference

from spikeship.deploy.analysis.rates import (
    RateEnergy,
    most_beyond,
    most_often,
    neuron_rates,
    scaled,
    share_beyond,
)
from spikeship.deploy.analysis.what_if import Question, _bound, _break_evens, what_if
from spikeship.deploy.analysis.what_if_result import WhatIf, crossing
from spikeship.deploy.run.counting import Counted, count, place_on
from spikeship.hw_models import chips
from spikeship.hw_models.estimate import estimate
from spikeship.hw_models.events.traffic import Traffic
from spikeship.hw_models.placer.place import place


@pytest.fixture(scope="module")
def own() -> Counted:
    return count(network(), images(), seed=0)


@pytest.fixture(scope="module")
def found(own: Counted) -> WhatIf:
    levels = [sum(joules(scaled(own, f), "loihi1")[1] for f in (0.5, 0.6)) / 2, 1e-12, 1.0]
    references = [replace(reference(level), name=f"{level:.3g}") for level in levels]
    question = Question(rates=(1.0,), chips=("loihi1", "loihi2"))
    return what_if(network(), images(), question, references, seed=0)


@given(st.floats(1e-9, 1.0), st.floats(1e-9, 1.0), st.floats(0.0, 1.0), st.floats(0.1, 50.0))
def test_a_crossing_is_where_the_energy_is_the_level(
    fixed_j: float, slope: float, bend: float, most: float
) -> None:
    def energy(factor: float) -> float:
        return fixed_j + slope * factor + bend * max(0.0, factor - most / 2)

    level = fixed_j + 0.7 * (energy(most) - fixed_j)
    found = crossing(energy, level, most)
    assert found.factor is not None
    assert energy(found.factor) == pytest.approx(level, rel=1e-6)


def test_no_crossing_says_which_side_the_chip_is_on() -> None:
    above = crossing(lambda factor: 2.0 + factor, 1.0, 5.0)
    below = crossing(lambda factor: 2.0 + factor, 8.0, 5.0)
    assert above.factor is None and "more even without" in above.why
    assert below.factor is None and "less even at the largest factor" in below.why
    assert "on average" in below.why
    at_the_end = crossing(lambda factor: 2.0 + factor, 7.0, 5.0)
    assert at_the_end.factor == pytest.approx(5.0)


def test_break_even_recomputed_by_the_estimate_at_that_rate(own: Counted, found: WhatIf) -> None:
    met = [row for row in found.break_even if row.value.factor is not None]
    assert met
    levels = {row.name: row.energy_j for row in found.references}
    for row in met:
        assert row.value.factor is not None
        low, value, high = joules(scaled(own, row.value.factor), row.chip)
        assert value == pytest.approx(levels[row.against], rel=1e-4)
        assert low <= levels[row.against] <= high


def test_break_even_is_none_where_energies_never_meet(found: WhatIf) -> None:
    for row in found.break_even:
        if row.against == "1e-12":
            assert row.value.factor is None and "more even without" in row.value.why
        if row.against == "1":
            assert row.value.factor is None and "less even at" in row.value.why


def test_the_ends_of_a_break_even_take_opposite_ends_of_both_ranges(own: Counted) -> None:
    low, value, high = (joules(scaled(own, 0.5), "loihi1")[k] for k in range(3))
    level = reference(value, value * 0.99, value * 1.01)
    question = Question(rates=(1.0,), chips=("loihi1",))
    row, *_ = what_if(network(), images(), question, [level], seed=0).break_even
    assert row.value.factor == pytest.approx(0.5, rel=1e-3)
    if row.low.factor is not None:  # the chip at its high end meets the level at a lower rate
        assert row.low.factor <= 0.5
        assert joules(scaled(own, row.low.factor), "loihi1")[2] == pytest.approx(
            level.low, rel=1e-4
        )
    else:
        assert joules(scaled(own, 0.0), "loihi1")[2] >= level.low
    if row.high.factor is not None:
        assert row.high.factor >= 0.5


def test_a_reference_without_an_upper_bound_bounds_nothing() -> None:
    open_end = replace(reference(1e-7), high=None)
    question = Question(rates=(1.0,), chips=("loihi2",))
    row, *_ = what_if(network(), images(), question, [open_end], seed=0).break_even
    assert row.high.factor is None and "nothing bounds" in row.high.why


@pytest.mark.parametrize("encoding", ["poisson", "direct"])
@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_energy_by_rate_is_the_estimates_at_every_rate(encoding: str, chip: str) -> None:
    counted = count(network(encoding), images(), seed=0)
    spec = chips.get(chip)
    placement = place(counted.graph, spec, traffic=counted.traffic)
    energy = RateEnergy(counted, placement)
    for factor in (0.0, 0.3, 1.0, 1.7):
        there = scaled(counted, factor)
        found = estimate(
            there.graph, there.counts, spec, traffic=there.traffic, placement=placement
        ).energy
        assert energy.at(factor, "value") == pytest.approx(found.dynamic + found.static, rel=1e-6)
        assert energy.at(factor, "high") == pytest.approx(found.high, rel=1e-6)
        # counts are whole numbers, so the share that meets a weight is rounded in the estimate
        assert energy.at(factor, "low") == pytest.approx(found.low, rel=1e-2)


def test_each_end_says_how_many_neurons_could_not_send_so_often() -> None:
    dim = count(network(), dim_images(), seed=0)
    most, rates = most_often(dim), neuron_rates(dim)
    at = 0.9 * most
    value = RateEnergy(dim, place_on(dim, "loihi1")).at(at, "value")
    question = Question(rates=(1.0, 2.0), chips=("loihi1",))
    found = what_if(network(), dim_images(), question, [reference(value)], seed=0)
    assert rates is not None
    row = found.break_even[0].to_json()
    assert row["value"]["factor"] == pytest.approx(at, rel=1e-3)
    share = share_beyond(rates, row["value"]["factor"])
    assert row["value"]["share_beyond_once"] == share and share
    for end in ("low", "high"):
        factor = row[end]["factor"]
        expected = None if factor is None else share_beyond(rates, factor)
        assert row[end]["share_beyond_once"] == expected
    assert row["largest_factor"] == most
    (line,) = [line for line in found.assumptions if line.startswith("a factor goes up to")]
    assert "on its average" in line
    name, of_it = most_beyond(rates, most)
    assert line.endswith(
        f", {share_beyond(rates, most):.1%} at {most:.3g} ({of_it:.1%} of {name!r})"
    )
    assert f": {share_beyond(rates, 2.0):.1%} at 2 (" in line


@pytest.mark.parametrize(("level", "side"), [(1e-12, "more"), (1.0, "less")])
def test_where_nothing_scales_it_says_so_and_on_which_side_the_chip_is(
    level: float, side: str
) -> None:
    flat = replace(images(), values=images().values[:].reshape(5, 64))
    dark = replace(images(), values=torch.zeros_like(images().values[:]))
    question = Question(rates=(0.5, 1.0, 2.0), chips=("loihi1", "loihi2"))
    for graph, given_, why in (
        (one_layer("direct"), flat, "nothing in this network spikes"),
        (network(), dark, "no spike was sent"),
    ):
        found = what_if(graph, given_, question, [reference(level)], seed=0)
        assert [point.at for point in found.points] == [1.0, 1.0]
        assert len(found.left_out) == 2
        assert all(why in line and "scales nothing" in line for line in found.left_out)
        for row in (row.to_json() for row in found.break_even if row.against == "level"):
            assert row["value"]["factor"] is None and row["largest_factor"] is None
            assert row["value"]["why"].startswith(f"the chip takes {side} at any factor: {why}")
        assert not any("a factor goes up to" in line for line in found.assumptions)


def test_neurons_that_were_not_told_apart_are_said_to_be_unknown(own: Counted) -> None:
    even = replace(own, traffic=Traffic.even(own.graph, own.counts))
    (line,) = _bound(even, (1.0,), neuron_rates(even))
    assert line.endswith("which none can: unknown, neurons were not told apart")


def test_every_end_meets_the_opposite_one(own: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chip of 1 J at every factor of 1, at its low end half of it and at its high end twice."""
    joules_at = {"low": 0.5, "value": 1.0, "high": 2.0}

    class Plain:
        def __init__(self, *_: object) -> None: ...

        def at(self, factor: float, level: str) -> float:
            return factor * joules_at[level]

    monkeypatch.setattr("spikeship.deploy.analysis.what_if.RateEnergy", Plain)
    level = reference(0.3, low=0.2, high=0.4)
    (row,) = _break_evens(own, place_on(own, "loihi1"), [level], None)
    # 2 f = 0.2, 1 f = 0.3, f / 2 = 0.4
    found = [end.factor for end in (row.low, row.value, row.high)]
    assert found == pytest.approx([0.1, 0.3, 0.8])
