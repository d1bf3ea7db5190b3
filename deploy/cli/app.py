"""The command line, made from the table of verbs: an option is declared once, where it is kept.

A verb's options and its code are imported when it is called, or its help asked for.
"""

import gc
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from importlib.metadata import version
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer

from spikeship.deploy.cli.verbs import VERBS, Verb
from spikeship.deploy.options.declare import Table
from spikeship.deploy.tables import Function, resolved
from spikeship.deploy.verbs.console import guarded

NAME = "spikeship"
HELP = "From a trained image classifier to a verified spiking network on Lava and Loihi."
# set by a shell that asks what a line may go on with
COMPLETING = "_SPIKESHIP_COMPLETE"


def make_app(wanted: Sequence[str] | None = None) -> typer.Typer:
    """Make the command line.

    Args:
        wanted: verbs whose options are needed; the others only show their names. None for all.
    """
    app = typer.Typer(
        name=NAME,
        help=HELP,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for verb in VERBS:
        known = wanted is None or verb.name in wanted
        app.command(
            verb.name, help=verb.help, epilog=f"Example: {verb.example}", no_args_is_help=False
        )(_callback(verb) if known else _nothing)
    return app


def _say_version(asked: bool) -> None:
    if asked:
        print(f"{NAME} {version(NAME)}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Say the version.", is_eager=True, callback=_say_version),
    ] = False,
) -> None:
    pass


def _nothing() -> int:
    raise AssertionError("a verb was called that was not made")


def _callback(verb: Verb) -> Callable[..., int]:
    """A function with a parameter for each field of the verb's options."""
    parameters: dict[str, inspect.Parameter] = {}
    for kind in verb.options:
        hints = get_type_hints(kind, include_extras=True)
        shown = getattr(kind, "SHOWN", {})
        for field in fields(kind):
            default = inspect.Parameter.empty if field.default is MISSING else field.default
            parameters[field.name] = inspect.Parameter(
                field.name,
                inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=_declared(hints[field.name], shown.get(field.name)),
            )

    def run(**given: Any) -> int:
        parts = [
            kind(**{field.name: given[field.name] for field in fields(kind)})
            for kind in verb.options
        ]
        status: int = _loaded(verb)(*parts)
        return status

    run.__name__ = verb.name
    run.__signature__ = inspect.Signature([*parameters.values()])  # type: ignore[attr-defined]
    run.__annotations__ = {name: each.annotation for name, each in parameters.items()}
    return run


def _loaded(verb: Verb) -> Function:
    """Import what a verb needs, without looking for garbage meanwhile: imports leave none."""
    gc.disable()
    try:
        return resolved(verb.run)
    finally:
        gc.freeze()  # what was imported stays, nobody need look at it again
        gc.enable()


def _declared(hint: Any, shown: str | None) -> Any:
    """A field's type as Typer takes it: the words of a table as a Literal, defaults that show."""
    if get_origin(hint) is not Annotated:
        raise TypeError(f"option {hint!r} is not declared; give it option() or argument()")
    kind, *extras = get_args(hint)
    tables = [extra for extra in extras if isinstance(extra, Table)]
    (info,) = (extra for extra in extras if not isinstance(extra, Table))
    if tables:
        names = tables[0].names()
        words: Any = Literal[names]
        kind = words if kind is str else words | None
    if shown is not None:
        info.show_default = shown
    return Annotated[kind, info]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    # before torch is loaded: large tensors in huge pages, which the kernel hands out faster
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    given = sys.argv[1:] if arguments is None else arguments
    first = next((word for word in given if not word.startswith("-")), None)
    wanted = None if COMPLETING in os.environ else [first or ""]
    command: Any = typer.main.get_command(make_app(wanted))

    def run() -> int | None:
        result: int | None = command.main(args=arguments, prog_name=NAME, standalone_mode=False)
        return result

    return guarded(run)
