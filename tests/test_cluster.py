"""Evaluation on Ray workers: the same numbers as one process gives, whatever dies."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import helpers
from spikeship.deploy.cli.app import main
from spikeship.deploy.io import network_file as files
from spikeship.deploy.io.inputs import Images
from spikeship.deploy.run import cluster, evaluate, ray_session
from spikeship.deploy.run.evaluate import Evaluation, Running, evaluate_graph
from spikeship.hw_models.graph import Conv, Dense, FixedGraph, Input, Neuron, Readout
from spikeship.hw_models.reference.interpreter import StateOverflowError
from spikeship.hw_models.simulator.early_exit import EarlyExit

ray = pytest.importorskip("ray")

IMAGES = 37  # not a multiple of anything below
WORKERS = 2


def graph() -> FixedGraph:
    rng = np.random.default_rng(0)
    return FixedGraph(
        Input("input", (1, 8, 8), scale=2.0),
        (Neuron("conv", (4, 8, 8), vth=np.array(90)), Readout("out", (5,))),
        (
            Conv(
                name="c",
                source="input",
                target="conv",
                weight=2 * rng.integers(-40, 41, (4, 1, 3, 3)),
                padding=(1, 1),
            ),
            Dense(name="d", source="conv", target="out", weight=2 * rng.integers(-9, 9, (5, 256))),
        ),
        num_steps=12,
    )


def images() -> Images:
    values = torch.randn(IMAGES, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return Images(values, np.arange(IMAGES) % 5, torch.arange(IMAGES), {"name": "noise"})


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nowhere", "127.0.0.1:99999"])
def test_no_cluster_there_is_one_line(address: str) -> None:
    with pytest.raises(cluster.ClusterError, match=f"at {address} .*HOST:PORT") as caught:
        evaluate_graph(graph(), images(), seed=0, address=address)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def here() -> Evaluation:
    return evaluate_graph(graph(), images(), seed=4)


@pytest.fixture(scope="module")
def crew() -> Iterator[Any]:
    """One crew for all tests that do not look at its start and end."""
    with cluster.crew(WORKERS, None, 1) as made:
        yield made


def same(found: Evaluation, expected: Evaluation) -> None:
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.predictions, expected.predictions)
    np.testing.assert_array_equal(found.steps, expected.steps)
    np.testing.assert_array_equal(found.correct_by_step, expected.correct_by_step)
    assert found.counts is not None and expected.counts is not None
    assert found.counts.images == expected.counts.images == IMAGES
    np.testing.assert_array_equal(found.counts.input_spikes, expected.counts.input_spikes)
    for ours, theirs in zip(found.counts.layers, expected.counts.layers, strict=True):
        for name, value in vars(theirs).items():
            np.testing.assert_array_equal(getattr(ours, name), value, err_msg=name)


def test_workers_give_what_one_process_gives(crew: Any, here: Evaluation) -> None:
    seen: list[int] = []
    found = evaluate_graph(graph(), images(), seed=4, workers=WORKERS, progress=seen.append)
    same(found, here)
    assert sum(seen) == IMAGES and len(seen) >= 2 * WORKERS


def test_the_verb_says_the_same(crew: Any, tmp_path: Path) -> None:
    files.save(graph(), tmp_path / "net.safetensors")
    words = ["simulate", tmp_path / "net.safetensors", "--data", "digits", "-n", 30, "--per-step"]
    words += ["--early-exit", 50, "--quiet", "--json"]
    said = []
    for options in ((), ("--workers", WORKERS)):
        assert main([str(word) for word in (*words, tmp_path / "said.json", *options)]) == 0
        said.append((tmp_path / "said.json").read_text())
    assert said[0] == said[1]


def test_an_address_beside_the_programs_own_cluster_is_refused(crew: Any) -> None:
    with pytest.raises(cluster.ClusterError, match="already, not on 127.0.0.1:1"):
        evaluate_graph(graph(), images(), seed=0, address="127.0.0.1:1")


def test_early_exit_on_workers(crew: Any) -> None:
    running = Running(early_exit=EarlyExit(margin=40.0))
    alone = evaluate_graph(graph(), images(), seed=4, running=running)
    assert 1 < alone.steps.mean() < 12
    same(evaluate_graph(graph(), images(), seed=4, running=running, workers=WORKERS), alone)


def test_a_killed_workers_images_are_counted_once(
    crew: Any, here: Evaluation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original, deaths = evaluate._run_piece, tmp_path

    def killed(order: Any, piece: Images) -> Evaluation:
        """Run a piece, but the first time one of two is run, die as by kill -9 on the way."""
        first = int(piece.indices[0])
        done = original(order, piece)
        if first in (0, 10) and not (deaths / str(first)).exists():
            (deaths / str(first)).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    monkeypatch.setattr(evaluate, "_run_piece", killed)
    same(evaluate_graph(graph(), images(), seed=4, workers=WORKERS), here)
    assert {path.name for path in deaths.iterdir()} == {"0", "10"}


def test_images_that_end_every_worker_are_named(crew: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def deadly(order: Any, piece: Images) -> None:
        if int(piece.indices[0]) == 10:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(evaluate, "_run_piece", deadly)
    with pytest.raises(cluster.ClusterError, match=r"images from 10 on ended 4 workers.*--memory"):
        evaluate_graph(graph(), images(), seed=4, workers=WORKERS)


def test_a_piece_delivered_twice_counts_once(crew: Any) -> None:
    done: list[int] = []
    pieces = [(5, 50), (0, 1), (5, 50), (2, 20), (0, 1)]
    results = crew.each_once(lambda shared, piece: shared + piece, 1000, pieces, done.append)
    assert results == [1001, 1020, 1050]  # in the order of their keys
    assert sorted(done) == results


def test_pieces_are_made_as_they_are_needed(crew: Any) -> None:
    made: list[int] = []
    most: list[int] = []

    def pieces() -> Iterator[tuple[int, int]]:
        for key in range(30):
            made.append(key)
            yield key, key

    finished: list[int] = []

    def done(result: int) -> None:
        most.append(len(made) - len(finished))
        finished.append(result)

    crew.each_once(lambda shared, piece: piece, None, pieces(), done)
    assert sorted(finished) == list(range(30))
    assert max(most) <= cluster.AHEAD * WORKERS


def test_an_error_in_the_work_is_raised_as_itself(crew: Any) -> None:
    heavy = FixedGraph(
        Input("input", (1, 8, 8), "direct", max_message=127, scale=0.001),
        (Neuron("heavy", (2,), vth=np.array(9)), Readout("out", (5,))),
        (
            Dense(name="a", source="input", target="heavy", weight=np.full((2, 64), 254)),
            Dense(name="b", source="heavy", target="out", weight=np.ones((5, 2), int) * 2),
        ),
        num_steps=3,
    )
    spoilt = images()
    spoilt.values[20] = float("nan")
    loud = Images(images().values[:].abs() * 50, None, torch.arange(IMAGES), {})
    with pytest.raises(StateOverflowError, match="node 'heavy'") as caught:
        evaluate_graph(heavy, loud, seed=0, workers=WORKERS)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="not finite"):
        evaluate_graph(graph(), spoilt, seed=0, workers=WORKERS)


def processes_of(session: int) -> dict[int, str]:
    """Processes that run in a session, by id, with their command lines."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                state = (folder / "stat").read_text().rpartition(")")[2].split()
                words = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue  # it has just ended
            if int(state[3]) == session and state[0] != "Z":
                found[int(folder.name)] = words.strip()
    return found


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def started(folder: Path, temporary: Path) -> subprocess.Popen[str]:
    """A run of two workers that takes long, in a session of its own, at work."""
    files.save(graph(), folder / "net.safetensors")
    command = [Path(sys.executable).with_name("spikeship"), "simulate", "net.safetensors"]
    command += ["--data", "digits", "-T", "4000", "--workers", "2", "--json", "out.json"]
    running = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "TMPDIR": str(temporary), "HOME": str(folder)},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=helpers.hear_interrupts,
    )
    wait_for(lambda: any("_run_piece" in words for words in processes_of(running.pid).values()))
    return running


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder for temporary files whose name leaves room for sockets."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("ending", "number", "said"),
    [(os.killpg, signal.SIGINT, "interrupted"), (os.kill, signal.SIGTERM, "terminated")],
)
def test_an_interrupted_run_leaves_nothing(
    tmp_path: Path, temporary: Path, ending: Any, number: int, said: str
) -> None:
    running = started(tmp_path, temporary)
    # a terminal interrupts all in its foreground; a batch system ends what it started
    ending(running.pid, number)
    _, words = running.communicate(timeout=30)
    assert running.returncode == 128 + number
    assert words == f"spikeship: {said}; nothing half-written was left\n"
    wait_for(lambda: not processes_of(running.pid), 15)
    assert list(temporary.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == {"net.safetensors"}


FAIL = """
from spikeship.deploy.run import cluster
with cluster.crew(1, None, 1):
    raise RuntimeError("planted")
"""


def test_a_killed_runs_folder_goes_with_the_next_run_and_a_failed_one_leaves_none(
    tmp_path: Path, temporary: Path
) -> None:
    running = started(tmp_path, temporary)
    running.kill()
    running.communicate(timeout=30)
    assert len(list(temporary.iterdir())) == 1
    # two agents of Ray's try for a minute to reach what has gone
    wait_for(lambda: all("Agent" in words for words in processes_of(running.pid).values()), 15)
    done = subprocess.run(
        [sys.executable, "-c", FAIL],
        env={**os.environ, "TMPDIR": str(temporary), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    for process in processes_of(running.pid):
        os.kill(process, signal.SIGKILL)
    assert done.stderr.endswith("RuntimeError: planted\n")
    assert list(temporary.iterdir()) == []


def test_a_living_runs_folder_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_session, "LONGEST_FOLDER", 999)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "shipray-abandoned").mkdir()
    (tmp_path / "shipray-link").symlink_to(tmp_path)
    (tmp_path / "ray-of-others").mkdir()
    with ray_session.folder() as first, ray_session.folder() as second:
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {first.name, second.name, "shipray-link", "ray-of-others"}
    assert {path.name for path in tmp_path.iterdir()} == {"shipray-link", "ray-of-others"}


def test_a_program_without_a_handler_unwinds_when_it_is_terminated() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with pytest.raises(SystemExit) as caught, ray_session.termination_kept():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as Ray sets one of its own
        ray_session.restore()
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.code == 143
    assert signal.signal(signal.SIGTERM, before) == signal.SIG_DFL


def descendants(process: int) -> set[int]:
    found = {process}
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                state = (folder / "stat").read_text().rpartition(")")[2].split()
                parents[int(folder.name)] = int(state[1])
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def listening() -> list[str]:
    """Addresses, in hexadecimal, at which this process and those it started take calls."""
    sockets = {}
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A":
                sockets[f"socket:[{words[9]}]"] = words[1].partition(":")[0]
    found = []
    for process in descendants(os.getpid()):
        with suppress(OSError):
            for handle in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    found.append(sockets.get(os.readlink(handle), ""))
    return [address for address in found if address]


def test_only_this_machine_can_call(crew: Any) -> None:
    crew.each_once(lambda shared, piece: piece, None, [(0, 0), (1, 1)], lambda result: None)
    loopback = {"0100007F", f"{0:016X}FFFF00000100007F", f"{0:024X}01000000"}
    assert len(listening()) >= 5 and set(listening()) <= loopback


STRANGER = """
import sys
from ray._raylet import GcsClient
print(len(GcsClient(address=sys.argv[1]).get_all_node_info(timeout=10)))
"""


@pytest.mark.parametrize("token", [None, "0" * 64, ""])
def test_only_who_has_the_token_can_call(crew: Any, token: str | None) -> None:
    """Without one, with another, and with the right one, which the environment has."""
    changes = {"RAY_AUTH_MODE": "disabled"} if token is None else {"RAY_AUTH_MODE": "token"}
    if token:
        changes["RAY_AUTH_TOKEN"] = token
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", STRANGER, address],
        env={**os.environ, **changes},
        capture_output=True,
        text=True,
    )
    if token == "":
        assert done.stdout == "1\n", done.stderr
    else:
        assert done.returncode != 0 and "AuthenticationError" in done.stderr


