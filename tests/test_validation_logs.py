"""Blouw et al.'s power logs as their authors read them, and the devices beside Loihi."""

import json
from pathlib import Path

import pytest

from spikeship.deploy.validation import conventional, power_logs, validate
from spikeship.deploy.validation.rows import read_rows

DOCUMENT = Path(__file__).parents[1] / "docs" / "validation.md"


def test_the_logs_are_read_as_their_authors_do(tmp_path: Path) -> None:
    for folder in ("idle", "running"):
        (tmp_path / folder).mkdir()
    lines = [f"t{i:03d},{0.5 if i in (18, 61) else 0.03}" for i in range(80)]
    (tmp_path / "idle" / "loihi_a.csv").write_text("\n".join(["Time,Total Power (W)", *lines]))
    # the header counts among the twenty lines that are left out, as in the authors' program
    assert power_logs.idle_before(tmp_path) == pytest.approx(0.03)
    begin, end = "2019-03-25_10:00:00.000000", "2019-03-25_10:00:02.000000"
    watts = [("2019-03-25_09:59:59.000000", 0.03), (begin, 0.1), (end, 0.12)]
    watts += [(f"2019-03-25_10:00:0{i}.000000", 0.2 if i < 6 else 0.09) for i in range(3, 8)]
    log = tmp_path / "running" / "loihi_a.csv"
    log.write_text("Time,W\n" + "\n".join(f"{when},{value}" for when, value in watts) + "\n2019")
    said = {"start_time": begin, "end_time": end, "n_inferences": 200.0}
    log.with_suffix(".json").write_text(json.dumps(said))
    measured = power_logs.measured(tmp_path, "loihi_a.json", 0.03)
    assert measured["time_s"]["inference"] == 0.01
    assert measured["power_w"] == {
        "running": 0.11, "spread": 0.0, "idle_before": 0.03, "idle_after": 0.09,
    }  # fmt: skip


@pytest.mark.parametrize("wide", [False, True], ids=["two columns", "ten columns"])
def test_other_devices_logs_are_read_as_their_authors_do(tmp_path: Path, wide: bool) -> None:
    for folder in ("idle", "running"):
        (tmp_path / folder).mkdir()

    def line(when: str, watts: str) -> str:
        return ",".join([when, *["-"] * 6, watts, "-", "-"]) if wide else f"{when},{watts}"

    # twenty lines at the beginning, the header among them, and nineteen at the end are left out
    idle = [line(f"2018/09/15 19:00:{i:02d}", "9" if i in (18, 40) else "3.0 W") for i in range(59)]
    (tmp_path / "idle" / "x_idle.csv").write_text("\n".join(["Time,Power", *idle]))
    watts = [
        ("09:59", "100 W"),
        ("10:00", "8.0 W"),
        ("10:01", ""),
        ("10:02", "10 W"),
        ("10:03", "70"),
    ]
    log = tmp_path / "running" / "x_bsize_1.csv"
    lines = [line(f"2018/09/15 {when}:00.123", value) for when, value in watts]
    log.write_text("\n".join(["Time,Power", ",", *lines]))
    said = {
        "start_time": "2018-09-15_10:00:00", "end_time": "2018-09-15_10:02:30",
        "n_inferences": 300, "n_seconds": 150,
    }  # fmt: skip
    log.with_suffix(".json").write_text(json.dumps(said))
    assert power_logs.of_device(tmp_path, "x_bsize_1", "x_idle") == {
        "running_w": 9.0, "idle_w": 3.0, "inferences_per_s": 2.0,
    }  # fmt: skip


def test_the_keyword_spotter_on_conventional_hardware() -> None:
    published = read_rows(validate.BLOUW, shipped=True)
    found, source = conventional.devices(published)
    assert "arXiv 1812.01739" in source
    # millijoules an inference above idle, as published for batch 1 and 64
    known = {
        ("Quadro K4000", 1): 29.8, ("Quadro K4000", 64): 0.727,
        ("Xeon E5-2630", 1): 6.3, ("Xeon E5-2630", 64): 0.348,
        ("Jetson TX1", 1): 5.6, ("Jetson TX1", 64): 0.102,
    }  # fmt: skip
    said = {(each.device, each.batch): each.dynamic_j * 1e3 for each in found}
    assert said == pytest.approx(known, rel=5e-3)
    assert all(each.total_j > each.dynamic_j for each in found)
    # 390-256-256-29: every connection and every neuron once, at 300 pJ and 8.6 nJ
    operations = 390 * 256 + 256 * 256 + 256 * 29 + 256 + 256 + 29
    joules = {each.model: each.model_j for each in found}
    assert joules["keras-spiking:gpu"] == pytest.approx(operations * 300e-12)
    assert joules["keras-spiking:cpu"] == pytest.approx(operations * 8.6e-9)
    assert joules[None] is None
    text = DOCUMENT.read_text()
    (row,) = (row for row in published if row.name == "keyword")
    for line in conventional.listed(found, source, row):
        assert line in text
