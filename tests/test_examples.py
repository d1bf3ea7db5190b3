"""Every example runs as a reader would run it, and stays short."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent / "examples"
SAYS = {
    "01_your_own_module_to_lava.py": "equal: True",
    "02_onnx_file_to_estimate.py": "loihi2, estimated per image",
    "03_four_steps_in_integers.py": "integers answer alike on",
    "05_module_to_report.py": "report.html",
    "04_fewer_steps_in_the_simulator.py": "the run does: True",
}


def test_every_example_is_listed_here() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example(name: str, tmp_path: Path) -> None:
    assert len((FOLDER / name).read_text().splitlines()) < 60
    imports = re.findall(r"(?:from|import) (spikeship\S*)", (FOLDER / name).read_text())
    assert imports == ["spikeship"]
    done = subprocess.run(
        [sys.executable, FOLDER / name],
        cwd=tmp_path,
        env=os.environ | {"PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert SAYS[name] in done.stdout
