"""The doctor tells the truth, and every complaint comes with what to do."""

import hashlib
import re
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest

from spikeship.deploy.verbs import doctor, install_lava
from spikeship.deploy.verbs.doctor import Finding


@pytest.fixture(scope="module")
def findings() -> dict[str, Finding]:
    return {finding.name: finding for finding in doctor.examine()}


def test_names_everything_in_order(findings: dict[str, Finding]) -> None:
    assert list(findings) == [
        "torch",
        "CUDA",
        "Lava",
        "netx",
        "onnxruntime",
        "NVML",
        "RAPL",
        "data folder",
    ]


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("torch", "torch"),
        ("Lava", "lava-nc"),
        ("netx", "lava-dl"),
        ("onnxruntime", "onnxruntime"),
    ],
)
def test_what_make_installed_works(findings: dict[str, Finding], name: str, package: str) -> None:
    assert findings[name].works, findings[name]
    assert version(package) in findings[name].detail
    assert findings[name].fix == ""


def test_what_does_not_work_says_why_and_what_to_do(findings: dict[str, Finding]) -> None:
    for finding in findings.values():
        assert finding.detail and "\n" not in finding.detail
        assert bool(finding.fix) is not finding.works


EXAMINE = """
import sys
from spikeship.deploy.verbs import doctor
assert next(found for found in doctor.examine() if found.name == "Lava").works
print([name for name in sys.modules if name.partition(".")[0] == "lava"])
"""


def test_lava_never_enters_the_doctors_process() -> None:
    # in a process of its own: other packages that tests load import lava on their own account
    done = subprocess.run(
        [sys.executable, "-c", EXAMINE], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_data_folder_lists_its_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mnist").mkdir()
    (tmp_path / "cifar-10-batches-bin").mkdir()
    monkeypatch.setenv("SPIKESHIP_DATA", str(tmp_path))
    found = doctor._data()
    assert found.works
    assert found.detail == f"{tmp_path}: cifar-10-batches-bin, mnist"
    monkeypatch.setenv("SPIKESHIP_DATA", str(tmp_path / "nowhere"))
    missing = doctor._data()
    assert not missing.works and "nowhere" in missing.detail and "SPIKESHIP_DATA" in missing.fix


def test_rapl_reads_the_counter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "POWERCAP", tmp_path)
    assert not doctor._rapl().works
    counter = tmp_path / "intel-rapl:0"
    counter.mkdir()
    (counter / "name").write_text("package-0\n")
    (counter / "max_energy_range_uj").write_text("262143328850\n")
    missing = doctor._rapl()
    assert not missing.works and "cannot be read" in missing.detail and "chmod" in missing.fix
    (counter / "energy_uj").write_text("not a number\n")
    assert not doctor._rapl().works
    (counter / "energy_uj").write_text("123456789\n")
    assert doctor._rapl() == Finding("RAPL", True, "package-0: the CPU's energy is counted")


def test_a_library_that_crashes_or_hangs_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    crashed = doctor._probe("x", "import os; os.abort()", "mend it")
    assert crashed == Finding("x", False, "ended with status -6", "mend it")
    monkeypatch.setattr(doctor, "PROBE_LIMIT_S", 0.2)
    assert doctor._probe("x", "import time; time.sleep(60)", "mend it").detail == (
        "no answer within 0.2 s"
    )


def run_pip(monkeypatch: pytest.MonkeyPatch, returncode: int, stderr: str) -> list[list[str]]:
    """Stand in for pip; returns the commands it is given, files of requirements as their lines."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> SimpleNamespace:
        if command[-2] == "--requirement":
            command = [*command[:-1], *Path(command[-1]).read_text().splitlines()]
        commands.append(command[1:])
        return SimpleNamespace(returncode=returncode, stderr=stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_install_lava_passes_the_bound_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    commands = run_pip(monkeypatch, 0, "")
    install_lava.install(quiet=True)
    quiet = ["-m", "pip", "install", "--quiet"]
    assert commands[0] == [*quiet, "scipy", "networkx", "asteval"]
    command, lines = commands[1][:-2], commands[1][-2:]
    options = ["--no-deps", "--ignore-requires-python", "--require-hashes", "--requirement"]
    assert command == [*quiet, *options]
    for line, wanted in zip(lines, ("lava-nc==0.10.0", "lava-dl==0.6.0"), strict=True):
        assert re.fullmatch(rf"{wanted} --hash=sha256:[0-9a-f]{{64}}", line)
    assert len(commands) == 2


def made_up_wheel(folder: Path) -> tuple[str, str]:
    """A wheel of a package that nobody has; its requirement and its sha256."""
    file = folder / "spikeship_made_up-1.0-py3-none-any.whl"
    parts = {
        "METADATA": "Metadata-Version: 2.1\nName: spikeship-made-up\nVersion: 1.0\n",
        "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    with zipfile.ZipFile(file, "w") as wheel:
        for name, text in parts.items():
            wheel.writestr(f"spikeship_made_up-1.0.dist-info/{name}", text)
    return "spikeship-made-up==1.0", hashlib.sha256(file.read_bytes()).hexdigest()


def test_install_lava_refuses_a_file_with_another_hash(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted, sha256 = made_up_wheel(tmp_path)
    installed = tmp_path / "installed"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_TARGET", str(installed))
    monkeypatch.setattr(install_lava, "NEEDED", ("--dry-run", wanted))
    monkeypatch.setattr(install_lava, "LAVA", {wanted: "0" * 64})
    with pytest.raises(install_lava.InstallError, match="another file for spikeship-made-up==1.0"):
        install_lava.install(quiet=True)
    assert not installed.exists()
    monkeypatch.setattr(install_lava, "LAVA", {wanted: sha256})
    install_lava.install(quiet=True)
    assert [path.name for path in installed.iterdir()] == ["spikeship_made_up-1.0.dist-info"]


def test_install_lava_gives_pip_s_reason_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    run_pip(
        monkeypatch,
        1,
        "WARNING: retrying\nERROR: Could not find a version that satisfies the requirement "
        "asteval (from versions: none)\nERROR: No matching distribution found for asteval\n",
    )
    with pytest.raises(ValueError, match="asteval .from versions: none.; mend that") as caught:
        install_lava.install()
    assert "\n" not in str(caught.value)


def test_install_lava_says_how_to_get_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    run_pip(monkeypatch, 1, "/usr/bin/python3: No module named pip\n")
    with pytest.raises(ValueError, match="-m ensurepip"):
        install_lava.install()
