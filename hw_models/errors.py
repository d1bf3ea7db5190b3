"""The base of every error that Spikeship raises on purpose, and how errors become one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_LETTERS = 2_000


class SpikeshipError(Exception):
    """Something that cannot be read, done or taken, in one line: which, why, and what to do.

    Errors about what somebody gave are ``ValueError`` too, as Python has it; those of Lava and of
    a missing package are what Python calls these.
    """

    def __str__(self) -> str:
        return one_line(super().__str__())


class InputError(SpikeshipError, ValueError):
    """Something that was given and cannot be taken: a name, a shape, a number."""


def one_line(text: str) -> str:
    """A text as one line of printable letters, whatever a file or a library put into it."""
    line = " ".join(text.split())
    if not line.isprintable():
        line = "".join(
            letter if letter.isprintable() else letter.encode("unicode_escape").decode()
            for letter in line
        )
    return line if len(line) <= MOST_LETTERS else f"{line[: MOST_LETTERS - 1]}…"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Have errors about what a file holds name the file."""
    try:
        yield
    except SpikeshipError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from error
