"""Loads damaged files, one after the other, in a process that may run out of memory or crash.

``python worker.py GOOD_FILES SCRATCH KIND SEED FIRST COUNT MIB`` prints a line of JSON when a case
begins and another when it has ended; who started it watches the time.
"""

import json
import os
import resource
import shutil
import sys
import threading
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

REFUSED, LOADED, UNEXPECTED, LEAKED = "refused", "loaded", "unexpected", "leaked"


def main(good: Path, scratch: Path, kind: str, seed: int, first: int, count: int, mib: int) -> None:
    """Load ``count`` damaged copies of the good file of a kind, from number ``first`` on."""
    from spikeship.hw_models.errors import SpikeshipError
    from torture.damage import damage_file
    from torture.loaders import KINDS

    row = KINDS[kind]
    folder = scratch / kind
    shutil.copytree(good / kind, folder)
    target = folder / row.name
    row.load(target)  # a good one is read, and all that it needs is imported
    hold(mib)
    before = held()
    for number in range(first, first + count):
        say({"begin": number})
        damage_file(good / kind / row.name, kind, target, seed * 1_000_003 + number)
        try:
            row.load(target)
            outcome, words = LOADED, ""
        except SpikeshipError as error:
            outcome, words = REFUSED, str(error)
            if not words.isprintable() or len(words) > 2000 or "Traceback" in words:
                outcome = UNEXPECTED
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            where = traceback.extract_tb(error.__traceback__)[-1]
            words = f"{type(error).__name__}: {error} ({Path(where.filename).name}:{where.lineno})"
            outcome = UNEXPECTED
        say({"end": number, "outcome": outcome, "words": words[:300]})
    after = held()
    if after > before + 8:
        say({"end": -1, "outcome": LEAKED, "words": f"{before} files and threads, then {after}"})


def hold(mib: int) -> None:
    """Let this process have so much memory more than it has now."""
    now = next(
        int(line.split()[1]) * 1024
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmData:")
    )
    limit = now + mib * 2**20
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def held() -> int:
    """Open files and threads."""
    return len(os.listdir("/proc/self/fd")) + threading.active_count()


def say(line: dict[str, object]) -> None:
    """Print a line of JSON."""
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], *map(int, sys.argv[4:]))
