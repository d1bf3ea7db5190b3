"""Measuring on a counter that is renewed every tenth of a second, in a time made for it."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from spikeship.hw_models.meters.measuring import (
    BatchSearch,
    Measurement,
    Timing,
    best_batch,
    measure,
    timed,
)
from spikeship.hw_models.meters.meter import MeterError


class Bench:
    """A GPU that draws 50 W, 60 W once it has worked in earnest, and 250 W at work.

    Its counter shows the joules as of the last tenth of a second.
    """

    device, counter = "Test GPU", "a counter"

    def __init__(self, busy_w: float = 250.0, call_s: float = 0.05, tick_s: float = 0.1) -> None:
        self.busy_w, self.call_s, self.tick_s = busy_w, call_s, tick_s
        self.now, self.joules, self.shown, self.ticks = 100.02, 7.0, 7.0, 1000
        self.idle_w, self.pending, self.calls, self.asked_under_way = 50.0, 0, 0, False

    def _advance(self, seconds: float, watts: float) -> None:
        end = self.now + seconds
        while (edge := (self.ticks + 1) * self.tick_s) <= end + 1e-9:
            self.joules += (edge - self.now) * watts
            self.now, self.ticks, self.shown = edge, self.ticks + 1, self.joules
        self.joules += (end - self.now) * watts
        self.now = end

    def energy_j(self) -> float:
        assert self.pending == 0, "read while work was still under way"
        return self.shown

    def synchronize(self) -> None:
        while self.pending:
            self.pending -= 1
            self._advance(self.call_s, self.busy_w)

    def state(self) -> dict[str, Any]:
        self.asked_under_way = self.pending > 0
        self.idle_w = 60.0
        return {"sm_clock_mhz": 1980, "driver": "570.1", "persistence": None}

    def run(self) -> None:
        self.pending += 1
        self.calls += 1

    def sleep(self, seconds: float) -> None:
        self._advance(seconds, self.idle_w)

    def timing(self, **options: float) -> Timing:
        return Timing(clock=lambda: self.now, sleep=self.sleep, **options)

    def measure(self, batch: int = 4, **options: float) -> Measurement:
        return measure(self.run, batch, self, self.timing(**options))


def test_idle_power_before_and_after_is_subtracted_and_shown() -> None:
    found = Bench().measure(4)
    assert found.idle_before_w == pytest.approx(50, rel=1e-3)
    assert found.idle_after_w == pytest.approx(60, rel=1e-3)
    assert found.latency_s == pytest.approx(0.05)
    # 250 W for 0.05 s and 4 inferences, of which 55, 60 or 0 W are idle
    assert found.energy_j == pytest.approx(195 * 0.05 / 4, rel=1e-3)
    assert found.low == pytest.approx(190 * 0.05 / 4, rel=1e-3)
    assert found.high == pytest.approx(250 * 0.05 / 4, rel=1e-3)


def test_what_was_drawn_and_how_long_are_of_the_same_span() -> None:
    """Unaligned, 0.1 s of a counter's lag at either end would be 1 % of the joules."""
    for call_s in (0.05, 0.004):
        found = Bench(call_s=call_s).measure(1)
        assert found.drawn_j / found.elapsed_s == pytest.approx(250, rel=5e-4)
        assert found.elapsed_s == pytest.approx(found.calls * call_s)
        assert 10 <= found.elapsed_s < 10.3
        assert found.interval_s == pytest.approx(0.1, abs=0.002)
        assert found.uncertainty == pytest.approx(call_s / found.elapsed_s)


def test_calls_longer_than_the_counters_interval_say_how_far_they_may_be_off() -> None:
    found = Bench(call_s=3.0).measure(1)
    assert found.latency_s == pytest.approx(3.0)
    assert found.uncertainty == pytest.approx(0.1 / found.elapsed_s, rel=0.02)
    assert found.drawn_j / found.elapsed_s == pytest.approx(250, rel=found.uncertainty)


