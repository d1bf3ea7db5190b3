"""Six wrong simulators: each has one line of its arithmetic changed, and the fuzz must catch it.

An error is a text of one file of ``hw_models/`` and what stands there instead. The errors are
planted in a copy of the package, which a run of its own imports, so compiled kernels are compiled
with the error in them; the reference and what it takes its arithmetic from stay as they are.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Error:
    """A planted error: what it is, its file, what stands there, how often, and what shall."""

    name: str
    what: str
    file: str
    right: str
    wrong: str
    times: int = 1


ERRORS = (
    Error(
        "delay",
        "messages of an ungated graph arrive one step late",
        "simulator/cpu/network.py",
        "lag=0 if self.graph.gated else part.delay,",
        "lag=0 if self.graph.gated else part.delay + 1,",
    ),
    Error(
        "gate",
        "a gated node opens one step before its first message, and closes before its last",
        "simulator/cpu/network.py",
        "lag=0 if self.graph.gated else part.delay,",
        "lag=1 if self.graph.gated else part.delay,",
    ),
    Error(
        "rounding",
        "what decays is rounded down, where the chip rounds toward zero",
        "simulator/cpu/scan.py",
        "return np.int32(-result) if state < ZERO else result",
        "return np.int32((np.int64(state) * np.int64(kept)) >> np.int64(12))",
    ),
    Error(
        "rail",
        "potentials reach -2**23, the least that 24 bits hold, where the chip stops one above",
        "simulator/cpu/scan.py",
        "FLOOR = np.int32(fixed.STATE_RAIL), np.int32(-fixed.STATE_RAIL)",
        "FLOOR = np.int32(fixed.STATE_RAIL), np.int32(-fixed.STATE_RAIL - 1)",
    ),
    Error(
        "strict",
        "a potential at its threshold fires, where it must lie above",
        "simulator/cpu/scan.py",
        "p > vth[n]",
        "p >= vth[n]",
        times=3,
    ),
    Error(
        "pool",
        "a pooled message says whether any arrived, where it is their sum",
        "simulator/sums/pooling.py",
        "return pooled",
        "return pooled.clip(-1, 1)",
    ),
)


@contextmanager
def wrong_package(error: Error) -> Iterator[Path]:
    """A folder to put first on the import path: ``spikeship`` with the error in it.

    Raises:
        ValueError: the text does not stand in its file as often as it should.
    """
    with tempfile.TemporaryDirectory(prefix="spikeship-planted-") as folder:
        package = Path(folder) / "spikeship"
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "hw_models", package / "hw_models", ignore=ignored)
        for name in ("training", "deploy"):
            (package / name).symlink_to(ROOT / name)
        (package / "__init__.py").symlink_to(ROOT / "deploy" / "facade" / "__init__.py")
        file = package / "hw_models" / error.file
        text = file.read_text()
        found = text.count(error.right)
        if found != error.times:
            raise ValueError(
                f"planted error {error.name!r}: {error.right!r} stands {found} times in "
                f"hw_models/{error.file}, not {error.times}; name the line as it is now"
            )
        file.write_text(text.replace(error.right, error.wrong))
        yield Path(folder)


def run(error: Error, options: Sequence[str]) -> dict[str, Any]:
    """Run the fuzz command on the wrong simulator; return what it says with ``--json -``.

    Raises:
        RuntimeError: it ended without a word.
    """
    with wrong_package(error) as folder:
        done = subprocess.run(
            [sys.executable, str(ROOT / "tests" / "fuzzing" / "fuzz.py"), *options],
            env={**os.environ, "PYTHONPATH": str(folder)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    if done.returncode not in (0, 1):
        raise RuntimeError(f"planted error {error.name!r}: the run failed\n{done.stderr[-2000:]}")
    said: dict[str, Any] = json.loads(done.stdout)
    return said
