"""What the benchmark scripts share: where words and results go, and what ends a script."""

import json
import subprocess
import sys
from pathlib import Path

import common
import pytest

from spikeship.hw_models.errors import SpikeshipError


def work(say: common.Say) -> tuple[dict[str, int], int]:
    say("under way")
    return {"images": 3}, common.NO


def test_words_go_to_stdout_and_the_result_to_its_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "out.json"
    assert common.conclude("script", str(path), work) == common.NO
    assert json.loads(path.read_text()) == {"images": 3}
    assert capsys.readouterr() == ("under way\n", "")


def test_where_the_result_goes_to_stdout_words_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert common.conclude("script", "-", work) == common.NO
    found = capsys.readouterr()
    assert json.loads(found.out) == {"images": 3}
    assert found.err == "under way\n"


def test_nothing_is_written_where_nobody_asks(capsys: pytest.CaptureFixture[str]) -> None:
    assert common.conclude("script", None, work) == common.NO
    assert common.conclude("script", "-", lambda say: (None, 7)) == 7
    assert capsys.readouterr() == ("under way\n", "")


def test_a_place_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = common.conclude("script", str(tmp_path), lambda say: pytest.fail("worked"))
    assert status == common.UNUSABLE
    found = capsys.readouterr().err
    assert found.startswith("script: ") and "is a folder" in found


@pytest.mark.parametrize("kind", [SpikeshipError, common.UnusableError, OSError, ImportError])
def test_what_is_unusable_ends_in_one_line(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(say: common.Say) -> tuple[None, int]:
        raise kind("no such thing")

    assert common.conclude("script", None, refuse) == common.UNUSABLE
    assert capsys.readouterr() == ("", "script: no such thing\n")


def test_a_defect_keeps_its_traceback() -> None:
    def broken(say: common.Say) -> tuple[None, int]:
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        common.conclude("script", None, broken)
    assert common.conclude("script", None, broken, ValueError) == common.UNUSABLE


def test_nothing_that_counts_cores_comes_along() -> None:
    code = "import sys, common, machine; sys.exit(bool({'numpy', 'torch'} & set(sys.modules)))"
    folder = Path(common.__file__).parent
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)