def test_the_device_is_asked_for_its_state_while_it_works() -> None:
    bench = Bench()
    found = bench.measure()
    assert bench.asked_under_way
    assert found.state["sm_clock_mhz"] == 1980
    said = " / ".join(found.assumptions)
    assert "sm_clock_mhz 1980, driver 570.1" in said and "persistence" not in said
    assert "50 W before and 60 W after" in said


def test_every_call_counts_once() -> None:
    bench = Bench(call_s=0.5)
    found = bench.measure(1)
    warm_up, aligning = 2, 1
    assert found.calls == bench.calls - warm_up - aligning


@pytest.mark.parametrize(
    "options", [{"seconds": 9.9}, {"seconds": 121.0}, {"idle_seconds": 0.0}, {"seconds": math.nan}]
)
def test_durations_that_say_too_little_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(MeterError, match="10 s to 120 s of work"):
        Timing(**options)
    with pytest.raises(MeterError, match="at least one"):
        Bench().measure(0)


def test_work_that_draws_no_more_than_idle_is_refused() -> None:
    with pytest.raises(MeterError, match="Test GPU: .* is not above its idle 60 W"):
        Bench(busy_w=55.0).measure()


def test_a_counter_that_stands_still_is_refused() -> None:
    with pytest.raises(MeterError, match="stands still at 7 J"):
        Bench(tick_s=1e6).measure()


class FullError(Exception):
    pass


def search(joules: Callable[[int], float], largest: int = 64, memory: int = 1 << 30) -> BatchSearch:
    """Search over batches whose work draws so many joules above idle, in 0.05 s."""
    bench = Bench()

    def make(batch: int) -> Callable[[], None]:
        if batch > memory:
            raise FullError
        bench.idle_w, bench.busy_w = 50.0, 55.0 + joules(batch) / bench.call_s
        return bench.run

    return best_batch(make, bench, bench.timing(), largest=largest, out_of_memory=FullError)


def test_the_batch_doubles_until_an_inference_takes_no_fewer_joules() -> None:
    costs = {1: 8.0, 2: 10.0, 4: 12.0, 8: 28.0, 16: 1.0}  # 8, 5, 3, 3.5 J an inference
    found = search(costs.__getitem__)
    assert [one.inferences_per_call for one in found.measurements] == [1, 2, 4, 8]
    assert (found.best.inferences_per_call, found.ended) == (4, "no fewer joules")
    assert found.best.energy_j == pytest.approx(3.0, rel=2e-3)


def test_memory_ends_the_search_wherever_it_ends() -> None:
    found = search(lambda batch: 8.0, memory=5)
    assert [one.inferences_per_call for one in found.measurements] == [1, 2, 4]
    assert (found.best.inferences_per_call, found.ended) == (4, "out of memory")
    with pytest.raises(MeterError, match="one inference does not fit"):
        search(lambda batch: 8.0, memory=0)


def test_a_batch_that_fails_costs_no_batch_before_it() -> None:
    costs = {1: 8.0, 2: 10.0, 4: -2.0}  # a batch of 4 draws less than 60 W, idle after work
    found = search(costs.__getitem__)
    assert [one.inferences_per_call for one in found.measurements] == [1, 2]
    assert (found.best.inferences_per_call, found.ended) == (2, "failed")
    assert isinstance(found.failure, MeterError) and "not above its idle" in str(found.failure)
    found = search({1: 8.0, 2: 10.0}.__getitem__)
    assert len(found.measurements) == 2 and isinstance(found.failure, KeyError)
    assert search(costs.__getitem__, largest=2).failure is None
    with pytest.raises(MeterError, match="not above its idle"):
        search(lambda batch: -2.0)


def test_no_batch_goes_beyond_the_largest() -> None:
    found = search(lambda batch: 8.0, largest=9)
    assert (found.best.inferences_per_call, found.ended) == (8, "largest batch")


def test_without_a_counter_there_are_seconds() -> None:
    bench = Bench(call_s=0.3)

    def run() -> None:
        bench.run()
        bench.synchronize()

    assert timed(run, 2.0, clock=lambda: bench.now) == pytest.approx(0.3)
    assert bench.calls == 1 + 7
