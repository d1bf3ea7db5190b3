"""Files of measured rows: what their fields mean, and what is refused."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spikeship.deploy.cli.app import main
from spikeship.deploy.validation import layers, measured, placed_workload, rows
from spikeship.deploy.validation.activity import count, rates_of
from spikeship.deploy.validation.fields import RowError
from spikeship.deploy.validation.network import build
from spikeship.deploy.validation.placed_workload import case_of
from spikeship.deploy.validation.rows import read_rows
from spikeship.hw_models import chips

PARTS = ("time", "energy")
EXAMPLE = Path(rows.__file__).with_name("example.json")
DOCUMENT = Path(__file__).parents[1] / "docs" / "validation.md"


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.json"
    assert main(["validate", "--rows", str(EXAMPLE), "--json", str(output)]) == 0
    text = capsys.readouterr().out
    assert main(["validate", "--rows", str(EXAMPLE), "--json", "-"]) == 0
    assert capsys.readouterr().out == output.read_text()
    data = json.loads(output.read_text())
    assert data["within"] and data["misses"] == []
    assert len(data["leave_one_out"]) == 21
    assert {one["row"] for one in data["predicted"]} == {"keyword"}
    assert list(data["reasons"]) == ["keyword"] and data["reasons"]["keyword"] in text
    small, sparse = data["rows"]
    assert [one["quantity"] for one in small["compared"]] == [
        "time", "time, chip", "time, host", "dynamic energy", "dynamic energy, chip",
        "dynamic energy, host", "static energy",
    ]  # fmt: skip
    by = {one["quantity"]: one for one in small["compared"]}
    assert by["time"]["estimate"] == pytest.approx(by["time, chip"]["estimate"] + 0.001)
    assert by["dynamic energy"]["estimate"] == pytest.approx(
        by["dynamic energy, chip"]["estimate"] + 0.0002
    )
    assert small["notes"][:2] == [f"host's {what}: as the row gives it" for what in PARTS]
    assert sparse["notes"][:2] == [f"host's {what}: the calibrated constant" for what in PARTS]
    for said in ("70.0 mW", "66.7 mW", "within 15% (energy) and 10% (time): 7 of 7"):
        assert said in text


def test_every_width_of_the_chips_weights_can_be_described(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    for chip_name in chips.CHIPS:
        most = chips.get(chip_name).weight_bits.value
        for bits in (1, most):
            document = edited(
                lambda d, a, b, name=chip_name, bits=bits: (
                    a.update(chip=name),
                    [layer.update(weight_bits=bits) for layer in a["layers"]],
                )
            )
            path.write_text(json.dumps(document))
            graph = build(read_rows(path)[0].workload).graph
            assert {synapse.num_weight_bits for synapse in graph.synapses} == {bits}
            assert all(np.all(synapse.weight != 0) for synapse in graph.synapses)


def test_rates_of_the_input_and_every_layer_need_no_other(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    document = edited(
        lambda d, a, b: (
            a.pop("rate"),
            [layer.update(rate=0.1 * i) for i, layer in enumerate(a["layers"])],
        )
    )
    path.write_text(json.dumps(document))
    workload = read_rows(path)[0].workload
    assert not workload.fitted
    rates = rates_of(workload, build(workload), 0.9)
    assert list(rates.values()) == pytest.approx([0.02, 0, 0.1, 0.2, 0.3])


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
    "'rate' takes 0 or a number in 1e-18..1, got 1.5": lambda d, a, b: (
        a["layers"][0].update(rate=1.5)
    ),
    "'inference' takes a number in 1e-18..1e+15, got 1e-320": lambda d, a, b: (
        b["measured"]["time_s"].update(inference=1e-320)
    ),
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
    "holds Infinity, which is no finite number": lambda d, a, b: (
        a["measured"]["energy_j"].update(chip=float("inf"))
    ),
    "nothing is measured": lambda d, a, b: b.update(measured={}),
    "row names must differ": lambda d, a, b: b.update(name=a["name"]),
    "'name' takes a text of one line": lambda d, a, b: a.update(name="two\nlines"),
    "no file of rows": lambda d, a, b: d.update(version=True),
    "'calibrate' takes nothing outside": lambda d, a, b: a.update(calibrate=True),
    "'logs' takes nothing outside": lambda d, a, b: a.update(logs="x"),
    "'assumed' takes a list": lambda d, a, b: a.update(assumed="x"),
    "'assumed' takes a text": lambda d, a, b: a.update(assumed=[1]),
    "'kernel' is of a conv layer": lambda d, a, b: a["layers"][2].update(kernel=[5, 5]),
    "'stride' is of a conv layer": lambda d, a, b: b["layers"][1].update(stride=[2, 2]),
    "'padding' is of a conv layer": lambda d, a, b: a["layers"][3].update(padding=[1, 1]),
    "'groups' is of a conv layer": lambda d, a, b: b["layers"][0].update(groups=2),
    "'fan_in' is of a sparse layer": lambda d, a, b: a["layers"][0].update(fan_in=9),
    "'weight_bits' takes a whole number in 1..9": lambda d, a, b: (
        a["layers"][2].update(weight_bits=10)
    ),
    "'weight_bits' takes a whole number in 1..8": lambda d, a, b: (
        a.update(chip="loihi2"), a["layers"][2].update(weight_bits=9)
    ),
    "a rate of their own: leave 'rate' and": lambda d, a, b: (
        [layer.update(rate=0.1) for layer in a["layers"]]
    ),
    "all that feeds a layer has a rate of its own": lambda d, a, b: (
        b["input"].update(rate=0.1), [layer.update(rate=0.1) for layer in b["layers"][:-1]]
    ),
    "'spread' takes the deviation of 'inference'": lambda d, a, b: (
        a["measured"]["time_s"].pop("inference")
    ),
    "'spread' takes the deviation of 'running'": lambda d, a, b: (
        a["measured"].update(power_w={"spread": 0.1})
    ),
    "'idle_before' takes what 'running'": lambda d, a, b: (
        a["measured"].update(power_w={"idle_before": 0.1})
    ),
    "'idle_after' takes what idle rose to": lambda d, a, b: b["measured"].update(idle="warm"),
    "and at least that, got 0.01": lambda d, a, b: b["measured"]["power_w"].update(idle_after=0.01),
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
    monkeypatch.setattr(placed_workload, "MOST_CORE_STEPS", 1000)
    with pytest.raises(RowError, match="'sparse-branches': .* give fewer steps or layers"):
        case_of(replace(row, workload=replace(row.workload, steps=1000)))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00", '{"rows": NaN}'])
def test_files_of_something_else_are_refused(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    for given in (path, tmp_path, tmp_path / "none.json"):
        assert main(["validate", "--rows", str(given)]) == 2
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
    odd = (None, "x", -1, 2.5, [{}], True, float("nan"), 10**400)
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
    for name in {*rows.ROW, *rows.SHIPPED, *layers.FIELDS, *measured.FIELDS}:
        assert f"`{name}`" in text, name
    assert "deploy/validation/example.json" in text


def test_rates_fill_counts_exactly() -> None:
    workload = read_rows(EXAMPLE)[0].workload
    network = build(workload)
    counts = count(network, rates_of(workload, network, 0.5), workload.steps)
    spikes = {row["name"]: row["spikes"] for row in counts.per_inference()["layers"]}
    assert spikes["conv1"] == pytest.approx(32 * 0.05 * 16 * 34 * 34)
    assert spikes["conv2"] == pytest.approx(32 * 0.03 * 32 * 17 * 17)
    assert counts.per_inference()["input_spikes"] == pytest.approx(32 * 0.02 * 2 * 34 * 34)
    assert np.all(counts.layers[0].spikes[1:33] == counts.layers[0].spikes[1])
