"""What a benchmark says of a network's spikes: whether all engines agree, and how many."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peers.jelly_integers import JellyIntegers

from spikeship.hw_models.events.counts import EventCounts
from spikeship.hw_models.events.recording import Recording, first_difference
from spikeship.hw_models.graph import FixedGraph, Readout
from spikeship.hw_models.simulator.simulation import Simulation
from spikeship.hw_models.simulator.simulator import simulate


def agreement(
    graph: FixedGraph,
    messages: NDArray[Any],
    expected: Recording,
    lava: Recording,
    timed: Simulation,
    *,
    at_once: int,
) -> dict[str, bool]:
    """Compare every engine's integers with the reference's.

    Args:
        graph: the network.
        messages: of the batch that was timed, (images, T, *input shape).
        expected: the reference's recording of the first image.
        lava: Lava's.
        timed: what the simulator gave for the batch.
        at_once: images that SpikingJelly runs at once.

    Returns:
        By engine, whether all it can show is equal. Lava, SpikingJelly and the simulator when it
        records: every node of the first image. The simulator as it was timed (it kept no spikes):
        against SpikingJelly, the spikes of each node in each step over the whole batch, and all
        readouts after every step.
    """
    recorded = simulate(graph, messages[:1], record=True).recording
    assert recorded is not None  # it was asked for
    jelly = _Peer(graph, messages, at_once)
    return {
        "lava": first_difference(graph, expected, lava) is None,
        "spikeship": first_difference(graph, expected, recorded) is None,
        "spikingjelly": jelly.equals(expected),
        "timed_batch": jelly.counts(timed.counts) and jelly.readouts(timed.scores_by_step),
    }


class _Peer:
    """What SpikingJelly's integers give for a batch: one image in full, of the others sums."""

    def __init__(self, graph: FixedGraph, messages: NDArray[Any], at_once: int) -> None:
        self.graph, self.steps = graph, messages.shape[1]
        self.first: dict[str, NDArray[Any]] = {}
        self.fired: dict[str, Any] = {}
        readouts = []
        model = JellyIntegers(graph)
        for begin in range(0, len(messages), at_once):
            for name, values in model.walk(messages[begin : begin + at_once]):
                if begin == 0:
                    self.first[name] = values[:, 0].numpy().copy()
                if isinstance(graph.node(name), Readout):
                    readouts.append(values.transpose(0, 1).numpy())
                else:
                    fired = values.sum(tuple(range(1, values.ndim)), dtype=torch.float64)
                    self.fired[name] = self.fired.get(name, 0) + fired.numpy()
        self.readout = np.concatenate(readouts)

    def equals(self, expected: Recording) -> bool:
        """Whether the first image's spikes and readout are a recording's, node by node."""
        same = []
        for node in self.graph.nodes:
            depth = self.graph.depths[node.name]
            recorded = expected.nodes[node.name][0]
            same.append(np.array_equal(recorded[depth : depth + self.steps], self.first[node.name]))
        return all(same)

    def counts(self, counts: EventCounts) -> bool:
        """Whether every neuron layer sent as many spikes in every step."""
        same = []
        for layer in counts.layers:
            depth = self.graph.depths[layer.name]
            own = layer.spikes[depth : depth + self.steps]
            same.append(np.array_equal(own, self.fired.get(layer.name, np.zeros(self.steps))))
        return all(same)

    def readouts(self, scores_by_step: NDArray[Any]) -> bool:
        """Whether every readout is the same after every step."""
        return np.array_equal(scores_by_step, self.readout.reshape(scores_by_step.shape))


def activity(graph: FixedGraph, counts: EventCounts) -> dict[str, Any]:
    """Spikes per neuron and step: of the input, of every layer, and of all neurons together."""
    steps, images = counts.num_steps, counts.images
    sizes = {node.name: int(np.prod(node.shape)) for node in graph.nodes}
    fired = {
        layer.name: int(layer.spikes.sum())
        for layer in counts.layers
        if not isinstance(graph.node(layer.name), Readout)
    }
    neurons = sum(sizes[name] for name in fired)
    pixels = int(np.prod(graph.input.shape))
    rates = counts.per_inference()
    return {
        "input": int(counts.input_spikes.sum()) / (images * steps * pixels),
        "layers": {name: spikes / (images * steps * sizes[name]) for name, spikes in fired.items()},
        "total": sum(fired.values()) / (images * steps * neurons),
        "spikes_per_image": rates["spikes"],
        "synops_per_image": rates["synops"]["effective"],
    }
