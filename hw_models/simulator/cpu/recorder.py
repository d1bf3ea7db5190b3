"""The recorder: keeps what a run's nodes did, block after block."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.events.activity import Activity, Piece, piece
from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import FixedGraph, Neuron
from spikeship.hw_models.graph.layout import per_neuron
from spikeship.hw_models.simulator.cpu.block import Keeper


class Recorder(Keeper):
    """Keeps every node's messages, and its states where they are asked for."""

    def __init__(self, *, states: bool) -> None:
        self.states = states
        self.begin = 0
        self.sent: dict[str, list[Piece]] = {}
        self.potentials: dict[str, list[Piece]] = {}
        self.currents: dict[str, list[Piece]] = {}

    def keep(self, name: str, sent: NDArray[Any]) -> None:
        """Take a node's messages."""
        self._add(self.sent, name, sent)

    def keep_states(
        self, name: str, potentials: NDArray[np.int32], currents: NDArray[np.int32]
    ) -> None:
        """Take a node's potentials and currents."""
        self._add(self.potentials, name, potentials)
        self._add(self.currents, name, currents)

    def _add(self, to: dict[str, list[Piece]], name: str, values: NDArray[Any]) -> None:
        to.setdefault(name, []).append(piece(slice(0, len(values)), self.begin, values))

    def recording(
        self, graph: FixedGraph, given: NDArray[Any], rails: dict[str, tuple[int, int]]
    ) -> Recording:
        """All that was kept, by name and in the graph's order."""
        images, num_steps = len(given), graph.steps_of(given.shape[1])
        names = [node.name for node in graph.nodes]
        nodes = Activity(graph, images, num_steps, {name: self.sent[name] for name in names})
        if not self.states:
            return Recording(num_steps=num_steps, input=given, nodes=nodes, rails=rails)
        neurons = [node for node in graph.nodes if isinstance(node, Neuron)]
        start: dict[str, Any] = dict.fromkeys(names, 0)
        start |= {node.name: per_neuron(node.v0, node.shape) for node in neurons}
        return Recording(
            num_steps=num_steps,
            input=given,
            nodes=nodes,
            rails=rails,
            potentials=Activity(
                graph,
                images,
                num_steps,
                {name: self.potentials[name] for name in names},
                start,
            ),
            currents=Activity(
                graph,
                images,
                num_steps,
                {node.name: self.currents[node.name] for node in neurons},
                dict.fromkeys(names, 0),
            ),
        )
