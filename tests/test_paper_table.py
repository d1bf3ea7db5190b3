"""The script of the paper's table: its recipes, its commands, what it writes down, its page."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import paper_table
import pytest
import results_page
from typer.main import get_command

from spikeship.deploy.cli.app import make_app
from spikeship.training.ann.zoo import ARCHITECTURES

NAMES = {
    *(f"cifar10-{name}" for name in ("vgg5", "vgg9", "vgg16", "resnet8", "resnet20")),
    *("cifar100-vgg11", "imagenet-vgg16", "imagenet-resnet34"),
    *(f"cifar10-{name}" for name in ("vgg16-bn", "resnet20-small", "fast9")),
}
# table 1 and 2 of the paper, CIFAR-10's and CIFAR-100's classifiers and ImageNet's
PAPER = {
    "cifar10-vgg5": 87.88,
    "cifar10-vgg9": 91.45,
    "cifar10-vgg16": 92.81,
    "cifar10-resnet8": 91.35,
    "cifar10-resnet20": 93.15,
    "cifar100-vgg11": 71.21,
    "imagenet-resnet34": 70.2,
    "imagenet-vgg16": 69.35,
}


def test_every_row_is_there_the_papers_first() -> None:
    rows = paper_table.rows()
    assert set(rows) == NAMES and len(rows) == len(NAMES)
    quoted = {row: paper_table.recipe(row).get("paper", {}).get("ann") for row in rows}
    assert {row: value for row, value in quoted.items() if value is not None} == PAPER
    assert list(PAPER) == rows[: len(PAPER)]


@pytest.mark.parametrize("row", sorted(NAMES))
def test_a_recipe_is_a_command_of_train(row: str) -> None:
    said = paper_table.recipe(row)
    assert said["arch"] in ARCHITECTURES
    words = paper_table.train_command(said, "x.safetensors", {"seed": 3})
    assert words[:2] == ["spikeship", "train"]
    # Typer reads the whole line, unknown options and values are refused
    train = get_command(make_app()).commands["train"]  # type: ignore[attr-defined]
    context = train.make_context("train", words[2:])
    assert context.params["arch"] == said["arch"] and context.params["seed"] == 3
    assert context.params["epochs"] == said["ann"]["epochs"]


def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One row of its own, on the digits, that writes into a folder of the test's."""
    rows, results = tmp_path / "rows", tmp_path / "results"
    rows.mkdir()
    (rows / "tiny.toml").write_text(
        'place = 1\ndata = "digits"\narch = "vgg5"\nkeep = true\n'
        "[ann]\nepochs = 3\nwidth = 0.5\nnesterov = true\nbatch-norm = true\n"
    )
    monkeypatch.setattr(paper_table, "ROWS", rows)
    monkeypatch.setattr(paper_table, "RESULTS", results)
    monkeypatch.setattr(paper_table, "CHOICES", results / "choices.json")
    monkeypatch.setattr(paper_table.machine, "hold_to", lambda threads: threads)
    monkeypatch.setenv("SPIKESHIP_DATA", str(tmp_path))


def _main(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *words: str) -> int:
    work = ["--work", str(tmp_path / "work"), "--quiet"]
    monkeypatch.setattr(sys, "argv", ["paper_table.py", *words, *work])
    return paper_table.main()


def test_a_row_is_trained_and_written_down_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _small(monkeypatch, tmp_path)
    assert _main(monkeypatch, tmp_path, "tiny") == 0
    written = json.loads((tmp_path / "results" / "tiny.json").read_text())
    stage = written["stages"]["ann"]
    assert stage["images"] == 500 and stage["correct"] == round(stage["accuracy"] * 500)
    assert (stage["epochs"], stage["seed"]) == (3, 0) and stage["seconds"] > 0
    assert stage["parameters"] > 1000 and len(stage["sha256"]) == 64
    assert stage["revisions"] and stage["machine"]["torch"]
    assert stage["command"].startswith("spikeship train vgg5 --data digits --epochs 3 ")
    assert (tmp_path / "results" / "networks" / "tiny.ann.safetensors").is_file()
    # done is done: the test set is not read again
    monkeypatch.setattr(paper_table, "run", lambda *_: pytest.fail("run again"))
    assert _main(monkeypatch, tmp_path, "tiny") == 0
    assert "tiny: ann" in capsys.readouterr().out


def test_choosing_puts_images_aside_and_reads_no_test_images(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _small(monkeypatch, tmp_path)
    monkeypatch.setattr(paper_table, "PUT_ASIDE", 200)
    found: list[dict[str, Any]] = []
    run = paper_table.run

    def watched(*given: Any) -> dict[str, Any]:
        found.append(run(*given))
        return found[-1]

    monkeypatch.setattr(paper_table, "run", watched)
    for rate in ("0.1", "0.2"):
        assert _main(monkeypatch, tmp_path, "tiny", "--choose", "--set", f"lr={rate}") == 0
    tried = json.loads((tmp_path / "results" / "choices.json").read_text())
    assert ["--lr 0.1" in tried[0]["command"], "--lr 0.2" in tried[1]["command"]] == [True, True]
    assert all(0 < entry["validation_accuracy"] <= 1 for entry in tried)
    assert all("--no-test" in entry["command"] for entry in tried)
    assert all((said["images"], said["accuracy"]) == (0, None) for said in found)
    assert not (tmp_path / "results" / "tiny.json").exists()


def test_what_cannot_be_run_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for words, reason in (
        (("alexnet",), "row 'alexnet' is not known; use one of cifar10-fast9"),
        (("cifar10-vgg5", "--set", "lr=1"), "--set is for --choose"),
    ):
        assert _main(monkeypatch, tmp_path, *words) == 2
        said = capsys.readouterr().err.strip()
        assert reason in said and "\n" not in said
    monkeypatch.delenv("SPIKESHIP_DATA", raising=False)
    assert _main(monkeypatch, tmp_path, "cifar10-vgg5") == 2
    assert "set SPIKESHIP_DATA" in capsys.readouterr().err


def test_the_page_is_what_the_results_say() -> None:
    assert results_page.PAGE.read_text() == results_page.page()


def test_a_row_that_was_not_run_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _small(monkeypatch, tmp_path)
    assert "| `tiny` | not in it | not run yet |" in results_page.page()
    stage = {
        "accuracy": 0.9135,
        "correct": 9135,
        "images": 10000,
        "epochs": 7,
        "seconds": 90.0,
        "parameters": 1234,
        "command": "spikeship train",
        "seed": 0,
        "sha256": "ab" * 32,
        "revisions": ["cd" * 20],
        "date": "2026-01-01",
        "machine": {"threads": 2, "processor": "abacus", "torch": "1"},
    }
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "tiny.json").write_text(json.dumps({"stages": {"ann": stage}}))
    said = results_page.page()
    assert "| 91.35 % | 9,135 of 10,000 | 7 | 2 | 1,234 |" in said
    assert "revision `cdcdcdcdcdcd`, network `abababababab`" in said


def test_the_script_lists_its_rows() -> None:
    done = subprocess.run(
        [sys.executable, paper_table.__file__, "--list"], capture_output=True, text=True, check=True
    )
    assert [line.split()[0] for line in done.stdout.splitlines()] == paper_table.rows()
