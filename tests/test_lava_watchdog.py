"""Lava fails silently; our runner must not: one line, and no process left behind."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cases
import helpers
from spikeship.deploy.io import network_file as files
from spikeship.hw_models.lava import runner

pytestmark = pytest.mark.skipif(
    not Path("/proc").is_dir(), reason="needs /proc to look for orphans"
)


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[Path]]:
    """Keep Lava's jobs under tmp_path; see that no process, and none of this memory, stays."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    memory: set[Path] = set()
    yield memory

    def left() -> list[object]:
        return [*helpers.lava_processes(tmp_path), *(path for path in memory if path.exists())]

    deadline = time.monotonic() + 15
    while time.monotonic() < deadline and left():
        time.sleep(0.05)
    assert left() == [], "processes or shared memory were left behind"


def _spoilt(monkeypatch: pytest.MonkeyPatch, spoil: Callable[[dict[str, Any]], None]) -> None:
    """Let ``spoil`` damage the job that the runner hands to its worker."""
    original = runner.run_job

    def run_job(path: Path, **options: Any) -> float:
        job = json.loads(path.read_text())
        spoil(job)
        path.write_text(json.dumps(job))
        return original(path, **options)

    monkeypatch.setattr(runner, "run_job", run_job)


def _short_record(name: str) -> Callable[[dict[str, Any]], None]:
    """A recording with too few rows: that node's model raises IndexError in the fourth step."""

    def spoil(job: dict[str, Any]) -> None:
        path = job["records"][name]
        np.save(path, np.load(path)[:3])

    return spoil


@pytest.mark.parametrize("where", ["n", "out"])
def test_a_model_that_raises(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = cases.graph("conv")  # "n" stands in the middle, "out" last: Lava fails differently
    _spoilt(monkeypatch, _short_record(where))
    begun = time.monotonic()
    with pytest.raises(runner.LavaError, match="a model raised IndexError") as error:
        runner.run(graph, cases.messages(graph, 2), stall_s=60)
    assert "\n" not in str(error.value)
    assert "run_spk" in error.value.details
    assert time.monotonic() - begun < 30, "noticed only by the stall limit"


def test_a_model_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    graph = cases.graph("conv")
    pipe = tmp_path / "never.npy"
    os.mkfifo(pipe)  # opening it for reading waits for ever
    _spoilt(monkeypatch, lambda job: job.update(messages=str(pipe)))
    with pytest.raises(runner.LavaError, match="no chip step has begun for 6 s"):
        runner.run(graph, cases.messages(graph, 2), stall_s=6)


def test_a_run_past_its_limit() -> None:
    graph = cases.graph("conv")
    with pytest.raises(runner.LavaError, match="limit of 3 s"):
        runner.run(graph, cases.messages(graph, 5000), limit_s=3)


def _wait_for(count: int, scratch: Path) -> set[int]:
    """Wait until so many of Lava's processes run, and a little more; returns them."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(helpers.lava_processes(scratch)) < count:
        time.sleep(0.05)
    time.sleep(1.0)
    return helpers.lava_processes(scratch)


def test_a_model_whose_process_is_killed(tmp_path: Path) -> None:
    graph = cases.graph("conv")

    def kill() -> None:
        os.kill(max(_wait_for(8, tmp_path)), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    with pytest.raises(runner.LavaError, match="ended with status -9"):
        runner.run(graph, cases.messages(graph, 5000), stall_s=60)
    thread.join()


def _verifying(tmp_path: Path, memory: set[Path]) -> "subprocess.Popen[str]":
    """Start ``spikeship verify`` on a run that takes long, and wait until Lava steps."""
    net = tmp_path / "net.safetensors"
    files.save(cases.graph("conv"), net)
    code = "import sys; from spikeship.deploy.cli.app import main; sys.exit(main())"
    command = subprocess.Popen(
        [sys.executable, "-c", code, "verify", str(net), "--against", "lava", "-n", "5000"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=helpers.hear_interrupts,
    )
    running = _wait_for(8, tmp_path)
    assert len(running) >= 8
    memory |= helpers.shared_memory(running)
    assert memory, "Lava shares memory; if it does not, this test looks in the wrong place"
    return command


def test_control_c(tmp_path: Path, nothing_is_left: set[Path]) -> None:
    with _verifying(tmp_path, nothing_is_left) as command:
        command.send_signal(signal.SIGINT)
        _, errors = command.communicate(timeout=60)
    assert command.returncode == 130
    assert errors.strip().count("\n") == 0, errors
    assert "interrupted" in errors


def test_the_death_of_the_parent(tmp_path: Path, nothing_is_left: set[Path]) -> None:
    with _verifying(tmp_path, nothing_is_left) as command:
        command.kill()
        command.communicate(timeout=60)  # the fixture sees to the rest


class _Clock:
    """Time that passes only in ``sleep``, and begins a chip step now and then."""

    def __init__(self, progress: Path, begins: dict[int, int]) -> None:
        self.now, self.progress, self.begins = 0.0, progress, begins
        np.save(progress, np.zeros(1, np.int64))

    def monotonic(self) -> float:
        return self.now

    def sleep(self, _: float) -> None:
        self.now += 1.0
        if self.now in self.begins:
            np.load(self.progress, mmap_mode="r+")[0] = self.begins[int(self.now)]


class _Running:
    """A worker that ends by itself at a time of the clock."""

    def __init__(self, clock: _Clock, end: float) -> None:
        self.clock, self.end = clock, end

    def poll(self) -> int | None:
        return None if self.clock.now < self.end else 0


def _watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *begins: int, end: int) -> _Clock:
    """Watch a run whose n-th chip step begins at the n-th time, with a stall limit of 5."""
    steps = {time: step for step, time in enumerate(begins, 1)}
    clock = _Clock(tmp_path / "progress.npy", steps)
    worker: Any = _Running(clock, end)
    with monkeypatch.context() as patched:
        patched.setattr(runner, "time", clock)
        runner._watch(worker, {"progress": str(clock.progress)}, 5.0, None)
    return clock


def test_a_stall_is_measured_from_the_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # steps no more than 5 apart, start-up included, are no stall however long all of them take
    assert _watched(tmp_path, monkeypatch, 5, 9, 14, 19, end=24).now == 24
    with pytest.raises(runner.LavaError, match=r"for 5 s \(last was step 3\)"):
        _watched(tmp_path, monkeypatch, 5, 9, 14, 22, end=100)
    with pytest.raises(runner.LavaError, match=r"for 5 s \(last was step 0\)"):
        _watched(tmp_path, monkeypatch, 8, end=100)


def test_a_stalled_worker_that_hears_no_signal_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It, and the process it started, ignore SIGTERM; both end of themselves only much later."""
    script = tmp_path / "worker.sh"
    script.write_text("#!/bin/sh\ntrap '' TERM\necho $$ > \"$3.pid\"\nsleep 9 &\nsleep 9\n")
    script.chmod(0o755)
    job = tmp_path / "job.json"
    np.save(tmp_path / "progress.npy", np.zeros(1, np.int64))
    paths = {"progress": str(tmp_path / "progress.npy"), "outcome": str(tmp_path / "outcome.json")}
    job.write_text(json.dumps(paths))
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(runner, "GRACE_S", 0.2)
    begun = time.monotonic()
    with pytest.raises(runner.LavaError, match="no chip step has begun for 1 s"):
        runner.run_job(job, stall_s=1)
    assert time.monotonic() - begun < 8
    group = int((tmp_path / "job.json.pid").read_text())
    assert not any(state not in "ZX" for state in runner._group_states(group))
