"""What was measured of a row, and which parts of it can have an estimate at all."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from spikeship.deploy.validation.fields import Fields, RowError

Part = Literal["dynamic", "chip", "static", "host"]
IDLE_CHIP = "loihi1"  # whose fresh board's idle, and its rise with a first run, are published
FIELDS = {"runs", "idle", "time_s", "power_w", "energy_j"}


@dataclass(frozen=True)
class Measured:
    """What was measured, per inference.

    Attributes:
        runs: how many were averaged.
        time_s: seconds of the whole inference.
        chip_time_s: of the chip's part.
        host_time_s: of the host's part.
        time_spread_s: standard deviation over the runs.
        energy_j: by part: ``dynamic`` (all above idle, the host's with it), ``chip`` (neuron cores
            alone), ``static``, ``host``.
        energy_spread_j: standard deviation of ``dynamic`` over the runs, from those of power and
            time; None where the runs' power is not known.
        cold: dynamic energy is above the idle before a first run, not above that after one.
        idle_rise_w: watts by which idle rose with the row's own run; None where not known.
    """

    runs: int
    time_s: float | None
    chip_time_s: float | None
    host_time_s: float | None
    time_spread_s: float | None
    energy_j: Mapping[Part, float]
    energy_spread_j: float | None
    cold: bool
    idle_rise_w: float | None


def measured(at: Fields, chip: str) -> Measured:
    """Read the field ``measured`` of a row on this chip.

    Raises:
        RowError: it is damaged, measures nothing, or holds what applies to no such row.
    """
    time = at.inside("time_s", {"inference", "chip", "host", "spread"})
    power = at.inside("power_w", {"running", "idle_before", "idle_after", "spread"})
    energy = at.inside("energy_j", set(get_args(Part)))
    seconds, spread_s = time.number("inference"), time.number("spread", zero=True)
    parts = {part: energy.number(part) for part in get_args(Part)}
    running, idle = power.number("running"), power.number("idle_before", zero=True)
    spread_w, spread_j = power.number("spread", zero=True), None
    if running is not None:
        if idle is None or seconds is None or idle >= running or parts["dynamic"] is not None:
            raise RowError(
                f"{power.where}: 'running' needs 'idle_before' below it, an inference's time, and "
                "no dynamic energy beside it"
            )
        parts["dynamic"] = (running - idle) * seconds
        if spread_w is not None:
            spread_j = math.hypot(spread_w * seconds, (running - idle) * (spread_s or 0.0))
    elif spread_w is not None:
        raise power.fail("spread", "the deviation of 'running', which is not given")
    if spread_s is not None and seconds is None:
        raise time.fail("spread", "the deviation of 'inference', which is not given")
    cold = at.choice("idle", ("warm", "cold"), "warm") == "cold"
    found = Measured(
        runs=at.count("runs", 1),
        time_s=seconds,
        chip_time_s=time.number("chip"),
        host_time_s=time.number("host"),
        time_spread_s=spread_s,
        energy_j={part: value for part, value in parts.items() if value is not None},
        energy_spread_j=spread_j,
        cold=cold,
        idle_rise_w=_rise(power, idle, cold),
    )
    if not found.energy_j and not any((seconds, found.chip_time_s, found.host_time_s)):
        raise RowError(f"{at.where}: nothing is measured; give 'time_s', 'power_w' or 'energy_j'")
    _check_cold(at, chip, found)
    return found


def _rise(power: Fields, idle: float | None, cold: bool) -> float | None:
    """Watts from the idle before to that after."""
    after = power.number("idle_after", zero=True)
    if after is None and idle is not None and "running" not in power.data:
        raise power.fail("idle_before", "what 'running' or 'idle_after' lies above; give one")
    if after is None:
        return None
    if not cold:
        raise power.fail("idle_after", "what idle rose to where 'idle' is 'cold'; leave it out")
    if idle is None or after < idle:
        raise power.fail("idle_after", "'idle_before' beside it, and at least that")
    return after - idle


def _check_cold(at: Fields, chip: str, found: Measured) -> None:
    if not found.cold or chip == IDLE_CHIP:
        return
    if "dynamic" in found.energy_j and found.idle_rise_w is None:
        raise RowError(
            f"{at.where}: no rise of idle is public for {chip}: give 'idle_before' and "
            "'idle_after' in 'power_w', or measure above the idle of a board that has run ('warm')"
        )
    if "static" in found.energy_j:
        raise RowError(
            f"{at.where}: no idle of a fresh {chip} board is public, so static energy of a 'cold' "
            "row has no estimate: leave it out, or measure a board that has run ('warm')"
        )
