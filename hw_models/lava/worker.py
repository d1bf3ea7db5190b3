"""The subprocess that runs Lava: started by ``runner.py``, imports no torch, ends as a group.

``python -m spikeship.hw_models.lava.worker JOB`` reads a job (JSON: parent, plan, messages,
samples, num_steps, records, potentials, progress, outcome), runs it and writes the outcome file.
Lava fails silently: a model that raises leaves ``run`` waiting for ever with exit code 0, and
``stop`` hangs after it. So a thread watches Lava's processes and our parent, and ends the whole
group.
"""

import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path

from spikeship.hw_models.errors import one_line

POLL_S = 0.1


def main(job_path: str) -> int:
    """Run one job; the exit status is 0 only where every step ran."""
    job = json.loads(Path(job_path).read_text())
    outcome = Path(job["outcome"])
    watch = _Watch(outcome, job["parent"])
    watch.start()
    try:
        from spikeship.hw_models.lava import compat

        compat.install()
        from spikeship.hw_models.lava.network import LavaNetwork, read_plan

        network = LavaNetwork(
            read_plan(job["plan"]),
            job["messages"],
            job["num_steps"],
            job["records"],
            job["progress"],
            job["potentials"],
        )
        watch.network = network
        started = time.perf_counter()
        network.run(job["samples"])
        seconds = time.perf_counter() - started
        watch.finished = True
        network.stop()
    except BaseException as error:
        said = {"error": _one_line(error), "details": traceback.format_exc()}
        _report(outcome, watch.failure() or said)
        _end_group()
        return 1
    _report(outcome, {"ok": True, "seconds": seconds})
    return 0


class _Watch(threading.Thread):
    """Ends the group when a Lava process fails or our parent is gone."""

    def __init__(self, outcome: Path, parent: int) -> None:
        super().__init__(daemon=True)
        self.outcome = outcome
        self.parent = parent
        self.network: object = None
        self.finished = False

    def run(self) -> None:
        while True:
            time.sleep(POLL_S)
            if os.getppid() != self.parent:
                _end_group()
            failure = None if self.finished else self.failure()
            if failure is not None:
                _report(self.outcome, failure)
                _end_group()

    def failure(self) -> dict[str, str] | None:
        """What a Lava process died of, if one did."""
        for actor in list(getattr(self.network, "actors", [])):
            try:
                if actor.exception:
                    error, details = actor.exception
                    return {"error": f"a model raised {_one_line(error)}", "details": details}
                if actor.exitcode not in (None, 0):
                    status = f"a Lava process ended with status {actor.exitcode}"
                    return {"error": status, "details": ""}
            except (EOFError, OSError, ValueError):  # Lava closed it while we looked
                continue
        return None


def _one_line(error: BaseException) -> str:
    text = one_line(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _report(path: Path, outcome: Mapping[str, object]) -> None:
    """Write the outcome unless a first cause is there already."""
    if path.exists():
        return
    temporary = path.with_suffix(f".{threading.get_ident()}.tmp")
    temporary.write_text(json.dumps(outcome))
    os.replace(temporary, path)


def _end_group() -> None:
    # SIGTERM, not SIGKILL: Python's resource tracker ignores it, outlives the group for a moment
    # and gives the shared memory back
    os.killpg(os.getpgid(0), signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
