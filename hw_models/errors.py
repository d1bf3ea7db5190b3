"""The base of every error that Spikeship raises on purpose, and how errors become one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_LETTERS = 2_000
_REASON_LETTERS = 300


class SpikeshipError(Exception):
    """Something that cannot be read, done or taken, in one line: which, why, and what to do.

    Errors about what somebody gave are ``ValueError`` too, as Python has it; those of Lava and of
    a missing package are what Python calls these.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class InputError(SpikeshipError, ValueError):
    """Something that was given and cannot be taken: a name, a shape, a number."""


def one_line(text: str, letters: int = MOST_LETTERS) -> str:
    """A text as one line of printable letters, whatever a file or a library put into it."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= letters else f"{line[: letters - 1]}…"


def printable(line: str) -> str:
    """A line with what is no printable letter written as its escape; spaces stay as they are."""
    if line.isprintable():
        return line
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in line
    )


def reason(error: BaseException) -> str:
    """Why something failed, in one line: the error's words, or its kind where it has none."""
    return one_line(str(error), _REASON_LETTERS) or type(error).__name__


def first_line(error: BaseException) -> str:
    """The first line of what an error says: where a library adds hints for its own users."""
    lines = str(error).strip().splitlines()
    return one_line(lines[0], _REASON_LETTERS) if lines else type(error).__name__


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors about what a file holds name the file."""
    try:
        yield
    except SpikeshipError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
