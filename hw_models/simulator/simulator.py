"""The fast simulator: the reference's spikes, for many images, on all cores or another device.

The engine of the device cuts images into chunks that fit the memory budget: ``cpu/`` or
``torch_device/``.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spikeship.hw_models.errors import InputError
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.simulator.cpu.engine import CpuEngine
from spikeship.hw_models.simulator.early_exit import EarlyExit
from spikeship.hw_models.simulator.engine import Engine, RunOptions
from spikeship.hw_models.simulator.simulation import MEMORY_BUDGET, Simulation, merged
from spikeship.hw_models.simulator.torch_device.engine import DeviceEngine

Inputs = NDArray[Any] | Iterable[NDArray[Any]]


def simulate(
    graph: FixedGraph,
    inputs: Inputs,
    *,
    record: bool = False,
    potentials: bool = False,
    memory_budget: int = MEMORY_BUDGET,
    threads: int | None = None,
    device: str = "cpu",
    strict: bool = True,
    early_exit: EarlyExit | None = None,
    progress: Callable[[int], None] | None = None,
) -> Simulation:
    """Run images through a graph.

    Args:
        graph: any network.
        inputs: integers (images, T, *input shape), or several such batches of one T.
        record: keep every node's activity (spikes as bits).
        potentials: keep potentials and currents as well, 4 bytes each a neuron and step.
        memory_budget: bytes that the layers in work may take. What is kept comes on top.
        threads: how many; all cores by default.
        device: ``cpu``, or one of torch's, such as ``cuda``.
        strict: whether a sum or a current beyond 24 bits is an error; else it wraps as it does on
            Lava, and is counted in the result's ``wraps``.
        early_exit: let images stop when they are decided.
        progress: called with the number of images done since the last call.

    Raises:
        ValueError: messages that do not fit, or options that do not go together.
        StateOverflowError: a sum or a state left its width.
    """
    simulator = Simulator(
        graph, memory_budget=memory_budget, threads=threads, device=device, strict=strict
    )
    runs = simulator.runs(inputs, record=record, potentials=potentials, early_exit=early_exit)
    parts = []
    for part in runs:
        parts.append(part)
        if progress is not None:
            progress(len(part.scores))
    if not parts:
        raise InputError("simulate: no images to run; give at least one")
    return merged(parts)


class Simulator:
    """A graph made ready once, for many calls; see simulate for the options."""

    def __init__(
        self,
        graph: FixedGraph,
        *,
        memory_budget: int = MEMORY_BUDGET,
        threads: int | None = None,
        device: str = "cpu",
        strict: bool = True,
    ) -> None:
        if device != "cpu" and not strict:
            raise InputError(f"simulate: currents wrap on the cpu only, not on {device!r}")
        self.memory_budget = memory_budget
        self._engine: Engine = (
            CpuEngine(graph, strict=strict, threads=threads)
            if device == "cpu"
            else DeviceEngine(graph, device)
        )

    def runs(
        self,
        inputs: Inputs,
        *,
        record: bool = False,
        potentials: bool = False,
        early_exit: EarlyExit | None = None,
    ) -> Iterator[Simulation]:
        """Run images and give the results part by part, in order."""
        record = record or potentials
        if early_exit is not None and record:
            raise InputError(
                "simulate: early exit stops images at different steps, which a recording cannot "
                "show; do one or the other"
            )
        options = RunOptions(record, potentials, self.memory_budget, early_exit)
        self._engine.check(options)
        batches = [inputs] if isinstance(inputs, np.ndarray) else inputs
        yield from self._engine.runs(batches, options)
