"""The list of what is assumed of every row."""

import json
from pathlib import Path

import pytest

from spikeship.deploy.cli.app import main
from spikeship.deploy.validation import assumed, rows, validate
from spikeship.deploy.validation.assumed import Assumed
from spikeship.deploy.validation.fit import Span
from spikeship.deploy.validation.placed_workload import case_of
from spikeship.deploy.validation.rows import read_rows

EXAMPLE = Path(rows.__file__).with_name("example.json")
FITTED = Span(0.05, 0.04, 0.06)


def told(path: Path, shipped: bool = False) -> dict[str, Assumed]:
    cases = [case_of(row) for row in read_rows(path, shipped=shipped)]
    found = [assumed.assumed(case.row, case.chip.network, FITTED) for case in cases]
    return {each.row: each for each in found}


def test_everything_that_blouw_does_not_say_is_listed() -> None:
    found = told(validate.BLOUW, shipped=True)
    assert len(found) == 8
    always = {
        "the 29 outputs are decoded by the host, not on the chip",
        "inputs are spikes, at the rate of the layers that say none",
        "hard reset",
        "weights of 8 bits",
    }
    own = {
        "branches-00": set(),
        "keyword": {"the fewest cores that hold it: last"},
    }
    for name, each in found.items():
        assert set(each.texts) == always | own.get(name, {"one core for each layer of a branch"})
        assert (each.input, each.output, each.steps) == ((390,), 29, 10)
        assert set(each.rates.values()) == {0.05} and not each.given
        assert each.line() == (
            "390 in, 29 out, 10 steps, rate 0.05 spikes a neuron and step (fitted, 0.04..0.06)"
        )


def test_the_defaults_that_a_users_row_takes_are_listed(tmp_path: Path) -> None:
    found = told(EXAMPLE)
    small, sparse = found["small-cnn"], found["sparse-branches"]
    assert small.given == {"input": 0.02, "conv1": 0.05} and small.rate == 0.03
    assert small.rates["conv2"] == 0.03 and small.rates["conv1"] == 0.05
    assert set(small.texts) == {
        "weights of 8 bits: conv1, conv2, out",
        "stride 1: conv2",
        "one group: conv1",
        "the fewest cores that hold it: conv1, conv2, fc",
    }
    # 100 inputs and 256 neurons densely, twelve layers and the last of them sparsely
    weights = 100 * 256 + 12 * 256 * 64 + 4 * 256 * 64 + 256 * 64
    assert sparse.rate == pytest.approx(60_000 / weights)
    assert "0.1973 spikes a neuron and step (from 60000 synaptic operations" in sparse.line()
    assert sparse.output == 64 and "the last layer is what is read out" in sparse.texts
    document = json.loads(EXAMPLE.read_text())
    bare = document["rows"][1]
    for field in ("reset", "pipelined"):
        del bare[field]
    bare["measured"] = {"time_s": {"inference": 1.0}}
    for layer in bare["layers"]:
        layer.pop("cores", None)
    del bare["layers"][0]["connect"]
    bare["assumed"] = ["the moon was full"]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(document))
    assert set(told(path)["sparse-branches"].texts) == {
        "the moon was full",
        "inputs are spikes, at the rate of the layers that say none",
        "hard reset",
        "inferences follow each other without a pause",
        "the last layer is what is read out",
        "idle is that of a board that has run",
        "one run",
        "weights of 8 bits",
        "every source connected to every neuron: first",
        "cores: those that place chooses",
    }


def test_the_list_says_which_rows_take_what(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--rows", str(EXAMPLE)]) == 0
    text = capsys.readouterr().out
    assert "  one core for each layer of a branch: branches-01, branches-02, " in text
    assert "  the fewest cores that hold it: last: keyword, sparse-branches\n" in text
    assert "input 0.02, conv1 0.05" in text
    assert main(["validate", "--rows", str(EXAMPLE), "--json", "-"]) == 0
    listed = {each["row"]: each for each in json.loads(capsys.readouterr().out)["assumed"]}
    assert len(listed) == 10
    assert "hard reset" in listed["keyword"]["texts"]
    assert listed["small-cnn"]["rates"]["conv2"] == 0.03
