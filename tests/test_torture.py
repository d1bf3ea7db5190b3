"""A part of ``make torture``: some damaged files of every kind, some signals, two writers."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torture.loaders import KINDS
from torture.page import PAGE, RECORD, written

SCRIPT = Path(__file__).parent / "torture" / "torture.py"
BAD = ("unexpected", "hung", "leaked", "lost")


def tortured(tmp_path: Path, *options: str) -> dict[str, dict[str, int]]:
    out = tmp_path / "run.json"
    command = [sys.executable, str(SCRIPT), *options, "--json", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert out.exists(), done.stderr
    said = json.loads(out.read_text())
    assert said["findings"] == [] and done.returncode == 0
    rows: dict[str, dict[str, int]] = said["rows"]
    assert not any(row[key] for row in rows.values() for key in BAD)
    return rows


def test_damaged_files_are_refused_or_read(tmp_path: Path) -> None:
    rows = tortured(tmp_path, "--files", "4")
    assert len(rows) >= 16
    assert all(row["tried"] == 4 for row in rows.values())
    assert sum(row["refused"] for row in rows.values()) > 20


def test_signals_lose_and_leave_nothing(tmp_path: Path) -> None:
    rows = tortured(tmp_path, "--files", "0", "--kills", "6", "--seed", "1")
    assert rows["kills"]["tried"] == 6 and rows["writers"]["tried"] == 1
    assert rows["full disk"]["tried"] > 10 or rows["full disk"]["skipped"] == 1


@pytest.mark.parametrize(
    ("kind", "said"), [("net:0:1", "Error"), ("png:0:3", "Error"), ("gpu:0:2", "Error")]
)
def test_one_file_is_loaded_again(kind: str, said: str) -> None:
    command = [sys.executable, str(SCRIPT), "--only", kind]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert said in done.stderr or done.stdout.strip() == "loaded"


def test_the_page_shows_the_recorded_run_and_it_was_whole_and_clean() -> None:
    said = json.loads(RECORD.read_text())
    assert written(PAGE.read_text(), said) == PAGE.read_text()
    rows = said["rows"]
    assert sum(rows[kind]["tried"] for kind in KINDS) >= 5_000
    assert rows["kills"]["tried"] >= 50 and rows["soak"]["tried"] >= 2_020
    assert not any(row[key] for row in rows.values() for key in BAD)
