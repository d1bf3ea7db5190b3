"""What a user gets from pip: every subpackage, typed, with its templates, and it runs."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("hw_models", "training", "deploy")


def sources(pattern: str) -> set[str]:
    """Files of the three folders, by the name they should have in the wheel."""
    found = {
        f"spikeship/{path.relative_to(ROOT).as_posix()}"
        for floor in FLOORS
        for path in (ROOT / floor).rglob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    }
    # the front door is the package itself
    return {name.replace("spikeship/deploy/facade/", "spikeship/") for name in found}


def test_wheel_holds_every_module(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert sources("*.py") <= packed
    assert {name for name in packed if name.endswith(".py")} == sources("*.py")


def test_wheel_holds_types_templates_and_measured_rows(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {f"spikeship/{floor}/py.typed" for floor in FLOORS} <= packed
    templates = {
        name for name in sources("*") if name.startswith("spikeship/deploy/report/templates/")
    }
    assert templates and templates <= packed
    measured = {name for name in sources("*.json") if "/validation/" in name}
    assert measured and measured <= packed


def test_wheel_is_typed_and_carries_the_licence(wheel: Path) -> None:
    packed = set(zipfile.ZipFile(wheel).namelist())
    assert {"spikeship/__init__.py", "spikeship/py.typed"} <= packed
    (licence,) = (name for name in packed if name.endswith(".dist-info/licenses/LICENSE"))
    text = zipfile.ZipFile(wheel).read(licence).decode()
    assert "Apache License" in text and "Version 2.0" in text


def test_every_subpackage_imports_from_the_other_environment(
    installed_wheel: Path, tmp_path: Path
) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        packages = tomllib.load(file)["tool"]["setuptools"]["packages"]
    code = (
        "import importlib, json, sys\n"
        "modules = [importlib.import_module(name) for name in sys.argv[1:]]\n"
        "print(json.dumps([module.__file__ for module in modules]))\n"
    )
    done = subprocess.run(
        [installed_wheel.with_name("python"), "-c", code, *packages],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    files = json.loads(done.stdout)
    assert len(files) == len(packages) >= 6
    for file in files:
        assert Path(file).is_relative_to(installed_wheel.parent.parent), file


def test_script_runs_in_the_other_environment(installed_wheel: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [installed_wheel, "doctor", "--json", "-"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    said = json.dumps(json.loads(done.stdout))
    for name in ("torch", "CUDA", "Lava", "netx", "onnxruntime", "NVML", "RAPL"):
        assert name in said


@pytest.mark.parametrize("line", ["torch==2.13.0", "lava-nc==0.10.0", "lava-dl==0.6.0"])
def test_constraints_pin_what_must_not_move(line: str) -> None:
    assert line in (ROOT / "constraints.txt").read_text().splitlines()


def test_constraints_pin_every_requirement() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in lines
        if line and not line.startswith("#")
    }
    names = {requirement.partition(">")[0].partition("=")[0].lower() for requirement in wanted}
    assert names <= pins
    assert all("==" in line for line in lines if line and not line.startswith("#"))


def _contracts(root: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on a tree, as ``make contract`` does."""
    links = root / ".types" / "spikeship"
    if not links.exists():
        links.mkdir(parents=True)
        for name in (*FLOORS, "deploy/facade/__init__.py"):
            (links / Path(name).name).symlink_to(root / name)
    return subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / ".types")},
        capture_output=True,
        text=True,
    )


def test_floors_import_only_downwards() -> None:
    done = _contracts(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "upward", "contract"),
    [
        ("hw_models/graph/nodes.py", "spikeship.hw_models.estimate", "floors of hw_models"),
        ("training/ann/network.py", "spikeship.training.fit.loop", "floors of training"),
        ("deploy/io/inputs.py", "spikeship.deploy.pipeline.train", "floors of deploy"),
        ("training/fit/loop.py", "spikeship.deploy.errors", "deploy reads training"),
    ],
)
def test_an_upward_import_breaks_a_contract(
    tmp_path: Path, file: str, upward: str, contract: str
) -> None:
    for floor in FLOORS:
        shutil.copytree(ROOT / floor, tmp_path / floor, ignore=shutil.ignore_patterns("*.pyc"))
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    path = tmp_path / file
    path.write_text(f"{path.read_text()}\n\nimport {upward}  # planted\n")
    done = _contracts(tmp_path)
    assert done.returncode != 0
    broken = [line for line in done.stdout.splitlines() if line.endswith("BROKEN")]
    assert any(line.startswith(contract) for line in broken), done.stdout
