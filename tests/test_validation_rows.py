"""Files of measured rows: what their fields mean, and what is refused."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import validate
from validation import blouw, chip, rows
from validation.activity import count, rates_of
from validation.build import build
from validation.chip import case_of
from validation.rows import RowError, read_rows

EXAMPLE = Path(rows.__file__).with_name("example.json")
DOCUMENT = Path(__file__).parents[1] / "docs" / "validation.md"


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.json"
    assert validate.main(["--rows", str(EXAMPLE), "--json", str(output)]) == 0
    text = capsys.readouterr().out
    assert validate.main(["--rows", str(EXAMPLE), "--json", "-"]) == 0
    assert capsys.readouterr().out == output.read_text()
    data = json.loads(output.read_text())
    assert data["within"] and data["misses"] == []
    assert len(data["leave_one_out"]) == 21
    assert {one["row"] for one in data["predicted"]} == {"keyword"}
    assert list(data["reasons"]) == ["keyword"] and data["reasons"]["keyword"] in text
    small, sparse = data["rows"]
    assert [one["quantity"] for one in small["compared"]] == [
        "time", "time, chip", "dynamic energy", "dynamic energy, chip", "static energy",
    ]  # fmt: skip
    by = {one["quantity"]: one for one in small["compared"]}
    assert by["time"]["estimate"] == pytest.approx(by["time, chip"]["estimate"] + 0.001)
    assert by["dynamic energy"]["estimate"] == pytest.approx(
        by["dynamic energy, chip"]["estimate"] + 0.0002
    )
    assert "as the row gives it" in small["host"] and "calibrated constants" in sparse["host"]
    assert len(data["assumed"]) == 10
    for said in ("390 in, 29 out, 10 steps", "input 0.02, conv1 0.05", "60000 synaptic operations"):
        assert said in text
    for said in ("70.0 mW", "66.7 mW", "within 15 % (energy), 10 % (time) and its range"):
        assert said in text


def test_synops_a_step_are_those_of_the_built_network() -> None:
    sparse = read_rows(EXAMPLE)[1].workload
    network = build(sparse)
    counts = count(network, rates_of(sparse, network, 0.9), sparse.steps).per_inference()
    assert counts["synops"]["connected"] == pytest.approx(60_000 * 10, rel=1e-6)
    # 256 neurons of 64 synapses each, twelve times; 100 inputs and 256 neurons densely
    assert counts["synops"]["dense"] == 10 * (100 * 256 + 12 * 256 * 64 + 4 * 256 * 64 + 256 * 64)


def edited(change: Any) -> dict[str, Any]:
    document = json.loads(EXAMPLE.read_text())
    change(document, *document["rows"])
    return document


DAMAGE = {
    "'format'": lambda d, a, b: d.update(format="x"),
    "'extra' is unknown": lambda d, a, b: a.update(extra=1),
    "'chip' takes one of loihi1, loihi2": lambda d, a, b: a.update(chip="tpu"),
    "'steps' takes a whole number in 1..20000": lambda d, a, b: a.update(steps=0),
    "give 'rate'": lambda d, a, b: a.update(synops_per_step=5.0),
    "'from' takes a list of names among": lambda d, a, b: a["layers"][0].update({"from": ["no"]}),
    "the name 'conv1' is taken": lambda d, a, b: a["layers"][1].update(name="conv1"),
    "'shape' takes a list of 1 or 3": lambda d, a, b: a["layers"][0].update(shape=[2, 2]),
    "[channels, height, width]": lambda d, a, b: a["layers"][0].update(shape=[5]),
    "'rate' takes a number from 0 up to 1": lambda d, a, b: a["layers"][0].update(rate=1.5),
    "make no network": lambda d, a, b: a["layers"][0].update(shape=[16, 33, 34]),
    "does not divide": lambda d, a, b: a["layers"][1].update(pool=3),
    "3 groups do not divide 16": lambda d, a, b: a["layers"][1].update(groups=3),
    "fan_in 300 of 256 sources": lambda d, a, b: b["layers"][1].update(fan_in=300),
    "'fan_in' takes": lambda d, a, b: b["layers"][1].pop("fan_in"),
    "no split onto 999 cores": lambda d, a, b: b["layers"][0].update(cores=999),
    "it must lie in 0..1": lambda d, a, b: b.update(synops_per_step=1e9),
    "layers; give at most": lambda d, a, b: b["layers"][1].update(depth=1000, copies=1000),
    "weights; give at most": lambda d, a, b: b["layers"][0].update(shape=[9_000_000]),
    "'running' needs 'idle_before'": lambda d, a, b: b["measured"]["power_w"].pop("idle_before"),
    "'chip' takes a number above 0, got Infinity": lambda d, a, b: (
        a["measured"]["energy_j"].update(chip=float("inf"))
    ),
    "nothing is measured": lambda d, a, b: b.update(measured={}),
    "row names must differ": lambda d, a, b: b.update(name=a["name"]),
    "'name' takes a text of one line": lambda d, a, b: a.update(name="two\nlines"),
}  # fmt: skip


@pytest.mark.parametrize("said", DAMAGE)
def test_damaged_rows_are_refused_in_one_line(said: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(edited(DAMAGE[said])))
    with pytest.raises(RowError) as caught:
        for row in read_rows(path):
            case_of(row).chip(0.05)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_no_machine_counts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    row = read_rows(EXAMPLE)[1]
    monkeypatch.setattr(chip, "MOST_CORE_STEPS", 1000)
    with pytest.raises(RowError, match="'sparse-branches': .* give fewer steps or layers"):
        case_of(replace(row, workload=replace(row.workload, steps=1000)))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00", '{"rows": NaN}'])
def test_files_of_something_else_are_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    for given in (path, tmp_path, tmp_path / "none.json"):
        assert validate.main(["--rows", str(given)]) == 2
        captured = capsys.readouterr()
        assert captured.out == "" and captured.err.count("\n") == 1
        assert str(given) in captured.err


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a document and every key of it."""
    keys = data if isinstance(data, dict) else range(len(data)) if isinstance(data, list) else ()
    for key in list(keys):
        yield data, key
        yield from places(data[key])


