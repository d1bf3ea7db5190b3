"""A graph with narrower or wider weights, for what only depends on their width: its cores.

The weights are cut toward zero to what the bits hold, without choosing new scales as quantizing
does. Such a graph is placed, never run: its answers would be worse than a quantized one's.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from spikeship.deploy.errors import DeployError
from spikeship.hw_models import fixed
from spikeship.hw_models.graph import AnySynapse, FixedGraph, Identity, Sparse


def with_weight_bits(graph: FixedGraph, weight_bits: int) -> FixedGraph:
    """Return the graph with every weight cut to so many bits.

    Args:
        graph: the network.
        weight_bits: 1..8.

    Raises:
        DeployError: no such width.
    """
    if not 1 <= weight_bits <= fixed.WEIGHT_BITS:
        raise DeployError(
            f"weight_bits: {weight_bits} is not what a synapse holds; give 1..{fixed.WEIGHT_BITS}"
        )
    synapses = tuple(_cut(synapse, weight_bits) for synapse in graph.synapses)
    return replace(graph, synapses=synapses)


def _cut(synapse: AnySynapse, bits: int) -> AnySynapse:
    if isinstance(synapse, Identity):
        return synapse
    if isinstance(synapse, Sparse):
        return replace(synapse, data=_toward_zero(synapse.data, bits), num_weight_bits=bits)
    return replace(synapse, weight=_toward_zero(synapse.weight, bits), num_weight_bits=bits)


def _toward_zero(weights: NDArray[np.int16], bits: int) -> NDArray[np.int16]:
    mixed = bool(np.any(weights > 0) and np.any(weights < 0))
    step = 1 << (fixed.WEIGHT_BITS - bits + mixed)
    cut: NDArray[np.int16] = (np.sign(weights) * (np.abs(weights) // step) * step).astype(np.int16)
    if mixed and not np.any(cut > 0):  # -256 is held only where signs are mixed
        cut = np.maximum(cut, _one_sign_low(bits))
    return cut


def _one_sign_low(bits: int) -> np.int16:
    """Least weight of so many bits where none is positive."""
    low, _ = fixed.weight_range(mixed=False)
    step = 1 << (fixed.WEIGHT_BITS - bits)
    return np.int16(-(-low // step) * step)
