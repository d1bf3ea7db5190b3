"""Random graphs, run every way there is: the simulator against the reference, and real Lava.

``python tests/fuzzing/fuzz.py [--graphs N] [--lava N] [--planted N] [--seed S] [--out DIR] [--json
PATH|-]`` draws N graphs with messages (tests/graphs.py), two at a time, and exits with 1 where
anything differs. Each of the first few differences is shrunk to a small file in DIR, which

``python tests/fuzzing/fuzz.py --replay FILE`` runs again (``--lava 1``: on Lava).

``--planted N`` also runs the first N graphs with each error of planted.py in the simulator; every
one of them must be caught. The same seed draws the same graphs, where N is a multiple of 125.
"""

import argparse
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# a script's own folder is on the path, not the one above it
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import graphs  # noqa: E402
import hypothesis  # noqa: E402
import torch  # noqa: E402
from hypothesis import HealthCheck, Phase, settings  # noqa: E402

from fuzzing import agreement, planted, replay  # noqa: E402
from fuzzing.features import digest, features  # noqa: E402

Check = Callable[[graphs.Case], str | None]
PROCESSES = 2
CHUNK = {"simulator": 125, "lava": 10}


class DifferenceError(Exception):
    """A case that two engines run differently."""

    def __init__(self, case: graphs.Case, said: str) -> None:
        super().__init__(said)
        self.case, self.said = case, said


@dataclass(frozen=True)
class Task:
    """Some cases to draw: what they are run on, how many, and the seed that draws them."""

    against: str
    cases: int
    seed: int
    shrink: bool = False


@dataclass
class Outcome:
    """What became of a task's cases."""

    task: Task
    differences: list[str] = field(default_factory=list)
    features: Counter[str] = field(default_factory=Counter)
    digests: list[bytes] = field(default_factory=list)
    smallest: graphs.Case | None = None


def main() -> int:
    """Read the command line, run, print; return the exit status."""
    args = _arguments()
    if args.replay is not None:
        return _replayed(args.replay, lava=args.lava > 0)
    begin = time.perf_counter()
    said: dict[str, Any] = {"seed": args.seed}
    context = get_context("spawn")
    cores = context.Queue()
    known = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [None]
    for core in itertools.islice(itertools.cycle(known), PROCESSES):
        cores.put(core)
    with ProcessPoolExecutor(
        PROCESSES, mp_context=context, initializer=_take, initargs=(cores,)
    ) as pool:
        for against, count in (("simulator", args.graphs), ("lava", args.lava)):
            said[against] = _explored(pool, against, count, args)
    said["differences"] = sum(said[key]["differences"] for key in ("simulator", "lava"))
    missed: list[str] = []
    if args.planted:
        said["planted"] = [_caught(error, args) for error in planted.ERRORS]
        missed = [row["name"] for row in said["planted"] if not row["caught"]]
    said["seconds"] = round(time.perf_counter() - begin, 1)
    _show(said, args)
    return 1 if said["differences"] or missed else 0


def _take(cores: Any) -> None:
    """Keep this process to one core and thread: small graphs only wait for other threads."""
    torch.set_num_threads(1)
    core = cores.get()
    if core is not None:  # where the system lets processes choose
        os.sched_setaffinity(0, {core})


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Random graphs, run every way there is.")
    parser.add_argument("--graphs", type=int, default=1000, help="on the simulator")
    parser.add_argument("--lava", type=int, default=0, help="on real Lava")
    parser.add_argument("--planted", type=int, default=0, help="with each planted error")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz-out"), help="for replay files")
    parser.add_argument("--shrink", type=int, default=3, help="differences to make small")
    parser.add_argument("--json", default=None, help="path, or - for stdout")
    parser.add_argument("--replay", type=Path, default=None, help="a file to run again")
    return parser.parse_args()