def test_no_value_anywhere_ends_in_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    odd = (None, "x", -1, 2.5, [{}], True, float("nan"))
    document = json.loads(EXAMPLE.read_text())
    count_of = len(list(places(document)))
    refused = 0
    for i in range(count_of):
        for value in odd:
            changed = copy.deepcopy(document)
            container, key = list(places(changed))[i]
            container[key] = value
            path.write_text(json.dumps(changed))
            try:
                read_rows(path)
            except RowError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused > 0.7 * count_of * len(odd)


def test_the_document_names_every_field_and_the_tested_example() -> None:
    text = DOCUMENT.read_text()
    for name in {*rows._ROW, *rows._LAYER, *rows._MEASURED}:
        assert f"`{name}`" in text, name
    assert "benchmarks/validation/example.json" in text


def test_the_logs_are_read_as_their_authors_do(tmp_path: Path) -> None:
    for folder in ("idle", "running"):
        (tmp_path / folder).mkdir()
    lines = [f"t{i:03d},{0.5 if i in (18, 61) else 0.03}" for i in range(80)]
    (tmp_path / "idle" / "loihi_a.csv").write_text("\n".join(["Time,Total Power (W)", *lines]))
    # the header counts among the twenty lines that are left out, as in the authors' program
    assert blouw.idle_before(tmp_path) == pytest.approx(0.03)
    begin, end = "2019-03-25_10:00:00.000000", "2019-03-25_10:00:02.000000"
    watts = [("2019-03-25_09:59:59.000000", 0.03), (begin, 0.1), (end, 0.12)]
    watts += [(f"2019-03-25_10:00:0{i}.000000", 0.2 if i < 6 else 0.09) for i in range(3, 8)]
    log = tmp_path / "running" / "loihi_a.csv"
    log.write_text("Time,W\n" + "\n".join(f"{when},{value}" for when, value in watts) + "\n2019")
    said = {"start_time": begin, "end_time": end, "n_inferences": 200.0}
    log.with_suffix(".json").write_text(json.dumps(said))
    measured = blouw.measured(tmp_path, "loihi_a.json", 0.03)
    assert measured["time_s"]["inference"] == 0.01
    assert measured["power_w"] == {
        "running": 0.11, "spread": 0.0, "idle_before": 0.03, "idle_after": 0.09,
    }  # fmt: skip


def test_rates_fill_counts_exactly() -> None:
    workload = read_rows(EXAMPLE)[0].workload
    network = build(workload)
    counts = count(network, rates_of(workload, network, 0.5), workload.steps)
    spikes = {row["name"]: row["spikes"] for row in counts.per_inference()["layers"]}
    assert spikes["conv1"] == pytest.approx(32 * 0.05 * 16 * 34 * 34)
    assert spikes["conv2"] == pytest.approx(32 * 0.03 * 32 * 17 * 17)
    assert counts.per_inference()["input_spikes"] == pytest.approx(32 * 0.02 * 2 * 34 * 34)
    assert np.all(counts.layers[0].spikes[1:33] == counts.layers[0].spikes[1])
