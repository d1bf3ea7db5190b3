"""The page of licences has what is installed, and what is kept out stays out."""

import ast
import importlib.util
import re
from importlib.metadata import distributions
from pathlib import Path
from types import ModuleType

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "docs" / "licences.py"
# of a CUDA build of torch, and what pip and Spikeship are themselves
ASIDE = re.compile(r"nvidia-(?!ml-py)|cuda-|triton$|pip$|wheel$|spikeship$")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_writes_today(script: ModuleType) -> None:
    fix = "the table is out of date; run 'python docs/licences.py'"
    assert script.PAGE.read_text() == script.page(), fix


def test_everything_that_is_installed_is_on_the_page(script: ModuleType) -> None:
    rows = re.findall(r"^\| ([\w.-]+) \| [^|]+ \| [^|]+ \|$", script.PAGE.read_text(), re.MULTILINE)
    assert set(rows) - {"package"} == set(script.packages())
    installed = {canonicalize_name(found.name) for found in distributions()}
    assert set(script.packages()) <= installed
    # an environment may hold more than make put there; what Spikeship's packages ask for is named
    asked = {name for name in script.needed_by(script.packages()) if name in installed}
    assert {name for name in asked if not ASIDE.match(name)} <= set(rows)


def test_lava_says_which_part_is_lgpl() -> None:
    (lava,) = (found for found in distributions() if found.name == "lava-nc")
    licences = {str(file): file.locate() for file in lava.files or [] if file.name == "LICENSE"}
    lesser = {
        str(Path(name).parent)
        for name, path in licences.items()
        if "GNU LESSER GENERAL PUBLIC" in Path(path).read_text()
    }
    assert lesser == {"lava/magma/compiler", "lava/magma/runtime"}
    page = (ROOT / "docs" / "licences.md").read_text()
    assert all(f"`{folder}`" in page for folder in lesser)


def test_sana_fe_is_neither_imported_nor_installed(script: ModuleType) -> None:
    assert "sanafe" not in script.packages()
    for folder in script.FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            modules = script.imported(ast.parse(file.read_text()))
            assert not [name for name in modules if name.partition(".")[0] == "sanafe"], file
