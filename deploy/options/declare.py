"""How an option is declared: a field of a frozen dataclass, with what the command line says of it.

Python reads name, type and default; the command line also reads the ``typer.Option`` or
``typer.Argument`` beside the type. A :class:`Table` beside them makes the words of a table the
words that the option takes, so that a new row is known without being listed again.
"""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

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


def filled(kind: type[_Options], verb: str, given: Mapping[str, Any]) -> _Options:
    """Make a verb's options from keyword arguments.

    Args:
        kind: the options' class.
        verb: what asks, for the error.
        given: by field name; what is missing keeps its default.

    Raises:
        OptionError: a name that the verb does not have.
    """
    names = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in names:
            raise OptionError(f"{verb}: has no option {name!r}; it has {', '.join(names)}")
    return kind(**given)
