"""Damaged files of every kind through the public loaders, under a limit of memory and time."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

WORKER = Path(__file__).with_name("worker.py")
LIMIT_S = 30.0  # for one file
MEMORY_MIB = 1024
BLOCK = 100  # files a process


@dataclass
class Tally:
    """What became of what was tried."""

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    def add(self, outcome: str, finding: str = "") -> None:
        """Count an outcome; keep what is to be looked at."""
        self.counts[outcome] += 1
        if finding:
            self.findings.append(f"{outcome}: {finding}")


def damage_all(good: Path, kinds: list[str], count: int, seed: int) -> dict[str, Tally]:
    """Load ``count`` damaged files of each kind; two kinds at a time."""
    found = {kind: Tally() for kind in kinds}
    waiting: queue.Queue[str] = queue.Queue()
    for kind in kinds:
        waiting.put(kind)

    def work() -> None:
        while True:
            try:
                kind = waiting.get_nowait()
            except queue.Empty:
                return
            _kind(good, kind, count, seed, found[kind])

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _kind(good: Path, kind: str, count: int, seed: int, tally: Tally) -> None:
    at = 0
    while at < count:
        at = _block(good, kind, seed, at, min(BLOCK, count - at), tally)


def _block(good: Path, kind: str, seed: int, first: int, count: int, tally: Tally) -> int:
    """Run one process; return the number of the file that comes next."""
    with TemporaryDirectory(prefix="torture-") as scratch:
        temporary = Path(scratch) / "tmp"
        temporary.mkdir()
        command = [sys.executable, str(WORKER), str(good), scratch, kind, str(seed), str(first)]
        process = subprocess.Popen(
            [*command, str(count), str(MEMORY_MIB)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1"},
            text=True,
        )
        lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_feed, args=(process, lines), daemon=True).start()
        at, begun = first, False
        while True:
            try:
                line = lines.get(timeout=LIMIT_S if begun else 4 * LIMIT_S)
            except queue.Empty:
                process.kill()
                tally.add("hung", f"{kind} {seed}:{at}")
                return at + 1
            if line is None:
                break
            said = json.loads(line)
            if "begin" in said:
                at, begun = said["begin"], True
                continue
            at += 1
            outcome = said["outcome"]
            if outcome in ("refused", "loaded"):
                tally.add(outcome)
            else:
                tally.add(outcome, f"{kind} {seed}:{said['end']}: {said['words']}")
        status = process.wait()
        if status != 0:
            what = f"{kind} {seed}:{at}" if begun else f"{kind}: a good file is not read"
            tally.add("unexpected", f"{what}: the process ended with status {status}")
            return at + 1 if begun else first + count
        left = [path.name for path in temporary.iterdir() if path.name.startswith("spikeship")]
        if left:
            tally.add("leaked", f"{kind}: {left[0]}")
        return first + count


def _feed(process: subprocess.Popen[str], lines: "queue.Queue[str | None]") -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)
