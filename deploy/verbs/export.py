"""The verb export: a network for others."""

from spikeship.deploy.export import export_to
from spikeship.deploy.io import network_file
from spikeship.deploy.options.quantize import ExportOptions
from spikeship.deploy.options.shared import Common
from spikeship.deploy.verbs.console import DONE, Voice


def export(options: ExportOptions, common: Common) -> int:
    """Write a network for others."""
    voice = Voice(common.json, common.quiet)
    written = export_to(options.to, network_file.load(options.net), options.output)
    voice.say(f"{written.path}: {written.use}")
    voice.result({"output": str(written.path), "to": options.to})
    return DONE
