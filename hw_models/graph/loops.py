"""Which nodes of a graph must be run together, step by step: those on a common loop."""

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components

from spikeship.hw_models.graph.fixed_graph import FixedGraph


def groups(graph: FixedGraph) -> list[list[str]]:
    """Cut the nodes into groups, each fed only by the input, itself and groups before it.

    Nodes of one group reach each other; without loops each group is one node. Inside a group the
    graph's own order is kept.
    """
    place = {node.name: i for i, node in enumerate(graph.nodes)}
    edges = [
        (place[synapse.source], place[synapse.target])
        for synapse in graph.synapses
        if synapse.source in place
    ]
    sources, targets = zip(*edges, strict=True) if edges else ((), ())
    matrix = csr_matrix((np.ones(len(edges)), (sources, targets)), shape=(len(place), len(place)))
    _, labels = connected_components(matrix, directed=True, connection="strong")
    waits = {
        label: {int(labels[a]) for a, b in edges if labels[b] == label} - {label}
        for label in {int(label) for label in labels}
    }
    ordered: list[list[str]] = []
    done: set[int] = set()
    while len(done) < len(waits):
        ready = next(
            int(label) for label in labels if int(label) not in done and waits[int(label)] <= done
        )
        done.add(ready)
        ordered.append([name for name, i in place.items() if labels[i] == ready])
    return ordered
