"""What the benchmarks compare is the same network, and what they document can be typed."""

import shlex
from pathlib import Path
from typing import Any

import pytest
import recipe
import torch
import typer
from spiking import chain, images

from spikeship.deploy.cli.app import make_app
from spikeship.training.conversion.convert import convert
from spikeship.training.snn.encoding import encode

ROOT = Path(__file__).parents[1]


def test_spikingjellys_network_gives_the_same_readout() -> None:
    pytest.importorskip("spikingjelly", reason="spikingjelly is not installed; make installs it")
    from peers.jelly import Jelly

    snn = convert(chain(), images(), num_steps=20)
    messages = encode(images(), snn.coding, 20)
    with torch.no_grad():
        expected, theirs = snn(messages), Jelly(snn).eval()(messages)
    assert expected.abs().max() > 1
    # it fires at the threshold too, which real-valued sums do not meet
    assert torch.allclose(theirs, expected, rtol=1e-4, atol=1e-4)


def test_every_option_of_the_recipe_is_one_of_its_verb() -> None:
    group: Any = typer.main.get_command(make_app())
    commands = recipe.commands()
    assert len(commands) == 6
    for command in commands:
        _, verb, *words = shlex.split(command)
        known = {option for parameter in group.commands[verb].params for option in parameter.opts}
        given = {word for word in words if word.startswith("-")}
        assert given and given <= known, command


def test_the_tutorial_shows_the_recipes_commands() -> None:
    page = (ROOT / "docs" / "convert-and-fine-tune.md").read_text()
    for line in recipe.COMMANDS.strip().splitlines():
        assert line.strip() in page, line
