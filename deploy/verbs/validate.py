"""The verb ``validate``: estimates beside measured chips."""

from spikeship.deploy.options.shared import Common
from spikeship.deploy.options.validate import ValidateOptions
from spikeship.deploy.validation.rows import read_rows
from spikeship.deploy.validation.validate import compared
from spikeship.deploy.verbs.console import DONE, NO, Voice


def validate(options: ValidateOptions, common: Common) -> int:
    """Compare estimates with what others measured, and with rows of the user's own."""
    voice = Voice(common.json, common.quiet)
    own = () if options.rows is None else read_rows(options.rows)
    result, lines = compared(own)
    voice.say("\n".join(lines))
    voice.result(result)
    return DONE if result["within"] else NO
