"""Ways out: what a quantized network can be written as. A new one is a file here and a row."""

from dataclasses import dataclass
from pathlib import Path

from spikeship.deploy.errors import DeployError
from spikeship.deploy.tables import Function, resolved
from spikeship.hw_models.graph import FixedGraph


@dataclass(frozen=True)
class Exporter:
    """A way out.

    Attributes:
        write: takes the graph and a path, writes, and returns the path; or where that is.
        use: what to do with it, in which ``{path}`` is the path.
    """

    write: Function | str
    use: str


@dataclass(frozen=True)
class Written:
    """What was written, and what to do with it."""

    path: Path
    use: str


EXPORTERS: dict[str, Exporter] = {
    "lava": Exporter(
        "spikeship.deploy.export.lava:export_lava",
        "run it with 'python {path}/run.py messages.npy'",
    ),
}


def export_to(name: str, graph: FixedGraph, path: Path) -> Written:
    """Write a network for others.

    Args:
        name: a row of ``EXPORTERS``.
        graph: the network.
        path: file or folder to write.

    Raises:
        DeployError: there is no such row, or the place cannot be written.
    """
    if name not in EXPORTERS:
        raise DeployError(f"--to: {name!r} is unknown; use {', '.join(EXPORTERS)}")
    row = EXPORTERS[name]
    written = resolved(row.write)(graph, path)
    return Written(written, row.use.format(path=written))
