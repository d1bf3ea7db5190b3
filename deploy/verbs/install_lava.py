"""Install Lava into this interpreter's environment, past the Python versions it declares.

No requirement of a package can say "whatever it declares", so pip is called with the two options
that do: ``--no-deps`` and ``--ignore-requires-python``.
"""

import subprocess
import sys

from spikeship.deploy.options.shared import Common
from spikeship.deploy.verbs.console import DONE, Voice
from spikeship.hw_models.errors import SpikeshipError
from spikeship.hw_models.lava.compat import LAVA_DL_VERSION, LAVA_VERSION

# what Lava imports and Spikeship's own requirements need not bring
NEEDED = ("scipy", "networkx", "asteval")
LAVA = (f"lava-nc=={LAVA_VERSION}", f"lava-dl=={LAVA_DL_VERSION}")


class InstallError(SpikeshipError, ValueError):
    """pip could not install Lava; the message is one line with pip's reason."""


def install(quiet: bool = False) -> None:
    """Install lava-nc and lava-dl with what they import; what is there already stays.

    Args:
        quiet: print nothing of pip's progress.

    Raises:
        InstallError: this Python has no pip, or pip failed.
    """
    _pip(quiet, *NEEDED)
    _pip(quiet, "--no-deps", "--ignore-requires-python", *LAVA)


def install_lava(common: Common) -> int:
    """Install lava-nc and lava-dl into this environment, past the Python they declare."""
    install(common.quiet)
    voice = Voice(common.json, common.quiet)
    voice.result({"lava-nc": LAVA_VERSION, "lava-dl": LAVA_DL_VERSION})
    return DONE


def _pip(quiet: bool, *arguments: str) -> None:
    options = ["--quiet"] if quiet else []
    command = [sys.executable, "-m", "pip", "install", *options, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise InstallError(_reason(done.stderr, arguments))


def _reason(stderr: str, arguments: tuple[str, ...]) -> str:
    wanted = " ".join(argument for argument in arguments if not argument.startswith("-"))
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any(line.endswith("No module named pip") for line in lines):
        return (
            f"install-lava: {sys.executable} has no pip to install {wanted} with; "
            f"run '{sys.executable} -m ensurepip' and try again"
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
