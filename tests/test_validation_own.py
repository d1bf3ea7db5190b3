"""A user's own measured row: which part is compared with what, and from where."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from spikeship.deploy.cli.app import main
from spikeship.deploy.validation.fields import RowError
from spikeship.deploy.validation.fit import Span, chip_cost
from spikeship.deploy.validation.own_rows import OwnRow, own_row
from spikeship.deploy.validation.placed_workload import case_of
from spikeship.deploy.validation.rows import read_rows
from spikeship.hw_models import chips
from spikeship.hw_models.chips.host import LOIHI1_HOST

RATE = Span(0.05, 0.05, 0.05)
ROW: dict[str, Any] = {
    "name": "mine",
    "source": "nobody",
    "chip": "loihi1",
    "steps": 10,
    "input": {"shape": [100]},
    "layers": [{"name": "only", "shape": [50], "from": ["input"], "connect": "dense"}],
    "rate": 0.1,
    "measured": {},
}


def told(path: Path, measured: dict[str, Any], **fields: Any) -> tuple[OwnRow, Any]:
    """What is said of a row of these measurements, and what its chip takes."""
    row = {**copy.deepcopy(ROW), **fields, "measured": measured}
    document = {"format": "spikeship validation rows", "version": 1, "rows": [row]}
    path = path / "rows.json"
    path.write_text(json.dumps(document))
    case = case_of(read_rows(path)[0])
    return own_row(case, RATE), chip_cost(case, RATE)


def estimates(said: OwnRow) -> dict[str, Span]:
    return {one.quantity: one.estimate for one in said.compared}


def test_static_and_dynamic_of_a_cold_row_hold_the_rise_once(tmp_path: Path) -> None:
    energy = {"dynamic": 1e-3, "static": 1e-3}
    times = {"time_s": {"inference": 1e-2, "host": 9e-3}}
    warm, _ = told(tmp_path, {"energy_j": energy, **times})
    cold, _ = told(tmp_path, {"idle": "cold", "energy_j": energy, **times})
    seconds = estimates(warm)["time"]
    assert estimates(warm)["static energy"].value == pytest.approx(0.104 * seconds.value)
    static, dynamic = estimates(cold)["static energy"], estimates(cold)["dynamic energy"]
    assert static.value == static.low / seconds.low * seconds.value
    assert [static.value, static.high] == pytest.approx(
        [0.0295 * seconds.value, 0.0373 * seconds.high]
    )
    above = estimates(warm)["dynamic energy"]
    for end, watts in (("value", 0.070), ("low", 0.0667), ("high", 0.070)):
        rise = getattr(dynamic, end) - getattr(above, end)
        assert rise == pytest.approx(watts * getattr(seconds, end))
    # all of it together is a warm board's power
    whole = static.value + dynamic.value - above.value
    assert whole / seconds.value == pytest.approx(0.0995)
    assert "idle rises by 70.0 mW with a first run (the chip's)" in cold.notes


def test_a_rows_own_rise_of_idle_takes_the_place_of_the_published_one(tmp_path: Path) -> None:
    power = {"running": 0.11, "idle_before": 0.0295, "idle_after": 0.0395}
    said, chip = told(
        tmp_path, {"idle": "cold", "time_s": {"inference": 1e-2, "host": 9e-3}, "power_w": power}
    )
    seconds = 9e-3 + chip.time_s.value
    joules = LOIHI1_HOST.joules.value + chip.dynamic_j.value + 0.01 * seconds
    assert estimates(said)["dynamic energy"].value == pytest.approx(joules)
    assert "idle rises by 10.0 mW with a first run (the row's own)" in said.notes


def test_loihi_1s_idle_is_not_another_chips(tmp_path: Path) -> None:
    dynamic = {"idle": "cold", "time_s": {"inference": 1e-2}, "energy_j": {"dynamic": 1e-3}}
    with pytest.raises(RowError, match="no rise of idle is public for loihi2: give 'idle_before'"):
        told(tmp_path, dynamic, chip="loihi2")
    own = {**dynamic, "power_w": {"idle_before": 0.2, "idle_after": 0.25}}
    said, chip = told(tmp_path, own, chip="loihi2")
    joules = chip.dynamic_j.value + 0.05 * chip.time_s.value
    assert estimates(said)["dynamic energy"].value == pytest.approx(joules)
    own["energy_j"] = {"static": 1e-3}
    with pytest.raises(RowError, match="no idle of a fresh loihi2 board is public"):
        told(tmp_path, own, chip="loihi2")
    # nothing of a cold row without energy needs it
    told(tmp_path, {"idle": "cold", "time_s": {"inference": 1e-2}}, chip="loihi2")


@pytest.mark.parametrize(("steps", "least", "most"), [(10, 1, 1), (40, 1, 4), (5, 0.5, 1)])
def test_a_measured_host_is_compared_with_the_constants(
    tmp_path: Path, steps: int, least: float, most: float
) -> None:
    only_time, _ = told(tmp_path, {"time_s": {"host": 9e-3}}, steps=steps)
    only_energy, _ = told(tmp_path, {"energy_j": {"host": 5e-5}}, steps=steps)
    for said, name, constant in (
        (only_time, "time, host", LOIHI1_HOST.seconds),
        (only_energy, "dynamic energy, host", LOIHI1_HOST.joules),
    ):
        (one,) = said.compared
        assert one.quantity == name and one.estimate.value == constant.value
        assert one.estimate.low == pytest.approx(constant.low * least)
        assert one.estimate.high == pytest.approx(constant.high * most)
        assert any("come from 10 steps" in note for note in said.notes) is (steps != 10)


def test_where_no_host_was_calibrated_the_row_says_so(tmp_path: Path) -> None:
    measured = {"time_s": {"inference": 1e-2, "host": 9e-3}}
    said, chip = told(tmp_path, measured, chip="loihi2")
    assert set(estimates(said)) == {"time"}
    assert estimates(said)["time"].value == pytest.approx(9e-3 + chip.time_s.value)
    assert said.notes == [
        "host's time: as the row gives it; none was calibrated to compare it with",
        "host's energy: left out: none was calibrated for this chip",
    ]
    assert chips.get("loihi2").host is None


def test_runs_and_spread_stand_beside_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {
        "runs": 7,
        "time_s": {"inference": 1e-2, "spread": 2e-4},
        "power_w": {"running": 0.11, "idle_before": 0.1, "spread": 1e-3},
    }
    said, _ = told(tmp_path, measured)
    by = {one.quantity: one for one in said.compared}
    assert (by["time"].runs, by["time"].spread) == (7, 2e-4)
    # of 10 mW over 10 ms: a tenth by the power, a fiftieth by the time
    relative = (0.1**2 + 0.02**2) ** 0.5
    assert by["dynamic energy"].spread == pytest.approx(1e-4 * relative)
    main(["validate", "--rows", str(tmp_path / "rows.json")])
    text = capsys.readouterr().out
    assert "7, 2.00%" in text and "7, 10.20%" in text
    assert by["time"].to_json()["runs"] == 7 and by["time"].to_json()["spread"] == 2e-4
