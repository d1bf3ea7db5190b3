"""What every script does alike: where its words and its result go, and what ends it.

It takes no NumPy, Numba or torch along: ``machine.hold_to`` must be called before they are there.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from spikeship.hw_models.errors import SpikeshipError

DONE, NO, UNUSABLE = 0, 1, 2
Say = Callable[[str], None]


class UnusableError(SpikeshipError, ValueError):
    """What a script was given cannot be used; one line says what, and what to do."""


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser of a script with this docstring, which takes ``--json``."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument(
        "--json", metavar="PATH|-", help="write one object; - is stdout, words then go to stderr"
    )
    return made


def conclude(
    script: str,
    json_path: str | None,
    act: Callable[[Say], tuple[Any, int]],
    *unusable: type[Exception],
) -> int:
    """Do a script's work and write what it gives; a place that cannot be written is refused before.

    Args:
        script: its name.
        json_path: where the result goes, - for stdout; None: nowhere.
        act: the work. It is given what prints a line, and returns the result and the exit status; a
            result of None is not written.
        unusable: what also ends it with a line and status 2, as errors of Spikeship, of the system
            and of a missing package do.

    Returns:
        The exit status.
    """
    stream = sys.stderr if json_path == "-" else sys.stdout

    def say(line: str) -> None:
        print(line, file=stream, flush=True)

    try:
        if json_path not in (None, "-"):
            # it takes NumPy along
            from spikeship.deploy.verbs.console import check_writable

            check_writable(Path(json_path))
        result, status = act(say)
        if result is not None and json_path is not None:
            write(json_path, result)
    except (SpikeshipError, OSError, ImportError, *unusable) as error:
        print(f"{script}: {error}", file=sys.stderr)
        return UNUSABLE
    return status


def write(path: str | Path, result: Any) -> None:
    """Write a result as JSON, whole or not at all; to stdout where the path is -."""
    from spikeship.hw_models.atomic import replacing

    if path == "-":
        print(json.dumps(result))
        return
    with replacing(Path(path)) as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
