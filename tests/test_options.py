"""The command line is made from the options: defaults show, examples are commands."""

import re
import shlex
from dataclasses import MISSING, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import pytest
from typer.main import get_command

from spikeship.deploy.cli.app import main, make_app
from spikeship.deploy.cli.verbs import VERBS, Verb
from spikeship.deploy.options.declare import Table
from spikeship.deploy.options.shared import CHIPS
from spikeship.hw_models import chips

BY_NAME = {verb.name: verb for verb in VERBS}


def _help(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main([*words]) == 0
    return re.sub(r"[│\s]+", " ", capsys.readouterr().out)


@pytest.mark.parametrize("words", [(), ("-h",), ("--help",)])
def test_bare_spikeship_says_what_there_is(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    main([*words])
    said = capsys.readouterr().out
    assert all(verb.name in said for verb in VERBS)
    assert "--version" in said and "--install-completion" in said


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_help_shows_an_example_and_every_default(
    verb: Verb, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = _help(capsys, verb.name, "-h")
    assert f"Example: {verb.example}" in said and verb.help in said
    for kind in verb.options:
        shown = getattr(kind, "SHOWN", {})
        for field in fields(kind):
            hint = get_type_hints(kind, include_extras=True)[field.name]
            assert get_origin(hint) is Annotated, field.name
            info = next(each for each in get_args(hint)[1:] if not isinstance(each, Table))
            assert info.help, field.name
            if field.default is MISSING or isinstance(field.default, bool):
                continue
            argument = type(info).__name__ == "ArgumentInfo"
            needed = field.default is None and field.name not in ("json", "ann")
            if needed and not argument:
                default = shown.get(field.name) or info.show_default
                assert isinstance(default, str), f"{verb.name} {field.name}: no default is shown"


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_an_example_is_a_command_of_its_verb(verb: Verb) -> None:
    words = shlex.split(verb.example)
    assert words[:2] == ["spikeship", verb.name]
    commands: Any = get_command(make_app())
    commands.commands[verb.name].make_context(verb.name, words[2:])


def test_no_option_is_declared_twice_in_a_verb() -> None:
    for verb in VERBS:
        names = [field.name for kind in verb.options for field in fields(kind)]
        assert len(set(names)) == len(names), verb.name


def test_words_come_from_their_tables(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert CHIPS.names() == tuple(chips.CHIPS)
    monkeypatch.setenv("COLUMNS", "200")
    assert "loihi1|loihi2" in _help(capsys, "quantize", "-h").replace(" | ", "|")
    assert main(["quantize", "x.nir", "--chip", "loihi9", "-o", "y"]) == 2
    assert "loihi9" in capsys.readouterr().err


def test_a_verb_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dance"]) == 2
    said = capsys.readouterr().err.strip()
    assert "dance" in said and "\n" not in said
