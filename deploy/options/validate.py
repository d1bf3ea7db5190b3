"""What ``validate`` can be told."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from spikeship.deploy.options.declare import option


@dataclass(frozen=True, kw_only=True)
class ValidateOptions:
    """What is compared beside the published rows."""

    rows: Annotated[
        Path | None,
        option(
            "--rows",
            metavar="FILE.json",
            help="Measured rows of your own; docs/validation.md has the format.",
            show_default="none",
        ),
    ] = None