def _explored(pool: Executor, against: str, count: int, args: argparse.Namespace) -> dict[str, Any]:
    """Draw and run ``count`` cases; say what they were and what differed."""
    begin, done, total, seen = time.perf_counter(), 0, Counter[str](), set[bytes]()
    failed: list[Outcome] = []
    for outcome in _worked(pool, _tasks(against, count, args.seed)):
        done += len(outcome.digests)
        seen.update(outcome.digests)
        total += outcome.features
        failed += [outcome] if outcome.differences else []
        _progress(
            f"{against}: {done} of {count} graphs, {sum(len(o.differences) for o in failed)} "
            f"differ, {time.perf_counter() - begin:.0f} s"
        )
    failed.sort(key=lambda outcome: outcome.task.seed)
    again = [Task(o.task.against, o.task.cases, o.task.seed, True) for o in failed[: args.shrink]]
    files = []
    for outcome in _worked(pool, again):
        assert outcome.smallest is not None
        path = args.out / f"{against}-{outcome.task.seed}.npz"
        replay.write(path, outcome.smallest, outcome.differences[-1])
        _progress(f"{path}: {outcome.differences[-1]}")
        files.append(str(path))
    return {
        "graphs": done,
        "distinct": len(seen),
        "differences": sum(len(outcome.differences) for outcome in failed),
        "said": [said for outcome in failed for said in outcome.differences][:20],
        "replays": files,
        "features": dict(sorted(total.items())),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def _worked(pool: Executor, tasks: Iterable[Task]) -> Iterator[Outcome]:
    for future in as_completed([pool.submit(work, task) for task in tasks]):
        yield future.result()


def _tasks(against: str, count: int, seed: int) -> Iterator[Task]:
    for i, first in enumerate(range(0, count, CHUNK[against])):
        size = min(CHUNK[against], count - first)
        yield Task(against, size, seed * 1_000_003 + i)


def work(task: Task) -> Outcome:
    """Draw a task's cases and run them; with ``shrink``, find the smallest that differs."""
    outcome = Outcome(task)

    def check(case: graphs.Case) -> None:
        said = CHECKS[task.against](case)
        if task.shrink and said is not None:
            raise DifferenceError(case, said)
        if not task.shrink:
            outcome.digests.append(digest(case))
            outcome.features.update(features(case))
            outcome.differences += [] if said is None else [said]

    try:
        _draw(check, task)
    except DifferenceError as error:
        outcome.smallest = error.case
        outcome.differences.append(error.said)
    return outcome


def _draw(check: Callable[[graphs.Case], None], task: Task) -> None:
    phases = [Phase.generate, Phase.shrink] if task.shrink else [Phase.generate]
    options = settings(
        max_examples=task.cases,
        phases=phases,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
        verbosity=hypothesis.Verbosity.quiet,
    )
    strategy = graphs.cases() if task.against == "simulator" else graphs.for_lava()
    hypothesis.seed(task.seed)(options(hypothesis.given(strategy)(check)))()


def on_simulator(case: graphs.Case) -> str | None:
    """Where the simulator and the reference differ."""
    return agreement.with_simulator(case.graph, case.messages)


def on_lava(case: graphs.Case) -> str | None:
    """Where Lava and the reference differ."""
    return agreement.with_lava(case.graph, case.messages)


CHECKS: dict[str, Check] = {"simulator": on_simulator, "lava": on_lava}


def _caught(error: planted.Error, args: argparse.Namespace) -> dict[str, Any]:
    """Run the first graphs with an error in the simulator, and its replay without the error."""
    options = ["--graphs", str(args.planted), "--seed", str(args.seed), "--shrink", "1"]
    found = planted.run(error, [*options, "--out", str(args.out / error.name), "--json", "-"])
    simulator = found["simulator"]
    healthy = [_said_of(Path(path)) for path in simulator["replays"]]
    row = {
        "name": error.name,
        "what": error.what,
        "graphs": simulator["graphs"],
        "differ": simulator["differences"],
        "replays": simulator["replays"],
        "caught": simulator["differences"] > 0 and not any(healthy),
    }
    _progress(f"planted {error.name}: {row['differ']} of {row['graphs']} graphs differ")
    return row


def _said_of(path: Path) -> str | None:
    return on_simulator(replay.read(path)[0])


def _replayed(path: Path, *, lava: bool) -> int:
    try:
        case, before = replay.read(path)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{path}: {len(case.graph.nodes)} nodes, messages {case.messages.shape}")
    print(f"  then: {before}")
    said = CHECKS["lava" if lava else "simulator"](case)
    print(f"  now:  {said or 'equal'}")
    return 0 if said is None else 1


def _show(said: dict[str, Any], args: argparse.Namespace) -> None:
    if args.json == "-":
        print(json.dumps(said, indent=2))
        return
    for against in ("simulator", "lava"):
        row = said[against]
        print(
            f"{against}: {row['graphs']} graphs ({row['distinct']} distinct), "
            f"{row['differences']} differ, {row['seconds']} s"
        )
        for name, count in row["features"].items():
            print(f"  {name:28s} {count:>6}")
    for row in said.get("planted", []):
        word = "caught" if row["caught"] else "MISSED"
        print(f"planted {row['name']:10s} {word} in {row['differ']} of {row['graphs']} graphs")
    print(f"seed {said['seed']}, {said['seconds']} s")
    if args.json is not None:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(said, indent=2) + "\n")


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
