"""Signals and kills over every verb, two writers of one file, full disks, and long runs."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np

import helpers
from torture.files import Tally

SPIKESHIP = Path(sys.executable).with_name("spikeship")
MARK = "SPIKESHIP_TORTURE"
LIMIT_S = 120.0
ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)


@dataclass(frozen=True)
class Verb:
    """A command line and what it writes.

    Attributes:
        words: of the command, run in the work folder.
        output: what it writes there; None for nothing.
        same: whether it writes the same bytes each time.
    """

    words: str
    output: str | None = None
    same: bool = True


VERBS = (
    Verb("train vgg5 --data digits --epochs 2 --width 0.125 -o ann.safetensors", "ann.safetensors"),
    Verb("convert ann.safetensors --data digits -T 4 -o snn.nir", "snn.nir", same=False),
    Verb("finetune snn.nir --data digits --method stdb -T 4 --epochs 1 -o tuned.nir", "tuned.nir",
         same=False),
    Verb("quantize snn.nir --data digits -o net.safetensors", "net.safetensors"),
    Verb("export net.safetensors --to lava -o exported", "exported", same=False),
    Verb("simulate net.safetensors --data digits -n 200 --record r.npz", "r.npz"),
    Verb("simulate net.safetensors --data digits -n 100 --json s.json", "s.json", same=False),
    Verb("predict net.safetensors own.npz --json p.json", "p.json"),
    Verb("verify net.safetensors --against lava -n 1 --json v.json", "v.json", same=False),
    Verb("estimate net.safetensors --data digits -n 50 --picture e.svg", "e.svg"),
    Verb("what-if net.safetensors --data digits -n 20 --rates 0.5,2 -o w", "w", same=False),
    Verb("compare --ann ann.safetensors --net net.safetensors --data digits -n 50 --report r.html",
         "r.html", same=False),
    Verb("validate --json validated.json", "validated.json"),
    Verb("doctor"),
)  # fmt: skip


class Storm:
    """A folder in which every verb has been run once, and what it took."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, Random(seed)
        self.temporary = folder.parent / f"{folder.name}-tmp"
        self.temporary.mkdir()
        self.mark = uuid.uuid4().hex
        self.seconds: dict[str, float] = {}
        self.whole: dict[str, bytes | None] = {}
        np.savez(folder / "own.npz", x=np.random.default_rng(0).random((3, 1, 8, 8)))
        for verb in VERBS:
            begin = time.monotonic()
            done = self.start(verb.words)
            _, said = done.communicate(timeout=LIMIT_S)
            if done.returncode != 0:
                raise RuntimeError(f"{verb.words}: {said}")
            self.seconds[verb.words] = time.monotonic() - begin
            self.whole[verb.words] = self.content(verb)

    def start(self, words: str, **environment: str) -> subprocess.Popen[str]:
        """Start a verb."""
        return subprocess.Popen(
            [SPIKESHIP, *words.split(), "--quiet"],
            cwd=self.folder,
            env={
                **os.environ,
                "TMPDIR": str(self.temporary),
                MARK: self.mark,
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=helpers.hear_interrupts,
            start_new_session=True,
        )

    def content(self, verb: Verb) -> bytes | None:
        """What a verb's output holds, files of a folder one after the other."""
        if verb.output is None:
            return None
        path = self.folder / verb.output
        if path.is_dir():
            return b"".join(each.read_bytes() for each in sorted(path.iterdir()) if each.is_file())
        return path.read_bytes() if path.exists() else b""

    def strike(self, verb: Verb, tally: Tally) -> None:
        """End a verb at a random moment and look at what is left."""
        number = self.random.choice(ENDINGS)
        moment = self.random.uniform(0.0, 1.1 * self.seconds[verb.words])
        before = self.content(verb)
        process = self.start(verb.words)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(number)
        what = f"{verb.words.split()[0]}, {number.name} after {moment:.2f} s"
        try:
            _, said = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            tally.add("hung", what)
            return
        tally.add("tried")
        self._check(verb, number, process.returncode, said, before, what, tally)

    def _check(
        self,
        verb: Verb,
        number: int,
        status: int,
        said: str,
        before: bytes | None,
        what: str,
        tally: Tally,
    ) -> None:
        if status not in (0, 128 + number, -number) or "Traceback" in said:
            tally.add("unexpected", f"{what}: status {status}: {said[-300:]}")
        after = self.content(verb)
        if verb.same and after not in (before, self.whole[verb.words]):
            tally.add("lost", f"{what}: its output is neither the old nor a whole new one")
        elif not after and before:
            tally.add("lost", f"{what}: its output is gone")
        for name in self.orphans():
            tally.add("leaked", f"{what}: process {name} lives on")
        if status != -signal.SIGKILL and number != signal.SIGKILL:
            for path in self.leftovers():
                tally.add("leaked", f"{what}: {path.name}")

    def orphans(self) -> list[str]:
        """Processes that a verb started and that still run, after ten seconds of patience."""
        deadline = time.monotonic() + 10
        while True:
            found = list(_marked(self.mark))
            if not found or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        for pid, _ in found:
            os.kill(pid, signal.SIGKILL)
        return [name for _, name in found]

    def leftovers(self) -> list[Path]:
        """Temporary files of ours, in the user's folder and in TMPDIR."""
        return [*self.folder.glob(".spikeship-*"), *self.temporary.glob("spikeship-*")]

    def swept(self, tally: Tally) -> None:
        """Run what writes once more: what killed runs left must be gone then."""
        for words in (VERBS[3].words, VERBS[8].words):
            self.start(words).communicate(timeout=LIMIT_S)
        for path in self.leftovers():
            tally.add("leaked", f"after the next run: {path.name}")


def _marked(mark: str) -> Iterator[tuple[int, str]]:
    for path in Path("/proc").glob("[0-9]*"):
        try:
            marked = f"{MARK}={mark}".encode() in (path / "environ").read_bytes()
            state = (path / "stat").read_text().rpartition(")")[2].split()[0]
            if marked and state != "Z":
                yield int(path.name), (path / "comm").read_text().strip()
        except OSError:
            continue


def storm(folder: Path, strikes: int, seed: int) -> dict[str, Tally]:
    """End every verb at random moments, ``strikes`` times altogether."""
    work = Storm(folder, seed)
    found = {"kills": Tally(), "writers": Tally(), "full disk": Tally()}
    segments = _segments()
    for number in range(strikes):
        work.strike(VERBS[number % len(VERBS)], found["kills"])
    work.swept(found["kills"])
    for name in _segments() - segments:
        found["kills"].add("leaked", f"shared memory {name}")
    two_writers(work, found["writers"], max(1, strikes // 10))
    full_disk(work, found["full disk"])
    return found


def _segments() -> set[str]:
    folder = Path("/dev/shm")
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def two_writers(work: Storm, tally: Tally, times: int) -> None:
    """Two processes on one output: what is there in the end is one of both, whole."""
    words = "quantize snn.nir -o both.safetensors --weight-bits"
    whole = []
    for bits in (8, 5):
        work.start(f"{words} {bits}").communicate(timeout=LIMIT_S)
        whole.append((work.folder / "both.safetensors").read_bytes())
    for _ in range(times):
        both = [work.start(f"{words} {bits}") for bits in (8, 5)]
        for process in both:
            process.communicate(timeout=LIMIT_S)
        tally.add("tried")
        if any(process.returncode for process in both):
            tally.add("unexpected", "one of two writers failed")
        if (work.folder / "both.safetensors").read_bytes() not in whole:
            tally.add("lost", "two writers left what is neither's")
    for path in work.leftovers():
        tally.add("leaked", f"two writers: {path.name}")


def full_disk(work: Storm, tally: Tally) -> None:
    """Outputs and temporary files on a disk of 64 KiB; root alone may make one."""
    with small_disk(work.folder / "disk") as disk:
        if disk is None:
            tally.add("skipped")
            return
        for verb in VERBS:
            if verb.output is None:
                continue
            words = verb.words.replace(f" {verb.output}", f" {disk}/{verb.output}")
            _refused_for_room(work, words, str(disk), tally)
            shutil.rmtree(disk / verb.output, ignore_errors=True)
        (disk / "filler").write_bytes(bytes(_free(disk)))
        for words in (VERBS[8].words,):
            _refused_for_room(work, words, "TMPDIR", tally, TMPDIR=str(disk))


def _refused_for_room(
    work: Storm, words: str, named: str, tally: Tally, **environment: str
) -> None:
    process = work.start(words, **environment)
    _, said = process.communicate(timeout=LIMIT_S)
    tally.add("tried")
    lines = said.strip().splitlines()
    fits = process.returncode == 0
    says = lines and named in lines[-1] and ("room" in lines[-1] or "free" in lines[-1])
    refused = process.returncode == 2 and says
    if not (fits or refused) or "Traceback" in said:
        tally.add("unexpected", f"{words}: status {process.returncode}: {said[-300:]}")


def _free(disk: Path) -> int:
    return shutil.disk_usage(disk).free


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """A file system of 64 KiB, where one can be mounted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        done = None
    if done is None or done.returncode != 0:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


def soak(folder: Path, images: int, runs: int) -> dict[str, Tally]:
    """Many images and many runs on Lava in one process: memory, files, processes, segments."""
    code = Path(__file__).with_name("soaked.py")
    done = subprocess.run(
        [sys.executable, str(code), str(folder / "net.safetensors"), str(images), str(runs)],
        capture_output=True,
        text=True,
        check=False,
    )
    tally = Tally()
    if done.returncode != 0:
        tally.add("unexpected", f"soak: {done.stderr[-300:]}")
        return {"soak": tally}
    said = json.loads(done.stdout.splitlines()[-1])
    tally.counts["tried"] = said["images"] + said["runs"]
    checks: dict[str, Callable[[], bool]] = {
        "resident memory in MiB": lambda: said["mib"][1] - said["mib"][0] > 64,
        "open files": lambda: said["files"][1] > said["files"][0] + 2,
        "processes": lambda: said["children"][1] > said["children"][0],
        "shared memory segments": lambda: said["segments"][1] > said["segments"][0],
    }
    for what, grew in checks.items():
        if grew():
            tally.add("leaked", f"soak: {what}: {said}")
    return {"soak": tally}
