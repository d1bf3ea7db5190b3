"""The pages: every file they name exists, every link leads somewhere, every command parses."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from spikeship.deploy.cli.app import make_app

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PLACEHOLDER = re.compile(r"\b(NAME|ROW|VERB)\b")
FOLDERS = ("hw_models", "training", "deploy", "tests", "benchmarks", "examples", "docs")


def names(page: Path) -> list[str]:
    """Files and folders of the repository that a page names in code."""
    found = re.findall(r"`([\w./-]+)`", page.read_text())
    return [
        name for name in found if name.split("/")[0] in FOLDERS and not PLACEHOLDER.search(name)
    ]


def commands(page: Path) -> list[list[str]]:
    """Every ``spikeship VERB …`` of a page's code blocks, options in brackets left out."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    calls = [line.strip().removeprefix("$ ") for line in lines]
    return [
        shlex.split(call, comments=True)[1:]
        for call in calls
        if call.startswith("spikeship ") and not re.search(r"[\[…|<]", call)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    assert [name for name in names(page) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / link).exists(), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_of_a_page_parse(page: Path) -> None:
    verbs = get_command(make_app()).commands  # type: ignore[attr-defined]
    for words in commands(page):
        verbs[words[0]].make_context(words[0], words[1:])


def test_the_readme_has_commands_and_names() -> None:
    assert len(commands(PAGES[0])) > 10 and len(names(PAGES[0])) > 15
