"""What every verb shares: how it speaks, where its JSON goes, and how errors end it.

Exit status: 0 done, 1 the answer is no, 2 unusable input (one line), 128 and the number of the
signal that ended it, such as 130 for Ctrl-C.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from typer.exceptions import Abort, TyperException

from spikeship.deploy.verbs import interrupts
from spikeship.hw_models.atomic import check_file, check_folder, made_folders, replacing
from spikeship.hw_models.errors import SpikeshipError, one_line, printable

DONE, NO, UNUSABLE, INTERRUPTED = 0, 1, 2, 130
DEBUG = "SPIKESHIP_DEBUG"


@dataclass(frozen=True)
class Voice:
    """Where a verb's words go: people on stdout, unless ``--json -`` takes it for one object."""

    json_path: str | None
    quiet: bool

    def __post_init__(self) -> None:
        if self.json_path not in (None, "-"):
            check_writable(Path(str(self.json_path)))

    def say(self, text: Any) -> None:
        """Tell the user something, text or a rich renderable."""
        if not self.quiet:
            words = isinstance(text, str)
            console = Console(stderr=self.json_path == "-", soft_wrap=words, highlight=False)
            shown = "\n".join(map(printable, text.split("\n"))) if words else text
            console.print(shown, markup=not words)

    def warn(self, text: str) -> None:
        """Tell the user something that matters, on stderr whatever was asked for."""
        print(f"spikeship: {one_line(text)}", file=sys.stderr)

    @contextmanager
    def progress(self, total: int, what: str) -> Iterator[Callable[[int], None]]:
        """Count up to ``total`` on a terminal's stderr, and leave nothing there.

        The block is given a function that takes how many more are done.
        """
        if self.quiet or self.json_path == "-" or not sys.stderr.isatty():
            yield lambda _: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda more: bar.advance(task, more)

    def result(self, value: Mapping[str, Any]) -> None:
        """Hand over the verb's JSON object, where one was asked for."""
        if self.json_path == "-":
            print(json.dumps(value, indent=2))
        elif self.json_path is not None:
            path = Path(self.json_path)
            with replacing(path) as temporary:
                temporary.write_text(json.dumps(value, indent=2) + "\n")


def check_writable(path: Path) -> None:
    """Refuse an output that could not be written, before the work is done rather than after.

    Raises:
        OutputError: it cannot be written.
    """
    if not check_file(path):
        check_folder(Path(os.path.realpath(path)).parent)


def guarded(run: Callable[[], int | None]) -> int:
    """Run a command line and turn whatever ends it into an exit status and one line."""
    try:
        status = run() or DONE
    except TyperException as error:
        return _fail(one_line(error.format_message()))
    except (SpikeshipError, ValueError, OSError) as error:
        if os.environ.get(DEBUG):
            traceback.print_exc()
        return _fail(_line(error))
    except (KeyboardInterrupt, Abort):
        status = INTERRUPTED
    except MemoryError as error:
        asked = f" ({_line(error)})" if str(error) else ""
        return _fail(f"there is too little memory{asked}; run fewer images with -n, or free some")
    except Exception as error:  # a defect of ours, or of what we call: still one line
        if interrupts.received():
            return interrupts.end()
        if os.environ.get(DEBUG):
            traceback.print_exc()
        return _fail(f"{type(error).__name__}: {_line(error)} (set {DEBUG}=1 for the traceback)")
    for folder in made_folders:
        print(f"spikeship: made the folder {folder}", file=sys.stderr)
    made_folders.clear()
    # Typer turns Ctrl-C into this status by itself
    return interrupts.end() if status == INTERRUPTED else status


def _fail(line: str) -> int:
    print(f"spikeship: {line}", file=sys.stderr)
    return UNUSABLE


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return one_line(f"{error.filename}: {error.strerror or error}")
    return one_line(str(error))
