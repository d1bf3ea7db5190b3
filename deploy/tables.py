"""Rows of tables that are imported when they are used: a function, or where it is."""

import importlib
from collections.abc import Callable
from typing import Any

Function = Callable[..., Any]


def resolved(row: Function | str) -> Function:
    """The function of a row.

    Args:
        row: the function, or ``package.module:name``.
    """
    if not isinstance(row, str):
        return row
    module, _, name = row.partition(":")
    found: Function = getattr(importlib.import_module(module), name)
    return found
