"""Readers of other frameworks' integer networks. A new one is a file here and a row."""

from spikeship.deploy.tables import Function

# by the file's suffix: takes the path, and ``layers`` where only the first so many are wanted;
# returns a FixedGraph
IMPORTERS: dict[str, Function | str] = {
    ".net": "spikeship.deploy.importers.netx:read_netx",
}
