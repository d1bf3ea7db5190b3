"""The picture of the packages is what the code says today."""

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "docs" / "draw_architecture.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def drawn(script: ModuleType) -> str:
    return str(script.draw())


def test_the_picture_is_what_the_script_draws_today(script: ModuleType, drawn: str) -> None:
    fix = "the picture is out of date; run 'python docs/draw_architecture.py'"
    assert script.PICTURE.read_text() == drawn, fix
    assert script.draw() == drawn


def test_every_package_is_in_the_picture(script: ModuleType, drawn: str) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        packages = tomllib.load(file)["tool"]["setuptools"]["packages"]
    names = {node.get("id") for node in ElementTree.fromstring(drawn).iter()}
    assert set(packages) <= names
    for package in packages:
        assert re.search(rf">{script.last(package)}/?</text>", drawn), package


def test_the_picture_has_a_text_for_those_who_do_not_see_it(drawn: str) -> None:
    picture = ElementTree.fromstring(drawn)
    named = {node.get("id"): node.text or "" for node in picture}
    assert picture.get("role") == "img"
    texts = [named[name] for name in (picture.get("aria-labelledby") or "").split()]
    assert len(texts) == 2 and all(texts)
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert re.search(r"!\[[^\]]+\]\(figures/architecture\.svg\)", page)


def test_arrows_follow_imports_but_for_those_that_others_imply(
    script: ModuleType, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(
        """
        [tool.setuptools]
        packages = ["p.low", "p.low.a", "p.low.b", "p.low.c", "p.high"]
        package-dir = {"p.low" = "low", "p.high" = "high"}
        [[tool.importlinter.contracts]]
        type = "layers"
        layers = ["p.high", "p.low"]
        [[tool.importlinter.contracts]]
        type = "layers"
        containers = ["p.low"]
        layers = ["a", "b", "c", "d"]
        [[tool.importlinter.contracts]]
        type = "layers"
        containers = ["p.high"]
        layers = ["e"]
        """
    )
    files = {
        "low/__init__.py": '"""Low."""',
        "low/a/__init__.py": '"""A & more."""',
        "low/a/one.py": "from p.low.b import two\n\ndef f():\n    from p.low import d, c",
        "low/b/__init__.py": "",
        "low/b/two.py": "import p.low.c",
        "low/c/__init__.py": "",
        "low/d.py": "",
        "high/__init__.py": "",
        "high/e.py": "from p.low.d import something",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    project = script.Project(tmp_path)
    units = ["p.low.a", "p.low.b", "p.low.c", "p.low.d", "p.high.e"]
    found = project.imports(units)
    assert found == {
        ("p.low.a", "p.low.b"),
        ("p.low.a", "p.low.c"),
        ("p.low.a", "p.low.d"),
        ("p.low.b", "p.low.c"),
        ("p.high.e", "p.low.d"),
    }
    inside = {pair for pair in found if pair[0] != "p.high.e"}
    assert set(script.reduced(inside)) == inside - {("p.low.a", "p.low.c")}
    picture = script.draw(tmp_path)
    assert "A &amp; more." in picture
    # three arrows inside the lower folder, one from folder to folder
    assert picture.count('marker-end="url(#head)"') == 4
