"""What a user gets from pip: every subpackage, typed, with its templates, and it runs."""

import json
import os
import re
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


def locked() -> dict[str, list[str]]:
    """Requirements of constraints.txt, each with its hashes."""
    text = (ROOT / "constraints.txt").read_text().replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {line[0]: line[1:] for line in lines}


def test_every_file_that_make_installs_has_a_hash() -> None:
    assert len(locked()) > 80
    for requirement, hashes in locked().items():
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+", requirement)
        assert hashes and all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes)
    assert "://" not in (ROOT / "constraints.txt").read_text()


def test_torch_is_pinned_by_its_version_alone() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert "torch==2.13.0" in tomllib.load(file)["dependency-groups"]["lock"]
    assert "$(PIP) --no-warn-conflicts torch==2.13.0\n" in (ROOT / "Makefile").read_text()
    assert "(torch==2.13.0)" in (ROOT / "constraints.txt").read_text()


def test_the_lock_has_every_requirement() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        content = tomllib.load(file)
    project = content["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["test"]]
    wanted += content["dependency-groups"]["lock"]
    names = {requirement.partition(">")[0].partition("=")[0].lower() for requirement in wanted}
    assert names - {name.partition("==")[0] for name in locked()} == {"torch"}


def test_make_installs_nothing_else_by_name() -> None:
    calls = re.findall(r"^\t\$\(PIP\) (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert calls == [
        "--quiet --require-hashes --no-deps --requirement constraints.txt",
        "--no-warn-conflicts torch==2.13.0",
        "--quiet --no-deps --no-build-isolation --editable .",
    ]


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
