"""A user's own function, named on the command line as package.module:function."""

import importlib
import sys
from pathlib import Path

from spikeship.hw_models.errors import reason


def call(spec: str, error: type[ValueError]) -> object:
    """Import a function from where the user stands, or from what is installed, and call it.

    Args:
        spec: ``package.module:function``; it is called without arguments.
        error: what is raised, in one line, where that fails.

    Returns:
        What the function returned.
    """
    module, _, attribute = spec.partition(":")
    if not (module and attribute):
        raise error(f"{spec}: write it as package.module:function")
    here = str(Path.cwd())
    if here not in sys.path:  # a user's own module lies where they stand
        sys.path.insert(0, here)
    try:
        made: object = getattr(importlib.import_module(module), attribute)()
    except Exception as raised:  # whatever a user's own code raises
        kind = type(raised).__name__
        raise error(f"{spec}: raises {kind}: {reason(raised)}; run it by itself") from raised
    return made
