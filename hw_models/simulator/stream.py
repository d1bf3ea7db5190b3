"""Streaming: messages come a few steps at a time, and the network goes on where it stopped."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.errors import InputError
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.reference.interpreter import check_messages
from spikeship.hw_models.simulator.cpu.block import Buffers, advance
from spikeship.hw_models.simulator.cpu.network import CpuNetwork, NetworkState


class Stream:
    """A network that keeps its state between calls, over a fixed number of images side by side.

    Steps are the nodes' own: in a gated graph local ones, in which every layer answers at once; in
    an ungated graph chip steps, in which messages arrive after their delays. Feeding T steps in
    any pieces gives what one call with all of them gives.

    Args:
        graph: any network.
        images: how many sequences run side by side.

    Raises:
        ValueError: no sequence, or a staged graph.
    """

    def __init__(self, graph: FixedGraph, images: int = 1) -> None:
        if images < 1:
            raise InputError(f"stream: {images} sequences; give at least 1")
        if graph.timing == "staged":
            raise InputError(
                "stream: a staged network takes whole samples of T steps, not a stream; quantize "
                "it pipelined"
            )
        self.graph = graph
        self.images = images
        self._engine = CpuNetwork(graph)
        self._buffers = Buffers()
        self._state: NetworkState = self._engine.start(images)

    @property
    def step(self) -> int:
        """Steps run since the start or the last reset."""
        return self._state.step

    def feed(self, messages: NDArray[Any]) -> NDArray[np.int64]:
        """Run on.

        Args:
            messages: integers (images, steps, *input shape), as many steps as there are.

        Returns:
            The scores after each of these steps, (images, steps, classes): the readout's
            potential, or, without a readout, the spikes since the start.

        Raises:
            ValueError: messages that do not fit.
            StateOverflowError: a sum or a state left its width; reset before going on.
        """
        checked = check_messages(self.graph, messages)
        if len(checked) != self.images:
            raise InputError(
                f"stream: messages of {len(checked)} sequences, it was made for {self.images}; "
                "make one for as many"
            )
        block = advance(
            self._engine,
            self._state,
            self._engine.messages(checked),
            checked.shape[1],
            buffers=self._buffers,
        )
        return block.scores_by_step.astype(np.int64)

    def reset(self) -> None:
        """Start a new sample."""
        self._state = self._engine.start(self.images)