def test_workers_report_nothing_and_have_the_token(crew: Any) -> None:
    def told(shared: None, piece: int) -> dict[str, str]:
        return dict(os.environ)

    (there,) = crew.each_once(told, None, [(0, 0)], lambda result: None)
    assert there["RAY_USAGE_STATS_ENABLED"] == "0" and there["RAY_AUTH_MODE"] == "token"
    assert len(there["RAY_AUTH_TOKEN"]) == 64
    token = there["RAY_AUTH_TOKEN"].encode()
    session = Path(ray._private.worker._global_node.get_session_dir_path())  # type: ignore[attr-defined]
    assert not any(token in path.read_bytes() for path in session.rglob("*") if path.is_file())


JOIN = """
import sys
from test_cluster import IMAGES, evaluate_graph, graph, images, same
found = evaluate_graph(graph(), images(), seed=4, address=sys.argv[1])
same(found, evaluate_graph(graph(), images(), seed=4))
"""


def test_a_cluster_that_is_already_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    temporary = tempfile.mkdtemp(dir="/tmp")
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.getenv("PYTHONPATH", "")]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    ray_command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
    ray_command += [f"--port={address.rpartition(':')[2]}", "--num-cpus=2"]
    ray_command += ["--include-dashboard=false", f"--temp-dir={temporary}"]
    head = subprocess.Popen(
        ray_command,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(lambda: any("raylet" in words for words in processes_of(head.pid).values()))
        joined = subprocess.run(
            [sys.executable, "-c", JOIN, address],
            env=environment,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert (joined.returncode, joined.stderr) == (0, "")
        assert head.poll() is None  # the cluster goes on
    finally:
        head.terminate()
        head.wait(30)
        for process in processes_of(head.pid):
            os.kill(process, signal.SIGKILL)
        shutil.rmtree(temporary, ignore_errors=True)
