"""Joules and seconds of work that is repeated until a counter can be trusted."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from spikeship.hw_models.meters.meter import EnergyMeter, MeterError

MIN_SECONDS = 10.0  # a counter is renewed up to 0.1 s apart: 1 % of this
MAX_SECONDS = 120.0  # a RAPL counter may start again from 0 every few minutes
WARM_UP_S = 1.0
SETTLE_S = 1.0  # from work to idling
POLL_S = 0.001
STILL_S = 5.0  # a counter that has not moved for so long does not count
GAPS = 5  # between renewals, looked at

Work = Callable[[], None]


@dataclass(frozen=True)
class Timing:
    """How long is measured, and on which clock.

    Attributes:
        seconds: least duration of the work.
        idle_seconds: duration of each of the two idle readings.
        clock: seconds since some moment.
        sleep: waits so many seconds.

    Raises:
        MeterError: work of less than 10 s or more than 120 s, or no idle time.
    """

    seconds: float = MIN_SECONDS
    idle_seconds: float = 5.0
    clock: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if not MIN_SECONDS <= self.seconds <= MAX_SECONDS or not 0 < self.idle_seconds <= 60:
            raise MeterError(
                f"{self.seconds:g} s of work and {self.idle_seconds:g} s idle: measure "
                f"{MIN_SECONDS:g} s to {MAX_SECONDS:g} s of work, and some idle time up to 60 s"
            )


@dataclass(frozen=True)
class Measurement:
    """A counter's figures of repeated work.

    Attributes:
        device: what did the work.
        counter: what counted.
        inferences_per_call: batch size.
        calls: how often the work was done.
        elapsed_s: seconds they took.
        drawn_j: joules they drew, idle power included.
        idle_before_w, idle_after_w: power of the idle device before and after them.
        interval_s: seconds between two renewals of the counter.
        state: of the device, while it worked.
    """

    device: str
    counter: str
    inferences_per_call: int
    calls: int
    elapsed_s: float
    drawn_j: float
    idle_before_w: float
    idle_after_w: float
    interval_s: float
    state: Mapping[str, Any]

    @property
    def inferences(self) -> int:
        """Inferences done in ``elapsed_s``."""
        return self.calls * self.inferences_per_call

    @property
    def latency_s(self) -> float:
        """Seconds of one call."""
        return self.elapsed_s / self.calls

    @property
    def idle_power_w(self) -> float:
        """Mean of the two idle readings."""
        return (self.idle_before_w + self.idle_after_w) / 2

    @property
    def energy_j(self) -> float:
        """Joules an inference, idle power subtracted."""
        return (self.drawn_j - self.idle_power_w * self.elapsed_s) / self.inferences

    @property
    def low(self) -> float:
        """Joules an inference, the higher of the two idle readings subtracted."""
        idle_w = max(self.idle_before_w, self.idle_after_w)
        return (self.drawn_j - idle_w * self.elapsed_s) / self.inferences

    @property
    def high(self) -> float:
        """Joules an inference with all that was drawn, idle power included."""
        return self.drawn_j / self.inferences

    @property
    def uncertainty(self) -> float:
        """Share of ``elapsed_s`` by which its ends may miss the counter's renewals."""
        return min(self.latency_s, self.interval_s) / self.elapsed_s

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the figures rest on, in sentences."""
        said = [
            f"measured with {self.counter}: {self.calls} calls of {self.inferences_per_call} "
            f"inferences in {self.elapsed_s:.4g} s, between two renewals of the counter (every "
            f"{self.interval_s:.2g} s, so within {self.uncertainty:.2%})",
            f"idle power of {self.idle_power_w:.4g} W is subtracted, the mean of "
            f"{self.idle_before_w:.4g} W before and {self.idle_after_w:.4g} W after the work; low "
            "takes the higher of the two, high holds it all",
            "latency is a whole call's; only this device's energy is in it",
        ]
        known = [f"{key} {value}" for key, value in self.state.items() if value is not None]
        return (*said, f"state of the device at work: {', '.join(known)}") if known else (*said,)


def measure(
    run: Work, inferences_per_call: int, meter: EnergyMeter, timing: Timing | None = None
) -> Measurement:
    """Measure joules and seconds of ``run`` on a meter.

    A second of warm-up; the idle device; ``run``, each time to its end, for at least
    ``timing.seconds``; the idle device again. Every one of the three begins and ends as the
    counter is renewed, so that its joules and its seconds are of the same span.

    Args:
        run: does ``inferences_per_call`` inferences.
        inferences_per_call: its batch size.
        meter: what counts.
        timing: how long.

    Raises:
        MeterError: a counter that cannot be read or stands still, or work that draws no more than
            idling does.
    """
    if inferences_per_call < 1:
        raise MeterError(f"{inferences_per_call} inferences a call; measure at least one")
    timing = timing or Timing()
    _warm_up(run, meter, timing)
    timing.sleep(SETTLE_S)
    interval = _interval(meter, timing)
    before = _idle_power(meter, timing)
    calls, elapsed, drawn, state = _work(run, meter, timing)
    timing.sleep(SETTLE_S)
    after = _idle_power(meter, timing)
    idle_w = max(before, after)
    if drawn <= idle_w * elapsed:
        raise MeterError(
            f"{meter.device}: {drawn:.3g} J in {elapsed:.3g} s is not above its idle "
            f"{idle_w:.3g} W; stop what else runs there, or measure a larger batch"
        )
    return Measurement(
        device=meter.device,
        counter=meter.counter,
        inferences_per_call=inferences_per_call,
        calls=calls,
        elapsed_s=elapsed,
        drawn_j=drawn,
        idle_before_w=before,
        idle_after_w=after,
        interval_s=interval,
        state=state,
    )


@dataclass(frozen=True)
class BatchSearch:
    """Batches of 1, 2, 4, … in turn, and why no larger one was tried.

    Attributes:
        measurements: one a batch.
        ended: why the search did.
        failure: what the next batch ended with, where it failed.
    """

    measurements: tuple[Measurement, ...]
    ended: Literal["no fewer joules", "out of memory", "largest batch", "failed"]
    failure: Exception | None = None

    @property
    def best(self) -> Measurement:
        """The one of fewest joules an inference."""
        return min(self.measurements, key=lambda measurement: measurement.energy_j)


def best_batch(
    make: Callable[[int], Work],
    meter: EnergyMeter,
    timing: Timing | None = None,
    *,
    largest: int,
    out_of_memory: type[BaseException] = MemoryError,
) -> BatchSearch:
    """Double the batch until an inference takes no fewer joules, or memory ends.

    Where a batch after the first fails, those before it are kept.

    Args:
        make: gives the work of a batch size.
        meter: what counts.
        timing: how long each is measured.
        largest: batch size not to go beyond.
        out_of_memory: what ``make`` or its work raises then.

    Raises:
        MeterError: one inference cannot be measured, as ``measure`` says, or does not fit.
        Exception: whatever else the work of one inference raises.
    """
    found: list[Measurement] = []
    batch = 1
    while batch <= largest:
        try:
            found.append(measure(make(batch), batch, meter, timing))
        except out_of_memory as error:
            if not found:
                raise MeterError(
                    f"{meter.device}: one inference does not fit in memory; free some of it"
                ) from error
            return BatchSearch(tuple(found), "out of memory")
        except Exception as error:
            if not found:
                raise
            return BatchSearch(tuple(found), "failed", error)
        if len(found) > 1 and found[-1].energy_j >= found[-2].energy_j:
            return BatchSearch(tuple(found), "no fewer joules")
        batch *= 2
    return BatchSearch(tuple(found), "largest batch")


def timed(run: Work, seconds: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of one call where nothing counts joules: the mean of at least so many seconds."""
    run()
    calls, start = 0, clock()
    while (elapsed := clock() - start) < seconds or calls == 0:
        run()
        calls += 1
    return elapsed / calls


