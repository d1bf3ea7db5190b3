"""Run a FixedGraph on lava-nc's own runtime, in a subprocess that cannot outlive us."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.atomic import scratch
from spikeship.hw_models.errors import InputError, SpikeshipError
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.lava.axes import from_lava, to_lava
from spikeship.hw_models.lava.build import Plan, build, write_plan
from spikeship.hw_models.reference.interpreter import check_messages

STALL_S = 300.0
POLL_S = 0.05
GRACE_S = 3.0


class LavaError(SpikeshipError, RuntimeError):
    """Lava did not finish a run; one line says why. ``details`` holds its traceback or log."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


@dataclass(frozen=True)
class LavaRun:
    """What a run gave: the recording, and the seconds its steps took (no start, no compile)."""

    recording: Recording
    seconds: float


def run(
    graph: FixedGraph,
    messages: NDArray[Any],
    *,
    potentials: bool = False,
    stall_s: float = STALL_S,
    limit_s: float | None = None,
) -> LavaRun:
    """Run images on real Lava, fixed point, and record every node.

    A gated or staged graph takes all images in one run, each node putting its state back between
    samples;
    an ungated one, whose synapses may still hold something when a sample ends, gets a fresh
    network for each image.

    Args:
        graph: the network.
        messages: integers (images, T, *input shape).
        potentials: whether to record every node's state after each step too.
        stall_s: give up when no chip step has begun for this long (start-up included).
        limit_s: give up after this long altogether; no limit where None.

    Raises:
        ValueError: messages that do not fit the graph.
        LavaError: Lava is missing, raised, stalled or was killed.
    """
    messages = check_messages(graph, messages)
    if len(messages) == 0:
        raise InputError(f"input {graph.input.name!r}: messages hold no images; give at least one")
    # in a gated or staged graph nothing is under way when a sample ends
    together = graph.gated or graph.timing == "staged"
    batches = [messages] if together else [messages[i : i + 1] for i in range(len(messages))]
    plan = build(graph)
    runs = []
    with scratch("lava") as folder:
        write_plan(plan, folder / "plan.npz")
        for batch in batches:
            job = _job(graph, plan, batch, folder, potentials)
            seconds = run_job(job, stall_s=stall_s, limit_s=limit_s)
            runs.append((_read(graph, job, len(batch)), seconds))
    nodes, states = (
        {name: np.concatenate([run[kind][name] for run, _ in runs]) for name in runs[0][0][kind]}
        for kind in ("records", "potentials")
    )
    recording = Recording(
        num_steps=graph.steps_of(messages.shape[1]),
        input=messages,
        nodes=nodes,
        potentials=states,
    )
    return LavaRun(recording, sum(seconds for _, seconds in runs))


def _job(
    graph: FixedGraph, plan: Plan, messages: NDArray[Any], folder: Path, potentials: bool
) -> Path:
    """Write what the worker needs beside the plan; return the job file."""
    images, given = messages.shape[:2]
    num_steps = graph.steps_of(given)
    rows = to_lava(messages, graph.input.shape).reshape(images * given, -1)
    np.save(folder / "messages.npy", rows.astype(np.int32))
    np.save(folder / "progress.npy", np.zeros(1, np.int64))
    paths: dict[str, dict[str, str]] = {"records": {}, "potentials": {}}
    for i, node in enumerate(plan["nodes"]):
        shape = (images * graph.chip_steps(num_steps), int(np.prod(node["shape"])))
        for kind, dtype in (("records", node["record"]), ("potentials", "int32")):
            if kind == "records" or potentials:
                path = folder / f"{kind}{i}.npy"
                np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
                paths[kind][node["name"]] = str(path)
    outcome = folder / "outcome.json"
    outcome.unlink(missing_ok=True)
    job = paths | {
        "parent": os.getpid(),
        "plan": str(folder / "plan.npz"),
        "messages": str(folder / "messages.npy"),
        "samples": images,
        "num_steps": num_steps,
        "progress": str(folder / "progress.npy"),
        "outcome": str(outcome),
    }
    (folder / "job.json").write_text(json.dumps(job))
    return folder / "job.json"


