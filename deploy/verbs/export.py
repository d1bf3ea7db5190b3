"""The verb export: a network for others."""

from pathlib import Path

from spikeship.deploy.errors import DeployError
from spikeship.deploy.export.lava import export_lava
from spikeship.deploy.io import network_file as files
from spikeship.deploy.verbs.console import DONE, Voice


def export(voice: Voice, net: Path, to: str, output: Path) -> int:
    """Write a network for others."""
    if to != "lava":
        raise DeployError(f"--to: {to!r} is unknown; lava is the one there is")
    folder = export_lava(files.load(net), output)
    voice.say(f"{folder}: run it with 'python {folder}/run.py messages.npy'")
    voice.result({"output": str(folder), "to": to})
    return DONE
