"""Refuse a NIR graph that leaves open what the chip must know."""

from typing import Any

import nir

from spikeship.training.metadata import NetworkMetadata


class DeployError(ValueError):
    """A network that cannot be deployed; one line names the node, the reason and the fix."""


def check(graph: nir.NIRGraph) -> NetworkMetadata:
    """Return the graph's metadata after checking that it answers every question.

    NIR says neither reset rule, input coding, time step nor number of steps; ours stand in the
    metadata that ``convert`` writes.

    Raises:
        DeployError: the metadata is missing or damaged, or the graph has not one input and output.
    """
    text: Any = (graph.metadata or {}).get("spikeship")
    if text is None:
        raise DeployError(
            "graph: its metadata says neither reset, encoding nor time steps; read it with "
            "spikeship.training.from_nir, giving them, and write it again"
        )
    try:
        metadata = NetworkMetadata.from_json(text)
    except ValueError as error:
        raise DeployError(f"graph: its spikeship metadata is damaged: {error}") from error
    for kind in (nir.Input, nir.Output):
        found = [name for name, node in graph.nodes.items() if type(node) is kind]
        if len(found) != 1:
            raise DeployError(
                f"graph: has {len(found)} {kind.__name__} nodes ({', '.join(found) or 'none'}); "
                "a classifier has one"
            )
    return metadata