def _warm_up(run: Work, meter: EnergyMeter, timing: Timing) -> None:
    start = timing.clock()
    while True:
        run()
        meter.synchronize()
        if timing.clock() - start >= WARM_UP_S:
            return


def _interval(meter: EnergyMeter, timing: Timing) -> float:
    """Seconds between two renewals of the counter."""
    moments = [_renewal(meter, timing, lambda: timing.sleep(POLL_S))[1] for _ in range(GAPS + 1)]
    return median(late - early for early, late in zip(moments, moments[1:], strict=False))


def _idle_power(meter: EnergyMeter, timing: Timing) -> float:
    """Watts while nothing is done."""

    def wait() -> None:
        timing.sleep(POLL_S)

    before, start, _ = _renewal(meter, timing, wait)
    timing.sleep(timing.idle_seconds)
    after, end, _ = _renewal(meter, timing, wait)
    return (after - before) / (end - start)


def _work(
    run: Work, meter: EnergyMeter, timing: Timing
) -> tuple[int, float, float, Mapping[str, Any]]:
    """Calls, seconds and joules between two renewals of the counter, and the device's state."""

    def call() -> None:
        run()
        meter.synchronize()

    before, start, _ = _renewal(meter, timing, call)
    calls = 0
    while timing.clock() - start < timing.seconds:
        call()
        calls += 1
    run()
    state = meter.state()  # asked while the work is under way
    meter.synchronize()
    after, end, more = _renewal(meter, timing, call)
    return calls + 1 + more, end - start, after - before, state


def _renewal(
    meter: EnergyMeter, timing: Timing, act: Callable[[], None]
) -> tuple[float, float, int]:
    """Repeat ``act`` until the counter moves: its joules, the moment, how often it was done."""
    known, start, acts = meter.energy_j(), timing.clock(), 0
    while True:
        act()
        acts += 1
        now, moment = meter.energy_j(), timing.clock()
        if now != known:
            return now, moment, acts
        if moment - start > STILL_S:
            raise MeterError(
                f"{meter.device}: its counter stands still at {now:g} J; it does not count here"
            )
