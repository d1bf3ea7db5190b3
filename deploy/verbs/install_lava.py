"""Install Lava into this interpreter's environment, past the Python versions it declares.

No requirement of a package can say "whatever it declares", so pip is called with the two options
that do: ``--no-deps`` and ``--ignore-requires-python``. Both files are taken by their hashes.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from spikeship.deploy.options.shared import Common
from spikeship.deploy.verbs.console import DONE, Voice
from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.lava.compat import LAVA_DL_VERSION, LAVA_VERSION

# what Lava imports and Spikeship's own requirements need not bring
NEEDED = ("scipy", "networkx", "asteval")
# sha256 of each wheel, as PyPI publishes it beside the file (pypi.org, Download files)
LAVA = {
    f"lava-nc=={LAVA_VERSION}": "d646723e888a72868dac77d31beee3eef1f540366a8c1a8578a2dc3302470926",
    f"lava-dl=={LAVA_DL_VERSION}": (
        "bcb448f2bb85dc0da4b4dbbbae16543d2a978c1da7279acc522ad621fc68c437"
    ),
}


class InstallError(SpikeshipError, ValueError):
    """pip could not install Lava; the message is one line with pip's reason."""


def install(quiet: bool = False) -> None:
    """Install lava-nc and lava-dl with what they import; what is there already stays.

    Args:
        quiet: print nothing of pip's progress.

    Raises:
        InstallError: this Python has no pip, or pip failed, or got a file with another hash.
    """
    _pip(quiet, NEEDED, *NEEDED)
    with tempfile.TemporaryDirectory(prefix="spikeship-") as folder:
        file = Path(folder) / "lava.txt"
        lines = (f"{wanted} --hash=sha256:{sha256}\n" for wanted, sha256 in LAVA.items())
        file.write_text("".join(lines))
        options = ("--no-deps", "--ignore-requires-python", "--require-hashes")
        _pip(quiet, LAVA, *options, "--requirement", str(file))


def install_lava(common: Common) -> int:
    """Install lava-nc and lava-dl into this environment, past the Python they declare."""
    install(common.quiet)
    voice = Voice(common.json, common.quiet)
    voice.result({"lava-nc": LAVA_VERSION, "lava-dl": LAVA_DL_VERSION})
    return DONE


def _pip(quiet: bool, wanted: Iterable[str], *arguments: str) -> None:
    options = ["--quiet"] if quiet else []
    command = [sys.executable, "-m", "pip", "install", *options, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise InstallError(_reason(done.stderr, " ".join(wanted)))


def _reason(stderr: str, wanted: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any(line.endswith("No module named pip") for line in lines):
        return (
            f"install-lava: {sys.executable} has no pip to install {wanted} with; "
            f"run '{sys.executable} -m ensurepip' and try again"
        )
    if any("DO NOT MATCH THE HASHES" in line for line in lines):
        return (
            f"install-lava: the package index gave another file for {wanted} than the one known "
            "by its sha256, so it was not installed; look at 'pip config list' for the index, "
            "and run it again with one that you trust"
        )
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    why = (errors or lines or ["pip said nothing"])[0].rstrip(".")
    return (
        f"install-lava: pip could not install {wanted}: {why}; "
        "mend that (a connection to a package index is needed) and run it again"
    )


if __name__ == "__main__":
    try:
        install(quiet=True)
    except InstallError as error:
        sys.exit(str(error))
