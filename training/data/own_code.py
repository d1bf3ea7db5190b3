"""A user's own function, named on the command line as package.module:function."""

import importlib
import sys
from pathlib import Path


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
    except Exception as reason:  # whatever a user's own code raises
        said = " ".join(str(reason).split())
        raise error(f"{spec}: {type(reason).__name__}: {said}") from reason
    return made
