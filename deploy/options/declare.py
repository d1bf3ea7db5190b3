"""How an option is declared: a field of a frozen dataclass, with what the command line says of it.

Python reads name, type and default; the command line also reads the ``typer.Option`` or
``typer.Argument`` beside the type. A :class:`Table` beside them makes the words of a table the
words that the option takes, so that a new row is known without being listed again.
"""

import importlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import typer

from spikeship.hw_models.errors import SpikeshipError

_Options = TypeVar("_Options")
option, argument = typer.Option, typer.Argument


class OptionError(SpikeshipError, ValueError):
    """An option that a verb does not have, in one line."""


@dataclass(frozen=True)
class Table:
    """A table whose names are the words that an option takes.

    Attributes:
        at: where it is, ``package.module:NAME``, a mapping. It is imported when it is asked for.
    """

    at: str

    def names(self) -> tuple[str, ...]:
        """The table's names, in its order."""
        module, _, name = self.at.partition(":")
        rows: Mapping[str, Any] = getattr(importlib.import_module(module), name)
        return tuple(rows)


def filled(
    kind: type[_Options], verb: str, given: Mapping[str, Any], without: Collection[str] = ()
) -> _Options:
    """Make a verb's options from keyword arguments; strings become paths where these are wanted.

    Args:
        kind: the options' class.
        verb: what asks, for the error.
        given: by field name; what is missing keeps its default.
        without: options that only the command line has.

    Raises:
        OptionError: a name that the verb does not have.
    """
    hints = get_type_hints(kind)
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    known = [name for name in names if name not in without]
    values = {}
    for name, value in given.items():
        if name not in known:
            raise OptionError(f"{verb}: has no option {name!r}; it has {', '.join(known)}")
        wants_path = hints[name] is Path or Path in get_args(hints[name])
        values[name] = Path(value) if wants_path and isinstance(value, str) else value
    return kind(**values)