def _read(graph: FixedGraph, job: Path, images: int) -> dict[str, dict[str, NDArray[Any]]]:
    """Read what the nodes recorded, (images, steps, *shape) by kind and name."""
    paths = json.loads(job.read_text())
    recorded: dict[str, dict[str, NDArray[Any]]] = {"records": {}, "potentials": {}}
    for kind, arrays in recorded.items():
        for name, path in paths[kind].items():
            rows = np.load(path)
            rows = rows.reshape(images, len(rows) // images, -1)
            arrays[name] = from_lava(rows, graph.node(name).shape)
    return recorded


def run_job(job_path: Path, *, stall_s: float = STALL_S, limit_s: float | None = None) -> float:
    """Start the worker on a job file and watch it; return the seconds its steps took.

    Whatever happens (an error, a stall, Ctrl-C, any exception here), the worker's whole process
    group is ended before this returns.

    Raises:
        LavaError: see run.
    """
    job = json.loads(job_path.read_text())
    outcome, log = Path(job["outcome"]), job_path.with_name("worker.log")
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [sys.executable, "-m", "spikeship.hw_models.lava.worker", str(job_path)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _watch(worker, job, stall_s, limit_s)
    finally:
        _end_group(worker)
    said = json.loads(outcome.read_text()) if outcome.exists() else {}
    if said.get("ok"):
        return float(said["seconds"])
    tail = log.read_text(errors="replace")[-4000:]
    details = said.get("details") or tail
    words = said.get("error", f"the worker ended with status {worker.returncode} and no word")
    raise LavaError(f"Lava: {words}{_fix(f'{words} {tail} {details}')}", details)


def _fix(said: str) -> str:
    """What to do about a limit of the system that Lava met; nothing where it met none."""
    for words, fix in _FIXES.items():
        if words in said:
            return f"; {fix}"
    return ""


# what the system's limits look like in Lava's words
_FIXES = {
    "No space left on device": "its messages need room in /dev/shm: free some, or give the "
    "container more (docker run --shm-size=1g)",
    "Bus error": "its messages need room in /dev/shm: free some, or give the container more "
    "(docker run --shm-size=1g)",
    "Too many open files": "each layer needs open files: allow more (ulimit -n 4096)",
    "Resource temporarily unavailable": "each layer is a process: allow more (ulimit -u)",
    "Cannot allocate memory": "there is too little memory: free some, or run fewer images (-n)",
}


def _watch(
    worker: subprocess.Popen[bytes], job: dict[str, Any], stall_s: float, limit_s: float | None
) -> None:
    progress = np.load(job["progress"], mmap_mode="r")
    begun = moved = time.monotonic()
    last = 0
    while worker.poll() is None:
        time.sleep(POLL_S)
        now, step = time.monotonic(), int(progress[0])
        if step != last:
            last, moved = step, now
        if now - moved > stall_s:
            raise LavaError(
                f"Lava: no chip step has begun for {stall_s:g} s (last was step {last}); "
                "a model hangs, or a step takes longer than the stall limit"
            )
        if limit_s is not None and now - begun > limit_s:
            raise LavaError(f"Lava: the run passed its limit of {limit_s:g} s at step {last}")


def _end_group(worker: subprocess.Popen[bytes]) -> None:
    """End the worker's group: politely first (shared memory is given back), then for good."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(worker.pid, number)
        except ProcessLookupError:
            break
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline and _group_lives(worker):
            time.sleep(POLL_S)
    worker.wait()


def _group_lives(worker: subprocess.Popen[bytes]) -> bool:
    """Whether a process of the worker's group still runs.

    One that only waits to be reaped (its new parent may take seconds) does not count, where /proc
    can tell.
    """
    worker.poll()
    try:
        os.killpg(worker.pid, 0)
    except ProcessLookupError:
        return False
    states = list(_group_states(worker.pid))
    return not states or any(state not in "ZX" for state in states)


def _group_states(group: int) -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # "pid (name) state parent group ...", and a name may hold anything
            state, _, owner = path.read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):
            continue  # it ended while we looked
        if int(owner) == group:
            yield state
