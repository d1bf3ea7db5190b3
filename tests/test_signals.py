"""Signals: a verb that is ended unwinds, and leaves nothing half-written or temporary."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import helpers

SPIKESHIP = Path(sys.executable).with_name("spikeship")
LONG = ["train", "vgg5", "--data", "digits", "--epochs", "500", "--quiet"]
WORDS = {"SIGTERM": "terminated", "SIGHUP": "ended with its terminal", "SIGINT": "interrupted"}


def started(folder: Path, *options: str) -> subprocess.Popen[str]:
    """A long training, with temporary files of its own."""
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    return subprocess.Popen(
        [SPIKESHIP, *LONG, "-o", "ann.safetensors", *options],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(scratch)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=helpers.hear_interrupts,
    )


def left(folder: Path) -> set[str]:
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    # torch makes an empty folder of its own
    own = {name for name in found if name.startswith("tmp/torchinductor")}
    return found - own - {"tmp", "ann.safetensors.state"}


@pytest.mark.parametrize("name", WORDS)
def test_a_signal_unwinds(tmp_path: Path, name: str) -> None:
    process = started(tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "ann.safetensors.state").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.Signals[name])
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.Signals[name]
    assert said.splitlines()[-1].startswith(f"spikeship: {WORDS[name]}; nothing half-written")
    assert "Traceback" not in said
    assert left(tmp_path) == set()


@pytest.mark.parametrize("moment", [0.08, 0.2, 0.5, 1.0])
def test_a_signal_while_things_are_imported_unwinds(tmp_path: Path, moment: float) -> None:
    process = started(tmp_path)
    time.sleep(moment)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    # before Python itself has begun, the signal ends it as it ends any program
    assert process.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert "Traceback" not in said and "Exception" not in said
    assert left(tmp_path) == set()


def test_a_signal_that_is_ignored_stays_ignored(tmp_path: Path) -> None:
    code = (
        "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from spikeship.deploy.verbs import interrupts; interrupts.listen()\n"
        "signal.raise_signal(signal.SIGHUP); print('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "alive\n"


def test_what_a_killed_run_left_is_swept_by_the_next(tmp_path: Path) -> None:
    from spikeship.hw_models.atomic import replacing

    code = (
        "import os, signal; from pathlib import Path\n"
        "from spikeship.hw_models.atomic import replacing, scratch\n"
        "with replacing(Path('file')) as t, scratch('x') as f:\n"
        "    t.write_text('half'); (f / 'y').write_text('half'); os.kill(os.getpid(), 9)"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, check=False)
    assert len(list(tmp_path.iterdir())) == 2
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    assert [path.name for path in tmp_path.glob(".*")] == []
    assert (tmp_path / "file").read_text() == "whole"


def test_an_error_that_a_library_makes_of_a_signal_is_the_signal() -> None:
    code = (
        "import signal\n"
        "from spikeship.deploy.verbs import interrupts\n"
        "from spikeship.deploy.verbs.console import guarded\n"
        "interrupts.listen()\n"
        "def load():\n"
        "    try:\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    except KeyboardInterrupt:\n"
        "        raise ImportError('initialization failed')\n"
        "raise SystemExit(guarded(load))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=helpers.hear_interrupts,
    )
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr.startswith("spikeship: interrupted") and "Error" not in done.stderr
