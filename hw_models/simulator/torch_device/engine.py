"""The simulator on a torch device such as CUDA: the reference's spikes, from tensors alone.

This file uses torch. Every operation is exact by construction: integers, or floating point within
bounds that the weights prove (``products.py``). Until the end of a chunk of images, nothing
is read back but the range of each layer's sums.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spikeship.hw_models.errors import InputError
from spikeship.hw_models.events.counts import on_the_chip
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.reference.interpreter import check_messages
from spikeship.hw_models.simulator.engine import RunOptions
from spikeship.hw_models.simulator.simulation import MEMORY_BUDGET, Simulation, merged
from spikeship.hw_models.simulator.torch_device.chunk import Chunk, DeviceRecorder
from spikeship.hw_models.simulator.torch_device.network import DeviceNetwork

WORKSPACE_SHARE = 4  # of the budget, this part is for intermediate results of the sums


def run(
    graph: FixedGraph,
    messages: NDArray[Any],
    device: str,
    *,
    record: bool = False,
    potentials: bool = False,
    memory_budget: int = MEMORY_BUDGET,
) -> Simulation:
    """Run images through a graph on a device.

    Args:
        graph: any network.
        messages: integers (images, T, *input shape).
        device: one of torch's: ``cpu``, ``cuda``, ``cuda:1``.
        record: keep every node's activity.
        potentials: keep potentials and currents as well.
        memory_budget: bytes of the device that a chunk of images may take, beside the weights.

    Raises:
        ValueError: messages that do not fit, or a device that is not there.
        StateOverflowError: a sum or a state left its width.
    """
    return DeviceEngine(graph, device).run(
        messages, record=record, potentials=potentials, memory_budget=memory_budget
    )


def find_device(name: str) -> torch.device:
    """Return the device of this name.

    Raises:
        ValueError: torch has no such device here, or it lacks the 64-bit numbers needed.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(
            f"device {name!r}: torch knows no such device; use 'cpu', 'cuda' or 'cuda:1'"
        ) from None
    if device.type not in ("cpu", "cuda"):
        raise InputError(
            f"device {name!r}: the simulator runs on 'cpu' and 'cuda'; use one of them"
        )
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count == 0:
            raise InputError(
                f"device {name!r}: torch {torch.__version__} finds no CUDA device on this machine; "
                "use 'cpu', or install a CUDA build of torch and its driver"
            )
        if (device.index or 0) >= count:
            known = ["'cuda:0'", f"'cuda:{count - 1}'"][:count]
            raise InputError(
                f"device {name!r}: this machine has {count} CUDA device{'s' * (count > 1)}; "
                f"use {' to '.join(known)}"
            )
    return device


class DeviceEngine:
    """A graph made ready on a device, for many calls.

    Args:
        graph: any graph.
        device: one of torch's, by name.

    Raises:
        ValueError: there is no such device.
    """

    def __init__(self, graph: FixedGraph, device: str) -> None:
        self.network = DeviceNetwork(graph, find_device(device))

    def run(
        self,
        messages: NDArray[Any],
        *,
        record: bool = False,
        potentials: bool = False,
        memory_budget: int = MEMORY_BUDGET,
    ) -> Simulation:
        """Run images; see run."""
        options = RunOptions(record, potentials, memory_budget)
        parts = list(self.runs([messages], options))
        if not parts:
            raise InputError("simulate: no images to run; give at least one")
        return merged(parts)

    def check(self, options: RunOptions) -> None:
        """Refuse early exit; see ``engine.Engine.check``."""
        if options.early_exit is not None:
            device = str(self.network.device)
            raise InputError(f"simulate: early exit runs on the cpu, not on {device!r}")

    def runs(self, batches: Iterable[NDArray[Any]], options: RunOptions) -> Iterator[Simulation]:
        """Run batches of images chunk by chunk; see ``engine.Engine.runs``."""
        for messages in batches:
            yield from self._batch(np.asarray(messages), options)

    def _batch(self, given: NDArray[Any], options: RunOptions) -> Iterator[Simulation]:
        record, potentials = options.record, options.potentials
        memory_budget = options.memory_budget
        check_messages(self.network.graph, given[:0] if given.ndim else given)
        workspace = memory_budget // WORKSPACE_SHARE
        num_steps = self.network.graph.steps_of(given.shape[1])
        per_image = self.network.image_bytes(num_steps, potentials=potentials)
        size = max(1, (memory_budget - workspace) // per_image)
        for begin in range(0, len(given), size):
            try:
                yield self._chunk(given[begin : begin + size], workspace, record, potentials)
            except torch.OutOfMemoryError:
                raise InputError(
                    f"device {str(self.network.device)!r}: its memory does not hold {size} images "
                    f"at once; give a memory_budget below {memory_budget} bytes"
                ) from None

    @torch.inference_mode()
    def _chunk(
        self, given: NDArray[Any], workspace: int, record: bool, potentials: bool
    ) -> Simulation:
        graph = self.network.graph
        recorder = DeviceRecorder(states=potentials) if record or potentials else None
        chunk = Chunk(self.network, check_messages(graph, given), workspace, recorder)
        for place, group in enumerate(self.network.groups):
            chunk.advance(group)
            chunk.forget(place)
        chunk.watch.raise_first()
        images, num_steps = len(given), graph.steps_of(given.shape[1])
        by_step, rails = chunk.scores(), chunk.rails()
        return Simulation(
            scores=by_step[:, -1].astype(np.int64),
            scores_by_step=by_step if graph.timing == "pipelined" else by_step[:, -1:],
            counts=on_the_chip(graph, num_steps, images, chunk.counts()),
            rails=rails,
            recording=recorder.recording(graph, given, rails) if recorder else None,
            steps=np.full(images, by_step.shape[1], np.int64),
        )
