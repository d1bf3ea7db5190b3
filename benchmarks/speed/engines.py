"""The engines that are measured beside each other, each as a call that gives seconds an image."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from peers.jelly import Jelly
from torch import Tensor, nn

from spikeship.hw_models.events.recording import Recording
from spikeship.hw_models.graph import FixedGraph
from spikeship.hw_models.lava import runner
from spikeship.hw_models.reference import interpreter as reference
from spikeship.hw_models.simulator.simulation import Simulation, merged
from spikeship.hw_models.simulator.simulator import Simulator
from spikeship.training.snn.spiking_network import SpikingNetwork

ANN_BATCHES = (16, 64, 128)
SLOW = ("lava", "reference")  # nothing of theirs warms up


class Engines:
    """One network on all of them; what the last call of each gave is kept.

    Attributes:
        lava: Lava's recording of the first image.
        expected: the reference's.
        simulation: the simulator's result for the batch.
    """

    lava: Recording
    expected: Recording
    simulation: Simulation

    def __init__(
        self,
        graph: FixedGraph,
        snn: SpikingNetwork,
        ann: nn.Module,
        messages: NDArray[Any],
        images: Tensor,
        threads: int,
    ) -> None:
        self.graph, self.messages, self.images = graph, messages, images
        # made ready once, as the others are
        self.simulator = Simulator(graph, threads=threads)
        self.jelly, self.ann = Jelly(snn).eval(), ann.eval()

    def calls(self) -> dict[str, Callable[[], float]]:
        """By name, what runs an engine once and says its seconds an image."""
        return {
            "spikeship": self._run_simulator,
            "spikingjelly": lambda: self._run_jelly(torch.float32),
            "spikingjelly_bfloat16": lambda: self._run_jelly(torch.bfloat16),
            **{f"dense{size}": lambda size=size: self._run_ann(size) for size in ANN_BATCHES},
            "reference": self._run_reference,
            "lava": self._run_lava,
        }

    def _run_simulator(self) -> float:
        began = time.perf_counter()
        self.simulation = merged(list(self.simulator.runs(self.messages)))
        return (time.perf_counter() - began) / len(self.messages)

    @torch.no_grad()
    def _run_jelly(self, dtype: torch.dtype) -> float:
        messages = torch.from_numpy(self.messages)
        began = time.perf_counter()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            self.jelly(messages)
        return (time.perf_counter() - began) / len(messages)

    @torch.no_grad()
    def _run_ann(self, size: int) -> float:
        part = self.images[torch.arange(size) % len(self.images)]
        began = time.perf_counter()
        self.ann(part)
        return (time.perf_counter() - began) / size

    def _run_reference(self) -> float:
        began = time.perf_counter()
        self.expected = reference.run(self.graph, self.messages[:1])
        return time.perf_counter() - began

    def _run_lava(self) -> float:
        run = runner.run(self.graph, self.messages[:1])
        self.lava = run.recording
        return run.seconds


def timed(
    calls: dict[str, Callable[[], float]], rounds: int, say: Callable[[str], None]
) -> dict[str, list[float]]:
    """Seconds an image of every engine in every turn, in turn, after one that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 1):
        for name, call in calls.items():
            if turn == 0 and name in SLOW:
                continue
            spent = call()
            say(f"{f'turn {turn}' if turn else 'warm-up'}  {name:22} {spent:.6f} s/image")
            if turn:
                seconds[name].append(spent)
    return seconds


def medians(seconds: dict[str, list[float]]) -> dict[str, float]:
    """The middle turn of every engine, of the dense forwards the fastest batch's as ``dense``."""
    middle = {name: statistics.median(spent) for name, spent in seconds.items()}
    dense = [middle.pop(f"dense{size}") for size in ANN_BATCHES]
    return middle | {"dense": min(dense)}
