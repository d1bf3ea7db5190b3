"""FixedGraph: what a chip runs. Its nodes, its synapses, and what must hold between them."""

from spikeship.hw_models.graph.checks import (
    MAX_GRADED,
    Array,
    Encoding,
    GraphError,
    Overflow,
    Shape,
)
from spikeship.hw_models.graph.fixed_graph import FixedGraph
from spikeship.hw_models.graph.nodes import (
    Delta,
    GradedNode,
    Input,
    Neuron,
    Node,
    Readout,
    SigmaDelta,
    SpikingNode,
)
from spikeship.hw_models.graph.synapses import (
    AnySynapse,
    Conv,
    Dense,
    Identity,
    Sparse,
    Synapse,
    parts,
    pooled_shape,
    weight_sums,
)

__all__ = [
    "MAX_GRADED",
    "AnySynapse",
    "Array",
    "Conv",
    "Delta",
    "Dense",
    "Encoding",
    "FixedGraph",
    "GradedNode",
    "GraphError",
    "Identity",
    "Input",
    "Neuron",
    "Node",
    "Overflow",
    "Readout",
    "Shape",
    "SigmaDelta",
    "Sparse",
    "SpikingNode",
    "Synapse",
    "parts",
    "pooled_shape",
    "weight_sums",
]
