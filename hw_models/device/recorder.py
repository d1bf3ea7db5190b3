"""What is kept of a run on a torch device, moved to the host node by node. This file uses torch."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spikeship.hw_models.device.populations import Kept
from spikeship.hw_models.engine.activity import Activity, Piece, piece
from spikeship.hw_models.engine.layout import per_neuron
from spikeship.hw_models.graph import FixedGraph, Neuron
from spikeship.hw_models.recording import Recording


class DeviceRecorder:
    """Keeps every node's messages, and its states where they are asked for.

    Args:
        states: whether to keep potentials and currents too.
    """

    def __init__(self, *, states: bool) -> None:
        self.states = states
        self._sent: dict[str, list[Piece]] = {}
        self._potentials: dict[str, list[Piece]] = {}
        self._currents: dict[str, list[Piece]] = {}

    def keep(self, name: str, sent: Tensor, states: Kept | None) -> None:
        """Take a node's messages and states, (steps, images, neurons)."""
        self._sent[name] = _on_the_host(sent)
        if states is not None:
            self._potentials[name] = _on_the_host(states.potentials)
            self._currents[name] = _on_the_host(states.currents)

    def recording(
        self, graph: FixedGraph, given: NDArray[Any], rails: dict[str, tuple[int, int]]
    ) -> Recording:
        """All that was kept, by name and in the graph's order."""
        images, num_steps = given.shape[:2]
        names = [node.name for node in graph.nodes]
        nodes = Activity(graph, images, num_steps, {name: self._sent[name] for name in names})
        if not self.states:
            return Recording(num_steps=num_steps, input=given, nodes=nodes, rails=rails)
        neurons = [node for node in graph.nodes if isinstance(node, Neuron)]
        start: dict[str, Any] = dict.fromkeys(names, 0)
        start |= {node.name: per_neuron(node.v0, node.shape) for node in neurons}
        potentials = {name: self._potentials[name] for name in names}
        currents = {node.name: self._currents[node.name] for node in neurons}
        return Recording(
            num_steps=num_steps,
            input=given,
            nodes=nodes,
            rails=rails,
            potentials=Activity(graph, images, num_steps, potentials, start),
            currents=Activity(graph, images, num_steps, currents, dict.fromkeys(names, 0)),
        )


def _on_the_host(values: Tensor) -> list[Piece]:
    """One piece with values (steps, images, neurons); spikes (int8) as bits."""
    narrow = values.view(torch.uint8) if values.dtype == torch.int8 else values
    moved: NDArray[Any] = narrow.transpose(0, 1).contiguous().cpu().numpy()
    return [piece(slice(0, moved.shape[0]), 0, np.asarray(moved))]
